"""Whatever happens to calls, nodes and Redis: once all have settled, the charged tokens are
exact."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from crdtbucket._core import Decision
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.script import Arguments, Column, ScriptAnswer, ScriptCall, ScriptStatus
from crdtbucket.strong.redis.topology import slot
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_request import StoreRequest
from crdtbucket.strong.store_rules import RuleBook, Rules
from tests.strong import backends, books, golden
from tests.strong.backends import Backend, TimedModel
from tests.strong.books import KEY, Books, Node
from tests.strong.golden import A, B
from tests.strong.redis_server import PROGRAMS

MS = 1_000_000
LARGE = BucketSpec("b", 1_000_000, 100)
SMALL = BucketSpec("b", 20, 10)
EDGE = BucketSpec("b", 100, 100)


@pytest.fixture(params=[*PROGRAMS, "model"])
def store(request: pytest.FixtureRequest) -> Iterator[Backend]:
    if request.param == "model":
        yield TimedModel()
        return
    with backends.timed(request.param) as redis:
        yield redis


@given(st.lists(books.faults, min_size=6, max_size=40))
def test_settle_exact(ops: list[Any]) -> None:
    """Time stands still and nothing is forgiven, so the level is exact at each step as well."""

    def level_is_what_is_charged() -> None:
        stored = one.store.stored(one.key())
        debt = stored.debt if stored else 0
        assert debt == 10 * MS * sum(one.charged().values())

    one = Books(TimedModel(), LARGE, after_run=level_is_what_is_charged)
    one.run(ops)
    one.settle_all()
    one.check()
    for node in one.nodes:
        assert node.ledger.unsettled.pending == {}
        event(
            "unclaimed_charges"
            if node.ledger.counters["unclaimed_charges"]
            else "no unclaimed charges"
        )


@pytest.mark.parametrize("spec", [SMALL, LARGE], ids=["small", "large"])
@given(ops=st.lists(books.times, min_size=6, max_size=40))
def test_settle_exact_while_time_passes(spec: BucketSpec, ops: list[Any]) -> None:
    one = Books(TimedModel(), spec)
    one.run(ops)
    one.settle_all()
    one.check()


@given(st.lists(books.times, min_size=6, max_size=30))
def test_settle_changes_nothing_twice(ops: list[Any]) -> None:
    one = Books(TimedModel(), SMALL)
    one.run(ops)
    for _ in range(2):
        one.settle_all()
    before = one.store.snapshot(), one.charged()
    for _ in range(3):
        one.settle_all()
    assert (one.store.snapshot(), one.charged()) == before


def debt(store: Backend, key: bytes) -> Fraction:
    stored = store.stored(key)
    if stored is None:
        return Fraction(0)
    passed = max(0, store.now_us - stored.at_us) * 1000
    return max(Fraction(0), stored.debt - passed)


class Watched(TimedModel):
    """A model that checks what a call whose record is missing may charge."""

    def run(self, arguments: Arguments, call: ScriptCall) -> Any:
        held = self.held(call.key)
        known = held.records if held else {}
        missing = call.owner not in known
        strangers = all(one.owner in known for one in call.others or ())
        before, records = debt(self, call.key), dict(known)
        answer = super().run(arguments, call)
        if missing and strangers:
            cost = call.cost if answer.status is ScriptStatus.ALLOWED else 0
            others = sum(max(0, one.taken - records[one.owner].taken) for one in call.others or ())
            token = Fraction(arguments.q, arguments.p)
            most = before + call.debt_ns + token * (cost + others)
            assert debt(self, call.key) <= most
            event("a record was missing" if call.taken else "a new owner")
        return answer


@given(
    st.lists(books.times, min_size=10, max_size=40),
    st.integers(0, 10**7),
    st.sampled_from(["flush", "forget"]),
)
def test_missing_record_charges_at_most_stated_debt(ops: list[Any], us: int, how: str) -> None:
    store = Watched()
    one = Books(store, SMALL)
    one.run(ops)
    one.tick(us)
    if how == "flush":
        one.flush()
    else:
        for node in one.nodes:
            if store.held(one.key()) is not None:
                store.forget(one.key(), node.owner)
    for node in one.nodes:
        one.take(node, 1)
    one.settle_all()
    one.check()


@pytest.mark.parametrize("prefix", [b"", b"crdtbucket:", b"team/1:"])
@pytest.mark.parametrize("name", ["api", "a:b", "größe", "a}b"])
def test_a_key_has_the_prefix_and_one_tag(prefix: bytes, name: str) -> None:
    spec = BucketSpec(name, 10, 1)
    node = books.Node("n", 1, spec, 0)
    rules = {
        node.bucket: Rules(
            Arguments(spec, 10), "deny", Quota(node.quotas, spec, Fraction(1, 2), fleet=False)
        )
    }
    ledger = Ledger(
        node.table, StoreNames(node.table, Roster(node.table, "n"), "n", prefix), RuleBook(rules)
    )
    place = (0x1234, 2**64 - 1)
    key = ledger.names.key(node.bucket, place)
    assert key == prefix + b"{%b:ffffffffffffffff0000000000001234}" % name.encode()
    tag = key[key.index(b"{") + 1 : key.index(b"}", key.index(b"{"))]
    assert tag
    assert slot(key) == slot(tag)


def test_a_caller_with_a_lower_ceiling_forgives_nothing(store: Backend) -> None:
    """Such as a node with a smaller capacity, while the nodes get a new configuration one after
    another. It changes the level when it sends what it has taken."""
    large, small = (Arguments(BucketSpec("b", n, 10), n) for n in (1_000, 10))
    key = golden.KEY
    assert store.run(large, ScriptCall(key, 1_000, A, 1, 1, 0, 0, 0)).status is ScriptStatus.ALLOWED
    for taken in range(1, 4):
        told = store.run(small, ScriptCall(key, 0, B, 1, 1, taken, 0, 100 * MS * taken, ()))
        assert told.status is ScriptStatus.ALLOWED
        assert debt(store, key) == 1_000 * 100 * MS
    assert store.run(large, ScriptCall(key, 1, A, 1, 1, 1_000, 0, 0)).status is ScriptStatus.DENIED


def test_a_lower_rate_holds_from_the_first_call_on_though_that_is_denied(store: Backend) -> None:
    """Else a debt goes on to fall at the rate before, until it is small enough for a call to
    pass."""
    fast, slow = Arguments(BucketSpec("b", 400, 100), 0), Arguments(BucketSpec("b", 40, 10), 360)
    key = golden.KEY
    assert store.run(fast, ScriptCall(key, 400, A, 1, 1, 0, 0, 0)).status is ScriptStatus.ALLOWED
    denied = store.run(slow, ScriptCall(key, 1, A, 1, 1, 400, 0, 0))
    assert denied.status is ScriptStatus.DENIED
    assert debt(store, key) == denied.debt_ns
    assert 0 <= denied.debt_ns - 400 * 100 * MS <= 1  # rescaled in doubles


# ---- edge traces ----


def test_q_a_time_out_that_ran_and_was_denied(store: Backend) -> None:
    one = Books(store, EDGE)
    first, second, third = one.nodes
    one.take(first, 30)
    one.lose(first, 20, "ran", wanted=False)
    assert one.charged() == {first.owner: 50}
    one.settle(first)
    assert one.charged() == {first.owner: 30}
    assert debt(store, one.key()) == 300 * MS
    before = store.stored(one.key())
    # a reconciliation writes all columns back, merged, and nothing is behind any more
    own = Column(first.owner, 1, 50, 20)
    for owner in (second.owner, third.owner):
        call = ScriptCall(one.key(), 0, owner, 1, 1, 0, 0, 300 * MS, (own,))
        answer = store.run(Arguments(EDGE, EDGE.max_debt), call)
        assert answer == ScriptAnswer(ScriptStatus.ALLOWED, 300 * MS, 0, 0, (own,))
    assert store.stored(one.key()) == before
    one.check()


def flushed_between(one: Books, *nodes: Node) -> None:
    """They have begun to settle when Redis is flushed, and go on after it."""
    asks = [node.ledger.settle(node.bucket, node.place, node.fence) for node in nodes]
    one.flush()
    for node, ask in zip(nodes, asks, strict=True):
        one.ask(node, ask)


def test_r_a_flush_then_two_settles_at_once(store: Backend) -> None:
    one = Books(store, EDGE)
    first, second, _ = one.nodes
    one.take(first, 30)
    one.take(second, 25)
    flushed_between(one, first, second)
    assert debt(store, one.key()) == 550 * MS
    one.settle_all()
    assert debt(store, one.key()) == 550 * MS
    one.check()


def test_r_a_flush_after_days_charges_the_debt(store: Backend) -> None:
    one = Books(store, EDGE)
    first, second, _ = one.nodes
    for _ in range(40):
        one.away(first, 100)
        one.away(second, 100)
        one.tick(2_000_000)
    one.settle_all()
    one.away(first, 3)
    one.away(second, 4)
    flushed_between(one, first, second)
    assert debt(store, one.key()) == 70 * MS
    one.check()


def test_s_a_failover_that_loses_a_second_with_30_calls_in_flight(store: Backend) -> None:
    one = Books(store, LARGE)
    for node in one.nodes:
        one.take(node, 7)
    one.snapshot()
    one.tick(1_000_000)
    for node in one.nodes:
        for cost in range(1, 6):
            one.take(node, cost)
    in_flight = [(node, one.open(node, cost)) for cost in range(1, 11) for node in one.nodes]
    assert len(in_flight) == 30
    for _, ask in in_flight[:15]:
        assert ask is not None
        store.run(ask.rules.arguments, ask.call)
    one.fail_over(0)
    for number, (node, ask) in enumerate(in_flight):
        assert ask is not None
        node.got(node.ledger.give_up(ask, Mode.FALLBACK, wanted=number % 2 == 0))
    for node in one.nodes:
        node.fence += 1
    one.settle_all()
    one.check()
    total = sum(one.charged().values())
    assert total == 3 * (7 + 15) + sum(ask.cost for _, ask in in_flight[::2])
    assert debt(store, one.key()) == (total - 21) * 10 * MS  # those of the first second are back


def test_w_a_settle_of_2_to_the_62_saturates(store: Backend) -> None:
    one = Books(store, EDGE)
    node, other, _ = one.nodes
    one.take(other, 50)
    charged = node.bucket.settle(KEY, 2**62)
    assert charged == 200
    node.consumed += charged
    one.settle(node)
    one.settle(node)
    assert debt(store, one.key()) == 2_000 * MS
    one.check()
    # and the largest column that can be said, of an owner who states the most
    call = ScriptCall(one.key(), 0, A, 1, 1, 2**53 - 1, 0, 2**62, ())
    assert store.run(Arguments(EDGE, 100), call).debt_ns == 2_000 * MS
    one.tick(1_010_000)
    assert (
        store.run(Arguments(EDGE, 100), ScriptCall(one.key(), 1, B, 1, 1, 0, 0, 0)).debt_ns
        == 1000 * MS
    )


def test_a_long_outage_is_compared_not_charged(store: Backend) -> None:
    """Ten minutes at the full rate without Redis: a call that comes before the settle sends what is
    owed, not what was taken."""
    one = Books(store, EDGE)
    node = one.nodes[0]
    one.take(node, 50)
    for _ in range(600):
        one.away(node, 100)
        one.tick(1_000_000)
    decision = one.take(node, 40)
    assert decision is not None
    assert decision.allowed
    assert debt(store, one.key()) == 400 * MS
    one.check()


def test_a_level_that_a_plain_call_raised_is_lowered_for_good(store: Backend) -> None:
    """Another's settle knows as much and owes less: what it says holds after it as well."""
    one = Books(store, EDGE)
    arguments = Arguments(EDGE, EDGE.max_debt)
    key = one.key()
    store.run(arguments, ScriptCall(key, 90, A, 1, 1, 0, 0, 0))
    whole = ScriptCall(key, 0, B, 1, 1, 0, 0, 100 * MS, (Column(A, 1, 90, 0),))
    assert store.run(arguments, whole).debt_ns == 100 * MS
    assert store.run(arguments, ScriptCall(key, 5, A, 1, 1, 90, 0, 0)).debt_ns == 150 * MS


SPEC = BucketSpec("b", 10, 1, "1s")


def test_a_denial_waits_for_what_is_held_back_for_silent_regions() -> None:
    node = Books(TimedModel(), SPEC).nodes[0]
    waits = []
    for hold_ns in (0, 3_000_000_000):
        asked = node.ledger.open(node.bucket, KEY, 1, node.fence)
        assert isinstance(asked, StoreRequest)
        full = SPEC.capacity * SPEC.interval_ns // SPEC.refill_rate
        answer = ScriptAnswer(ScriptStatus.DENIED, full, 0, 0, (), hold_ns)
        decision = node.ledger.book(asked, answer, node.fence)
        assert isinstance(decision, Decision)
        assert not decision.allowed
        assert decision.remaining == 0
        waits.append(decision.retry_after)
    assert waits[1] == pytest.approx(waits[0] + 3.0)
