"""A shadow: a bucket that decides and counts as any other, but admits what it denies."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.errors import CostExceedsCapacity, InvalidCost
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.script import Arguments, ScriptAnswer, ScriptStatus
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_request import StoreRequest
from crdtbucket.strong.store_rules import RuleBook, Rules
from tests.naive_limits import NaiveLimit
from tests.strong.backends import TimedModel
from tests.virtual_loop import VirtualTime

KEY = "a"
SPEC = BucketSpec("s", capacity=10, refill_rate=1, shadow=True)


@pytest.fixture
def bucket(time: VirtualTime) -> Bucket:
    return Bucket(time.table, SPEC)


COSTS = st.integers(1, 10)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["take", "burst", "many", "peek", "refund", "reserve"]), COSTS),
    st.tuples(st.sampled_from(["settle", "pass"]), st.integers(1, 25)),
)


@given(st.lists(STEPS, max_size=30))
def test_it_holds_the_level_of_the_limit_and_denies_nobody(steps: list[tuple[str, int]]) -> None:
    time = VirtualTime()
    bucket, model = Bucket(time.table, SPEC), NaiveLimit(10)
    admitted = shadowed = 0
    for what, n in steps:
        passes = model.wait(KEY, n) == 0
        if what == "pass":
            time.advance(n)
            model.pass_time(n)
        elif what == "settle":
            bucket.settle(KEY, n)
            model.settle(KEY, n)
        elif what == "burst":
            assert bucket.take_burst(KEY, 2, n) == 2
            taken = [model.take(KEY, n), model.take(KEY, n)]
            admitted, shadowed = admitted + sum(taken), shadowed + 2 - sum(taken)
        elif what == "many":
            answers = bucket.take_many([KEY], n)
            assert (list(answers.allowed), list(answers.retry_after)) == ([1], [0])
            model.take(KEY, n)
            admitted, shadowed = admitted + passes, shadowed + (not passes)
        elif what == "reserve":
            with bucket.reserve(KEY, n) as reservation:
                reservation.commit(n + 1)
            if passes:
                model.settle(KEY, n + 1)
            admitted, shadowed = admitted + passes, shadowed + (not passes)
        else:
            decision = bucket.peek(KEY, n) if what == "peek" else bucket.take(KEY, n)
            assert decision.allowed
            assert decision.shadowed is not passes
            assert decision.retry_after == 0
            if what != "peek":
                model.take(KEY, n)
                admitted, shadowed = admitted + passes, shadowed + (not passes)
            if what == "refund":
                assert bucket.refund(decision) == (n if passes else 0)
                assert bucket.refund(decision) == 0
                model.settle(KEY, -n if passes else 0)
        assert bucket.peek(KEY).remaining == max(0, model.left(KEY))
    counters = bucket.counters()
    assert (counters["allowed"], counters["shadowed"]) == (admitted, shadowed)
    assert counters["denied"] == 0


def test_a_shadowed_decision_says_so(bucket: Bucket) -> None:
    first, second = bucket.take(KEY, 8), bucket.take(KEY, 8)
    assert (first.allowed, first.shadowed) == (True, False)
    assert (second.allowed, second.shadowed, second.remaining) == (True, True, 2)
    assert "shadowed=True" in repr(second)
    assert "shadowed" not in repr(first)
    assert second


def test_it_took_nothing_so_nothing_comes_back(bucket: Bucket) -> None:
    bucket.take(KEY, 8)
    shadowed = bucket.take(KEY, 8)
    with pytest.raises(InvalidCost):
        bucket.refund(shadowed, 9)
    assert bucket.refund(shadowed, 3) == 0
    with pytest.raises(InvalidCost):
        bucket.refund(shadowed, 6)
    assert bucket.refund(shadowed) == 0
    assert bucket.peek(KEY).remaining == 2


def test_what_could_never_pass_is_still_an_error(bucket: Bucket) -> None:
    with pytest.raises(CostExceedsCapacity):
        bucket.take(KEY, 11)


def test_a_call_of_a_shadow_never_waits(time: VirtualTime, bucket: Bucket) -> None:
    bucket.take(KEY, 10)
    assert time.run(bucket.wait(KEY, 5, timeout=60)).shadowed
    assert time.elapsed == 0


def test_a_key_without_room_is_admitted() -> None:
    time = VirtualTime()
    bucket = Bucket(time.table, replace(SPEC, max_keys=1))
    bucket.take("a", 10)
    assert bucket.take("b").shadowed
    assert bucket.counters()["shadowed"] == 1


def test_a_definition_may_become_a_shadow_and_back(bucket: Bucket) -> None:
    bucket.take(KEY, 10)
    bucket.define(replace(SPEC, shadow=False))
    assert not bucket.take(KEY)
    bucket.define(SPEC)
    assert bucket.take(KEY).shadowed


# ---- before a common store ----


class Strong:
    """The ledger of one node, and the store itself."""

    def __init__(self) -> None:
        self.table = Table(virtual=True)
        self.quotas = Table(virtual=True)
        self.bucket = BucketCore(self.table, SPEC)
        quota = Quota(self.quotas, SPEC, Fraction(1, 2), fleet=False)
        self.arguments = Arguments(SPEC, 10, 3_600_000)
        rules = Rules(self.arguments, "quota", quota)
        self.ledger = Ledger(
            self.table,
            StoreNames(self.table, Roster(self.table, "n"), "n"),
            RuleBook({self.bucket: rules}),
        )
        self.redis = TimedModel()

    def acquire(self, cost: int) -> Decision:
        ask = self.ledger.open(self.bucket, KEY, cost, 1)
        while isinstance(ask, StoreRequest):
            answer: ScriptAnswer = self.redis.run(self.arguments, ask.call)
            self.status = answer.status
            result = self.ledger.book(ask, answer, 1)
            assert result is not None
            ask = result
        return ask

    @property
    def taken(self) -> tuple[int, int]:
        ((taken, refunded),) = {counts[1:] for counts in self.bucket.columns(KEY).values()}
        return taken, refunded


def test_what_the_store_denies_is_admitted_and_charged_nowhere() -> None:
    strong = Strong()
    assert not strong.acquire(8).shadowed
    decision = strong.acquire(5)
    assert decision.shadowed
    assert decision.mode is Mode.STRONG
    assert strong.status is not ScriptStatus.ALLOWED
    assert strong.taken == (8, 0)
    assert strong.bucket.counters()["shadowed"] == 1
    assert strong.table.open_tokens == 0


@pytest.mark.parametrize("mode", [Mode.EVENTUAL, Mode.FALLBACK])
def test_a_decision_without_the_store_takes_nothing_and_leaves_no_debt(mode: Mode) -> None:
    strong = Strong()
    first = strong.ledger.decide_here(strong.bucket, KEY, 5, mode)
    assert not first.shadowed
    unsettled = dict(strong.ledger.unsettled.pending)
    second = strong.ledger.decide_here(strong.bucket, KEY, 6, mode)
    assert second.shadowed
    assert strong.ledger.unsettled.pending == unsettled
    assert strong.taken == (5, 0)


def test_an_answer_that_never_came_is_void_when_the_decision_is_a_shadow() -> None:
    strong = Strong()
    strong.acquire(8)
    ask = strong.ledger.open(strong.bucket, KEY, 2, 1)
    assert isinstance(ask, StoreRequest)
    strong.bucket.settle(KEY, 2)
    decision = strong.ledger.give_up(ask, Mode.EVENTUAL)
    assert decision is not None
    assert decision.shadowed
    assert strong.taken == (12, 2)  # the store may have charged 2 tokens that nobody got
    strong.ledger.ended(ask)
    assert strong.table.open_tokens == 0


def test_the_quota_of_an_outage_is_not_spent_by_a_shadow() -> None:
    strong = Strong()
    strong.bucket.settle(KEY, 7)
    for _ in range(5):  # the quota holds five tokens, the level three
        assert strong.ledger.decide_here(strong.bucket, KEY, 4, Mode.FALLBACK).shadowed
    assert not strong.ledger.decide_here(strong.bucket, KEY, 3, Mode.FALLBACK).shadowed
