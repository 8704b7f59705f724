"""Slots with Redis: exactly the limit while it answers, and the stated bound whatever happens."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import Decision
from crdtbucket.errors import InvalidKey, LimiterClosed
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.redis.script import ScriptStatus
from crdtbucket.strong.redis.slot_script import SlotAnswer, SlotCall, SlotRow
from crdtbucket.strong.slot_ledger import DRIFT, MOST_GONE
from crdtbucket.strong.slot_request import SlotHold, SlotRequest
from crdtbucket.strong.store_rules import SlotRules
from tests.strong.slot_books import COMMON, FAULTS, TTL_S, SlotBooks, SlotNode, listed

Ops = list[tuple[str, int]]
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 3))


def nothing() -> None:
    pass


@given(SIZES, listed(*COMMON, "twice"))
def test_while_redis_answers_no_more_than_the_slots_are_held(
    sizes: tuple[int, int], ops: Ops
) -> None:
    def bound() -> None:
        assert one.in_flight() <= one.slots
        one.redis.expire()
        assert len(one.redis.holds) <= one.slots

    one = SlotBooks(*sizes, after=bound)
    one.play(ops)
    one.quiet()
    live = {hold.id for node in one.nodes for hold, _ in node.held()}
    late = set[bytes]().union(*(node.late for node in one.nodes))
    assert set(one.redis.holds) - late == live


@given(SIZES, listed(*FAULTS))
def test_over_all_changes_of_mode_the_shares_are_all_that_is_held_beyond(
    sizes: tuple[int, int], ops: Ops
) -> None:
    def bound() -> None:
        assert one.in_flight(by_redis=True) <= one.slots
        assert one.in_flight(by_redis=False) <= one.share <= one.slots
        assert one.in_flight() <= one.slots + one.share

    one = SlotBooks(*sizes, after=bound)
    one.play(ops)
    one.quiet()
    live = {hold.id for node in one.nodes for hold, _ in node.held()}
    one.redis.expire()
    assert live <= set(one.redis.holds)  # what is beyond is of calls that ran late: it ends by ttl
    for _ in range(3):
        one.wait(3)
    one.redis.expire()
    assert one.redis.holds == {}


@given(SIZES, listed(*FAULTS, "flush"))
def test_what_redis_has_lost_is_all_that_comes_on_top_until_it_is_recorded_again(
    sizes: tuple[int, int], ops: Ops
) -> None:
    def bound() -> None:
        assert one.in_flight() <= one.slots + one.share + one.lost

    one = SlotBooks(*sizes, after=bound)
    one.play(ops)
    one.quiet()
    one.lost = 10**6
    for n, node in enumerate(one.nodes):
        if node.ledger.held():
            for item in node.ledger.held():
                node.ledger.pending[item] = None  # as after a loss that was noticed
            one.settle(n)
    one.quiet()
    one.redis.expire()
    live = {hold.id for node in one.nodes for hold, _ in node.held()}
    assert live <= set(one.redis.holds)


def test_a_node_that_asks_records_first_what_redis_has_lost() -> None:
    one = SlotBooks(2, 2, nothing)
    one.play([("ask", 0), ("run", 0), ("receive", 0), ("flush", 0), ("ask", 0), ("run", 0)])
    one.quiet()
    one.play([("ask", 0), ("ask", 1)])
    one.quiet()
    assert one.in_flight() == one.slots == len(one.redis.holds)


def test_a_release_tells_that_redis_has_lost_the_rest() -> None:
    one = SlotBooks(3, 1, nothing)
    one.play([("ask", 0), ("ask", 0)])
    one.quiet()
    one.play([("flush", 0), ("release", 0)])
    one.quiet()
    assert set(one.redis.holds) == {hold.id for hold, _ in one.nodes[0].held()}
    assert len(one.redis.holds) == 1


def test_what_was_held_without_redis_is_recorded_before_more_is_asked_for() -> None:
    one = SlotBooks(2, 2, nothing)
    one.play([("lose", 1), ("ask", 1), ("find", 1), ("ask", 1)])
    one.quiet()
    one.play([("ask", 0)])
    one.quiet()
    assert one.in_flight() == one.slots


def test_a_hold_that_was_given_up_and_denied_is_freed_in_redis() -> None:
    one = SlotBooks(2, 2, nothing)
    one.play([("ask", 0), ("ask", 0), ("run", 0), ("run", 0), ("lose", 1), ("lose", 4)])
    node = one.nodes[0]
    assert one.in_flight() == 1  # the share; Redis has recorded both
    assert len(one.redis.holds) == 2
    one.quiet()
    assert set(one.redis.holds) == {hold.id for hold, _ in node.held()}


def test_what_redis_admitted_counts_in_the_share() -> None:
    one = SlotBooks(6, 2, nothing)
    one.play([("ask", 0), ("ask", 0)])
    one.quiet()
    one.play([("lose", 0), ("ask", 0), ("ask", 0)])
    assert one.in_flight() == 3 == one.share // 2


def test_in_eventual_mode_what_redis_admitted_counts() -> None:
    one = SlotBooks(2, 1, nothing)
    one.play([("ask", 0), ("ask", 0)])
    one.quiet()
    node = one.nodes[0]
    hold = node.ledger.new(node.bucket, node.bucket.search, "k", 10**9)
    decision = node.ledger.decide_here(hold, Mode.EVENTUAL)
    assert (decision.allowed, str(decision.mode)) == (False, "eventual")


@pytest.mark.parametrize(("on_outage", "admitted"), [("allow", 3), ("deny", 0), ("eventual", 2)])
def test_without_redis_a_bucket_does_what_it_says(on_outage: str, admitted: int) -> None:
    one = SlotBooks(2, 1, nothing, on_outage)
    one.play([("lose", 0), ("ask", 0), ("ask", 0), ("ask", 0)])
    assert one.in_flight() == admitted
    one.quiet()
    assert len(one.redis.holds) == admitted


def test_a_hold_that_was_given_up_and_admitted_ends_with_its_record() -> None:
    one = SlotBooks(2, 1, nothing)
    one.play([("ask", 0), ("run", 0), ("wait", 1), ("lose", 1)])
    ((hold, _),) = one.nodes[0].held()
    ((end_ms, _),) = one.redis.holds.values()
    assert hold.deadline_ns <= end_ms * 10**6


@pytest.mark.parametrize("fleet", [False, True])
@given(
    slots=st.integers(1, 1_000),
    nodes=st.integers(1, 1_200),
    ratio=st.fractions(Fraction(1, 1_000), 1),
)
def test_all_shares_together_are_never_more_than_the_slots(
    fleet: bool, slots: int, nodes: int, ratio: Fraction
) -> None:
    share = SlotRules(slots, "quota", ratio, fleet).share(nodes)
    assert share * nodes <= slots
    assert (share >= 1) is (nodes <= slots)
    assert share <= max(1, slots * ratio)


# ---- rule by rule, with answers made by hand ----

MS, SECOND = 10**6, 10**9
TTL_MS = TTL_S * 1_000
BORN = 77
ALLOWED, DENIED, UNKNOWN = ScriptStatus.ALLOWED, ScriptStatus.DENIED, ScriptStatus.UNKNOWN


class OneNode(SlotNode):
    """One node of two that gets what a test sends."""

    def __init__(self, slots: int = 4, on_outage: str = "quota") -> None:
        super().__init__("n", 1, slots, 2, on_outage)
        self.item = (self.bucket, self.bucket.hash("k"))
        self.name = self.ledger.name(self.item)

    def new(self, ttl_ns: int = TTL_S * SECOND) -> SlotHold:
        return self.ledger.new(self.bucket, self.bucket.search, "k", ttl_ns)

    def pass_ns(self, ns: int) -> None:
        self.table.set_time(self.table.now() + ns)

    def answered(
        self, request: SlotRequest, number: int = 0, *, born: int = BORN, wanted: bool = True
    ) -> Decision | SlotRequest | None:
        """The answer that a slot is held, or, without a hold, that all is recorded."""
        return self.ledger.book(request, SlotAnswer(ALLOWED, number, 1, 5, born), 0, wanted)

    def stored(self, number: int = 0) -> SlotHold:
        """A hold that Redis admitted."""
        hold = self.new()
        assert self.answered(self.ledger.open(hold), number) is not None
        return hold


def test_each_hold_has_an_id_and_is_asked_for_with_its_ttl() -> None:
    node = OneNode()
    assert node.name == b"crdtbucket:{llm:%016x%016x}:slots" % node.item[1][::-1]
    first, second = node.new(), node.new(TTL_S * SECOND + 1)
    assert [first.id, second.id] == [
        b"%016x:1" % node.table.epochs.running,
        b"%016x:2" % node.table.epochs.running,
    ]
    request = node.ledger.open(first)
    assert request.call == SlotCall(node.name, 4, None, first.id, TTL_MS)
    assert (request.key, request.item, request.hold) == ("k", node.item, first)
    assert node.ledger.open(second).call.ttl_ms == TTL_MS + 1  # rounded up
    deadline = first.deadline_ns
    assert deadline == node.table.now() + TTL_S * SECOND
    node.pass_ns(SECOND)
    node.ledger.open(first)  # Redis may have it since the first time
    assert first.deadline_ns == deadline
    denied = node.ledger.book(request, SlotAnswer(DENIED, 0, 4, 5, BORN), 0)
    assert isinstance(denied, Decision)
    node.ledger.open(first)
    assert first.deadline_ns == deadline + SECOND
    with pytest.raises(InvalidKey):
        node.ledger.new(node.bucket, node.bucket.search, "k" * 10**4, SECOND)
    node.table.refuse(LimiterClosed("closed"))
    with pytest.raises(LimiterClosed):
        node.new()


def test_what_redis_admits_is_held_and_what_it_denies_waits_as_it_says() -> None:
    node = OneNode()
    hold = node.new()
    decision = node.answered(node.ledger.open(hold), 3)
    assert isinstance(decision, Decision)
    assert (decision.allowed, decision.key, decision.mode) == (True, "k#3", Mode.STRONG)
    assert (hold.number, hold.stored, list(node.ledger.held())) == (3, True, [node.item])
    assert (node.due, node.ledger.pending) == ([], {})
    for left_ms, wait in ((2_500, 2.5), (0, 0.001)):
        answer = SlotAnswer(DENIED, 0, 4, left_ms, BORN)
        decision = node.ledger.book(node.ledger.open(node.new()), answer, 0)
        assert isinstance(decision, Decision)
        assert (decision.allowed, decision.key, decision.mode) == (False, "k", Mode.STRONG)
        assert decision.retry_after == pytest.approx(wait)
    assert node.answered(node.ledger.open(other := node.new()), 1, wanted=False) is None
    assert node.ledger.release(other) is None  # nobody held it


def test_a_record_is_named_while_a_hold_in_it_is_surely_there() -> None:
    node = OneNode()
    node.stored()
    margin = SECOND + TTL_S * SECOND // DRIFT
    for passed, born in ((TTL_S * SECOND - margin - 1, BORN), (1, None)):
        node.pass_ns(passed)
        assert node.ledger.open(node.new()).call.born == born
    later = node.stored(1)
    request = node.ledger.open(node.new())
    assert request.call.born == BORN
    node.ledger.book(request, SlotAnswer(DENIED, 0, 4, 5, BORN), 0)
    assert node.ledger.open(node.new()).call.born == BORN
    later.stored = False
    assert node.ledger.open(node.new()).call.born is None


def test_what_was_decided_without_redis_is_recorded_with_the_next_request() -> None:
    node = OneNode()
    hold = node.new()
    assert node.ledger.decide_here(hold, Mode.FALLBACK).allowed
    assert (node.due, node.ledger.pending) == ([None], {node.item: None})
    node.pass_ns(1)
    asked = node.new()
    request = node.ledger.open(asked)
    assert node.ledger.lacking(request)
    row = SlotRow(hold.id, TTL_MS, hold.number)
    assert request.call == SlotCall(node.name, 4, None, asked.id, TTL_MS, [], [row])
    assert (request.rows, hold.asked) == ([hold], True)
    node.answered(request, 1)
    assert (hold.stored, asked.stored, node.ledger.pending) == (True, True, {})
    assert node.ledger.open(node.new()).call == SlotCall(
        node.name, 4, BORN, b"%016x:3" % node.table.epochs.running, TTL_MS
    )
    assert not node.ledger.lacking(request)
    # A record that began later has lost what was in the one before.
    node.answered(node.ledger.open(last := node.new()), 2, born=BORN + 1)
    assert (hold.stored, asked.stored, last.stored) == (False, False, True)
    assert (len(node.due), list(node.ledger.pending)) == (2, [node.item])


def test_what_redis_cannot_compare_is_sent_whole() -> None:
    node = OneNode()
    hold = node.stored(2)
    request = node.ledger.open(asked := node.new())
    assert request.call.live is None
    whole = node.ledger.book(request, SlotAnswer(UNKNOWN, 0, 0, 0, 0), 0)
    assert isinstance(whole, SlotRequest)
    assert (whole.hold, whole.rows, whole.item) == (asked, [hold], node.item)
    assert whole.call.live == [SlotRow(hold.id, TTL_MS, 2)]
    release = node.ledger.release(hold)
    assert release is not None
    assert release.call == SlotCall(node.name, 4, BORN, gone=[hold.id])
    assert (release.gone, release.key, release.item) == (
        {hold.id: hold.deadline_ns}, None, node.item,
    )  # fmt: skip
    again = node.ledger.book(release, SlotAnswer(UNKNOWN, 0, 0, 0, 0), 0)
    assert isinstance(again, SlotRequest)
    assert (again.call.gone, again.call.live, again.hold) == ([hold.id], [], None)
    assert list(node.ledger.pending) == [node.item]
    assert node.answered(again) is None
    assert node.ledger.pending == {}
    assert node.ledger.settle(node.item) is None  # nothing is left to be freed


def test_what_is_given_up_is_freed_unless_it_is_held_here() -> None:
    node = OneNode(on_outage="deny")
    hold = node.new()
    denied = node.ledger.give_up(node.ledger.open(hold), Mode.FALLBACK)
    assert denied is not None
    assert (denied.allowed, denied.mode, denied.retry_after) == (False, Mode.FALLBACK, 1.0)
    settling = node.ledger.settle(node.item)
    assert settling is not None
    assert (settling.call.gone, settling.call.live) == ([hold.id], [])
    assert node.ledger.give_up(settling, Mode.FALLBACK) is None
    again = node.ledger.settle(node.item)
    assert again is not None
    assert again.call.gone == [hold.id]
    node.pass_ns(TTL_S * SECOND)  # its record has ended by itself
    assert node.ledger.settle(node.item) is None
    assert node.ledger.pending == {}
    assert node.ledger.give_up(node.ledger.open(gone := node.new()), Mode.FALLBACK, False) is None
    settling = node.ledger.settle(node.item)
    assert settling is not None
    assert settling.call.gone == [gone.id]
    eventual = OneNode(on_outage="eventual")
    held = eventual.ledger.give_up(eventual.ledger.open(eventual.new()), Mode.FALLBACK)
    assert held is not None
    assert (held.allowed, held.mode) == (True, Mode.EVENTUAL)
    settling = eventual.ledger.settle(eventual.item)
    assert settling is not None
    assert (settling.call.gone, len(settling.call.live or ())) == ([], 1)


def test_what_cannot_be_decided_any_more_is_freed_in_redis() -> None:
    node = OneNode(on_outage="quota")
    request = node.ledger.open(hold := node.new())
    node.table.refuse(LimiterClosed("closed meanwhile"))
    with pytest.raises(LimiterClosed):
        node.ledger.give_up(request, Mode.FALLBACK)
    settling = node.ledger.settle(node.item)
    assert settling is not None
    assert (settling.call.gone, settling.call.live) == ([hold.id], [])


def test_a_hold_is_released_once_and_needs_no_call_where_redis_has_none() -> None:
    node = OneNode(on_outage="allow")
    here = node.new()
    decision = node.ledger.decide_here(here, Mode.FALLBACK)
    assert (decision.allowed, decision.mode) == (True, Mode.FALLBACK)
    assert node.ledger.release(here) is None
    assert list(node.ledger.held()) == []
    stored, other = node.stored(), node.stored(1)
    assert node.ledger.release(stored) is not None
    assert list(node.ledger.held()) == [node.item]
    assert node.ledger.release(stored) is None
    node.pass_ns(TTL_S * SECOND)
    assert node.ledger.release(other) is None  # its ttl was over


def test_nothing_is_kept_of_a_key_that_nobody_holds() -> None:
    """Keys come and go without end."""

    def kept() -> list[str]:
        return [
            name for name, value in vars(node.ledger).items() if name != "_rules" and value == {}
        ]

    node = OneNode(on_outage="eventual")
    empty = kept()
    assert len(empty) == 5
    released = node.ledger.release(node.stored())
    assert released is not None
    node.answered(released, born=0)
    assert kept() == empty
    late = node.stored()
    node.pass_ns(TTL_S * SECOND)
    assert node.ledger.release(late) is None  # before anybody has looked at what is over
    assert kept() == empty
    node.stored()
    node.pass_ns(TTL_S * SECOND)
    assert node.ledger.settle(node.item) is None  # it looks first
    assert kept() == empty
    node.stored()
    node.pass_ns(TTL_S * SECOND)
    node.ledger.decide_here(here := node.new(), Mode.EVENTUAL)
    assert node.ledger.release(here) is None
    assert node.ledger.settle(node.item) is None
    assert kept() == empty
    node.ledger.give_up(node.ledger.open(asked := node.new()), Mode.FALLBACK)
    request = node.ledger.release(asked)
    assert request is not None
    node.ledger.give_up(request, Mode.FALLBACK)
    settling = node.ledger.settle(node.item)
    assert settling is not None
    node.answered(settling)
    assert kept() == empty
    node.ledger.give_up(node.ledger.open(node.new()), Mode.FALLBACK, False)
    node.pass_ns(TTL_S * SECOND)
    assert node.ledger.settle(node.item) is None
    assert kept() == empty


def test_the_quota_waits_for_the_first_of_the_own_holds() -> None:
    node = OneNode(slots=4)
    assert node.ledger.share(node.bucket) == 2
    deny = OneNode(on_outage="deny")
    assert deny.ledger.share(deny.bucket) is None
    for _ in range(2):
        assert node.ledger.decide_here(node.new(), Mode.FALLBACK).allowed
        node.pass_ns(SECOND)
    denied = node.ledger.decide_here(node.new(), Mode.FALLBACK)
    assert (denied.allowed, denied.mode) == (False, Mode.FALLBACK)
    assert denied.retry_after == pytest.approx(TTL_S - 2)
    assert node.ledger.decide_here(node.new(), Mode.EVENTUAL).mode is Mode.EVENTUAL
    many = OneNode(slots=1)  # more nodes than slots: none has a share
    denied = many.ledger.decide_here(many.new(), Mode.FALLBACK)
    assert (denied.allowed, denied.retry_after) == (False, TTL_S)


def test_so_many_are_freed_at_once_and_the_rest_stays_due() -> None:
    node = OneNode(slots=1_000, on_outage="deny")
    for _ in range(MOST_GONE + 1):
        node.ledger.give_up(node.ledger.open(node.new()), Mode.FALLBACK)
    assert node.due == [None]
    for count in (MOST_GONE, 1):
        assert list(node.ledger.pending) == [node.item]
        settling = node.ledger.settle(node.item)
        assert settling is not None
        assert len(settling.call.gone) == len(settling.gone) == count
        node.answered(settling)
    assert node.ledger.pending == {}


def test_an_outage_keeps_nothing_of_keys_whose_holds_have_ended() -> None:
    """However long it lasts, and whatever other holds there are: nobody settles anything then."""
    node = OneNode(on_outage="eventual")

    def held_here(key: str, ttl_ns: int = SECOND) -> SlotHold:
        hold = node.ledger.new(node.bucket, node.bucket.search, key, ttl_ns)
        assert node.ledger.decide_here(hold, Mode.FALLBACK).allowed
        return hold

    for number in range(9):
        assert node.ledger.release(held_here(f"released {number}")) is None
    assert node.ledger.pending == {}
    held_here("long", 99 * SECOND)
    for number in range(40):
        held_here(f"abandoned {number}")
        node.pass_ns(SECOND)
    assert len(node.ledger.pending) == len(list(node.ledger.held())) < 5
    assert node.ledger.settle((node.bucket, node.bucket.hash("long"))) is not None
