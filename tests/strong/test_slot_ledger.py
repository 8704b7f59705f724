"""Slots with Redis: exactly the limit while it answers, and the stated bound whatever happens."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.spec.mode import Mode
from crdtbucket.strong.slot_rules import SlotRules
from tests.strong.slot_books import COMMON, FAULTS, SlotBooks, listed

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
    one.play([("ask", 0), ("run", 0), ("hear", 0), ("flush", 0), ("ask", 0), ("run", 0)])
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
