"""The roll-out of a version as a pure machine: its merge, its clock, its commands, when it
halts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import CrdtbucketError
from crdtbucket.mesh.protocol import wire
from crdtbucket.rollout.staged import (
    Counts,
    Position,
    Rollout,
    RolloutPlan,
    Stage,
    Status,
    is_jump,
    row_of,
)

SECOND = 1_000_000_000
HOLD = 600 * SECOND
STAGES = (Stage(("eu",), 10), Stage(("eu", "us"), 50), Stage())
PLAN = RolloutPlan(STAGES, HOLD, 0.2)
FIRST = Position(2, 77)
JUMP = "api: 35% of 100 calls denied, 10% of 1,000 under the old version"


def rollout(plan: RolloutPlan = PLAN, region: str = "eu", now: int = 0) -> Rollout:
    return Rollout(plan, FIRST, region, now)


def counts(old: tuple[int, int], new: tuple[int, int] | None) -> Counts:
    return {"api": (old, new)}


positions = st.builds(
    Position,
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(0, 3),
    st.sampled_from(Status),
    st.integers(0, 3),
)


# ---- stages ----


def test_a_stage_reaches_a_part_of_the_keys_in_its_regions() -> None:
    one = rollout()
    assert [one.percent, rollout(region="us").percent] == [10, 0]
    one.advance(1)
    assert one.percent == 50
    one.advance(2)
    assert one.percent == 100
    one.advance(3)
    assert (one.position.status, one.percent) == (Status.DONE, 100)
    one.rollback(4)
    assert one.percent == 0


def test_stages_are_described_in_words() -> None:
    assert [str(stage) for stage in STAGES] == [
        "10% of the keys in eu",
        "50% of the keys in eu, us",
        "all keys in all regions",
    ]


# ---- time ----


def test_it_goes_on_one_stage_at_a_time_once_a_stage_has_lasted() -> None:
    one = rollout(now=5)
    assert not one.tick(5 + HOLD - 1, {})
    assert one.tick(5 + HOLD, {})
    assert (one.position.stage, one.position.changes) == (1, 0)
    # However long it was asleep, no stage is left out.
    assert one.tick(50 * HOLD, {})
    assert one.position.stage == 2
    assert not one.tick(51 * HOLD - 1, {})
    assert one.tick(51 * HOLD, {})
    assert one.position.status is Status.DONE
    assert not one.tick(99 * HOLD, {})


def test_without_a_time_it_waits_for_the_command() -> None:
    one = rollout(replace(PLAN, hold_ns=None))
    assert not one.tick(10**18, {})
    one.advance(10**18)
    assert one.position.stage == 1


def test_a_halted_one_never_goes_on_by_time() -> None:
    one = rollout()
    one.halt(1)
    assert not one.tick(99 * HOLD, {})
    assert (one.position.status, one.percent) == (Status.HALTED, 10)
    one.halt(2)
    assert one.position.changes == 1  # it was halted
    one.advance(3)
    assert (one.position.status, one.position.stage) == (Status.RUNNING, 1)


@pytest.mark.parametrize(
    ("status", "commands"),
    [(Status.DONE, ["advance", "halt"]), (Status.ROLLED_BACK, ["advance", "halt"])],
)
def test_what_has_ended_takes_no_command_that_makes_no_sense(
    status: Status, commands: list[str]
) -> None:
    one = rollout()
    one.receive(replace(FIRST, changes=1, status=status), 0)
    for command in commands:
        with pytest.raises(CrdtbucketError, match=r"version 2 (is everywhere|was rolled back)"):
            getattr(one, command)(0)
    one.rollback(1)
    assert one.position.status is Status.ROLLED_BACK


def test_each_move_says_why_and_begins_a_stage_anew() -> None:
    one = rollout()
    assert one.tick(HOLD, {})
    seen = [(one.since, one.reason)]
    for now, command in enumerate(("advance", "halt", "advance")):
        getattr(one, command)(now)
        seen.append((one.since, one.reason))
    assert seen == [(HOLD, "time"), (0, "command"), (1, "command"), (2, "command")]
    with pytest.raises(CrdtbucketError, match="version 2 is everywhere"):
        one.advance(3)
    one.rollback(4)
    assert (one.since, one.reason) == (4, "command")
    with pytest.raises(CrdtbucketError, match="was rolled back, and comes again as a higher ver"):
        one.halt(5)
    other = rollout()
    assert other.receive(replace(FIRST, changes=1, status=Status.HALTED), 6)
    assert (other.since, other.reason) == (6, f"another node: {Status.HALTED}")


# ---- what nodes send each other ----


@given(positions, positions, positions)
def test_the_merge_is_a_semilattice(a: Position, b: Position, c: Position) -> None:
    assert a.merged(b) == b.merged(a)
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(a) == a


@given(positions)
def test_a_position_is_read_as_it_was_written(position: Position) -> None:
    row = row_of(position)
    assert row is not None
    assert Position.read(row) == position
    assert isinstance(Position.read(row).status, Status)
    with pytest.raises(ValueError, match="4"):
        Position.read((*row[:3], 4, row[4]))


def test_how_a_roll_out_stands_is_said_in_words() -> None:
    assert [str(status) for status in Status] == ["running", "done", "halted", "rolled back"]


def test_version_then_changes_then_caution_then_stage_holds() -> None:
    rising = [
        FIRST,
        replace(FIRST, stage=2),
        replace(FIRST, status=Status.DONE),
        replace(FIRST, status=Status.HALTED),
        replace(FIRST, status=Status.ROLLED_BACK),
        replace(FIRST, changes=1),
        replace(FIRST, version=3),
    ]
    for lower, higher in itertools.pairwise(rising):
        assert lower.merged(higher) is higher


def test_of_two_commands_at_once_the_one_that_halts_holds() -> None:
    nodes = [rollout() for _ in range(4)]
    for node, command in zip(nodes, ("advance", "halt", "rollback", "advance"), strict=True):
        getattr(node, command)(0)
    for node in nodes:
        for other in nodes:
            node.receive(other.position, 1)
    assert {node.position.status for node in nodes} == {Status.ROLLED_BACK}


@pytest.mark.parametrize("moves", [("time",) * 3, ("halt", "advance", "halt"), ("advance",) * 3])
def test_a_roll_back_holds_whatever_happened_beyond_a_partition(moves: tuple[str, ...]) -> None:
    """The state that had changed more often once won, and the version came back everywhere."""
    here, there = rollout(), rollout(region="us")
    here.rollback(0)
    for number, move in enumerate(moves, start=1):
        if move == "time":
            assert there.tick(number * HOLD, {})
        else:
            getattr(there, move)(number)
    assert not here.receive(there.position, 4 * HOLD)
    assert there.receive(here.position, 4 * HOLD)
    assert there.position == here.position
    assert here.percent == there.percent == 0


@pytest.mark.parametrize("by", ["time", "command"])
def test_a_halt_holds_however_far_others_went_on_beyond_a_partition(by: str) -> None:
    here, there = rollout(), rollout(region="us")
    here.halt(0)
    for number in range(1, 4):
        if by == "time":
            assert there.tick(number * HOLD, {})
        else:
            there.advance(number)
    assert there.position.status is Status.DONE
    assert not here.receive(there.position, 4 * HOLD)
    assert there.receive(here.position, 4 * HOLD)
    assert there.position == here.position
    here.advance(5 * HOLD)  # the command goes on all the same
    assert there.receive(here.position, 5 * HOLD)
    assert (there.position.status, there.position.stage) == (Status.RUNNING, 1)


def test_nodes_that_move_by_time_at_once_agree() -> None:
    nodes = [rollout(region=region) for region in ("eu", "us", "ap")]
    for node in nodes:
        node.tick(HOLD, {})
    assert len({node.position for node in nodes}) == 1
    assert not any(node.receive(other.position, HOLD) for node in nodes for other in nodes)


@given(positions)
def test_other_versions_say_nothing(advertised: Position) -> None:
    one = rollout()
    assert one.receive(advertised, 1) is (advertised.of == FIRST.of and advertised > FIRST)


def test_who_learns_of_a_stage_holds_it_as_long_as_any() -> None:
    one = rollout()
    one.receive(replace(FIRST, changes=1, stage=1), HOLD - 1)
    assert not one.tick(2 * HOLD - 2, {})
    assert one.tick(2 * HOLD - 1, {})
    assert one.position.stage == 2


def test_a_number_of_changes_that_a_peer_advertises_is_not_passed() -> None:
    """A larger one would make frames that no node reads."""
    one = rollout()
    one.receive(replace(FIRST, changes=2**63 - 1), 1)
    one.halt(2)
    row = row_of(one.position)
    frame = wire.Frame(1, 1, 1, 1, rollout=row)
    assert wire.decode(wire.encode(frame)).rollout == row == (2, 77, 2**63 - 1, 2, 0)


def test_a_peer_with_more_stages_is_understood() -> None:
    one = rollout()
    one.receive(replace(FIRST, changes=9, stage=40), 1)
    assert one.percent == 100
    one.advance(2)
    assert one.position.status is Status.DONE


steps = st.lists(
    st.one_of(
        st.tuples(st.just("gossip"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.integers(1, HOLD), st.none()),
        st.tuples(st.sampled_from(["advance", "halt", "rollback"]), st.integers(0, 2), st.none()),
    ),
    max_size=40,
)


@given(steps, st.permutations(range(6)))
def test_in_any_order_of_messages_and_commands_all_end_equal(
    history: list[Any], order: list[int]
) -> None:
    nodes = [rollout(region=region) for region in ("eu", "us", "ap")]
    now = 0
    for what, who, other in history:
        before = [node.position for node in nodes]
        if what == "wait":
            now += who
            for node in nodes:
                node.tick(now, {})
        elif what == "gossip":
            nodes[other].receive(before[who], now)
        else:
            try:
                getattr(nodes[who], what)(now)
            except CrdtbucketError:
                assert not nodes[who].active
        for was, node in zip(before, nodes, strict=True):
            assert node.position >= was
            if what == "wait":  # by itself: one stage at most, and never out of a halt
                assert node.position.stage - was.stage in (0, 1)
                assert node.position == was or was.status is Status.RUNNING
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    for place in [*order, *order]:
        a, b = pairs[place]
        nodes[b].receive(nodes[a].position, now)
    assert len({node.position for node in nodes}) == 1


# ---- where operators sign ----


def ordered(counter: int, status: Status = Status.RUNNING, stage: int = 0) -> Position:
    return replace(FIRST, changes=counter, status=status, stage=stage)


def test_an_order_puts_it_anywhere_once_and_an_earlier_one_nowhere() -> None:
    one = rollout()
    assert one.obey(ordered(10, Status.RUNNING, 2), 5)
    assert (one.position, one.since, one.reason) == (
        ordered(10, Status.RUNNING, 2), 5, "an operator's order",
    )  # fmt: skip
    assert not one.obey(ordered(10, Status.RUNNING, 2), 6)
    assert not one.obey(ordered(9, Status.ROLLED_BACK), 6)
    assert (one.since, one.ordered) == (5, 10)
    one.advance(7)
    assert one.position.status is Status.DONE
    assert one.obey(ordered(11), 8)  # going on is no change
    one.halt(9)
    assert not one.obey(ordered(12), 10)  # by itself it has changed as often
    assert (one.position.status, one.ordered) == (Status.HALTED, 12)
    assert one.obey(ordered(13, Status.ROLLED_BACK, 2), 11)


def test_of_two_orders_with_one_counter_the_one_that_halts_holds_whichever_came_first() -> None:
    """As that one is passed on to all nodes, each has to be where it says."""
    on, back = ordered(10, Status.RUNNING, 2), ordered(10, Status.ROLLED_BACK, 1)
    for first, second in ((on, back), (back, on)):
        one = rollout()
        one.obey(first, 5)
        one.obey(second, 6)
        assert one.position == back


def test_an_order_fits_that_is_newer_than_how_it_stands_or_that_was_obeyed() -> None:
    one = rollout()
    one.obey(ordered(10), 5)
    for fitting, known in ((ordered(11), None), (ordered(11), FIRST), (ordered(10), ordered(10))):
        one.check(fitting, known)
    for late, known in ((ordered(10), None), (ordered(10), ordered(9)), (ordered(9), ordered(10))):
        with pytest.raises(CrdtbucketError) as caught:
            one.check(late, known)
        assert str(caught.value) == (
            "the order is older than how version 2 (000000000000004d) stands: sign one with a "
            "counter above 10"
        )


@pytest.mark.parametrize(("version", "content"), [(3, 77), (2, 78)])
def test_an_order_about_another_version_does_not_fit(version: int, content: int) -> None:
    with pytest.raises(CrdtbucketError) as caught:
        rollout().check(Position(version, content, 11), None)
    assert str(caught.value) == (
        f"the order is about version {version} ({content:016x}), and version 2 (000000000000004d) "
        "is rolled out here: sign one about that"
    )


def test_what_was_rolled_back_takes_no_order_but_to_roll_back() -> None:
    one = rollout()
    one.rollback(5)
    one.check(ordered(11, Status.ROLLED_BACK), None)
    with pytest.raises(CrdtbucketError) as caught:
        one.check(ordered(11, Status.DONE), None)
    assert str(caught.value) == (
        "version 2 (000000000000004d) was rolled back, and comes again as a higher version"
    )
    rollout().check(ordered(11, Status.ROLLED_BACK), None)


def test_of_what_peers_say_only_a_halt_by_themselves_since_the_last_order_holds() -> None:
    one = rollout()
    for claim in (
        ordered(5, Status.RUNNING, 2), ordered(5, Status.DONE, 2), ordered(5, Status.ROLLED_BACK),
        replace(ordered(5, Status.HALTED), version=3), replace(ordered(5, Status.HALTED), hash=1),
        ordered(0, Status.HALTED),
    ):  # fmt: skip
        assert not one.receive_halt(claim, 3)
    assert one.position == FIRST
    assert one.receive_halt(ordered(5, Status.HALTED, 2), 3)
    assert one.position == ordered(1, Status.HALTED, 0)
    assert (one.since, one.reason, one.halts) == (3, "another node: halted", 0)
    assert not one.receive_halt(ordered(6, Status.HALTED), 4)
    one.obey(ordered(10, Status.RUNNING, 1), 5)
    assert not one.receive_halt(ordered(10, Status.HALTED), 6)
    assert one.receive_halt(ordered(11, Status.HALTED), 6)
    one.obey(ordered(20, Status.DONE, 2), 7)
    assert not one.receive_halt(ordered(30, Status.HALTED), 8)


signed_steps = st.lists(
    st.one_of(
        st.tuples(st.just("gossip"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("wait"), st.integers(1, HOLD), st.none()),
        st.tuples(st.just("halt"), st.integers(0, 2), st.none()),
        st.tuples(st.just("obey"), st.integers(0, 2), st.integers(0, 3)),
    ),
    max_size=40,
)


@given(signed_steps)
def test_however_orders_and_halts_travel_all_are_where_the_last_order_says(
    history: list[Any],
) -> None:
    orders = [
        ordered(1_000 * (number + 1), status, number % 3)
        for number, status in enumerate(
            (Status.RUNNING, Status.HALTED, Status.RUNNING, Status.DONE)
        )
    ]
    nodes, now = [rollout() for _ in range(3)], 0
    for what, who, other in history:
        if what == "wait":
            now += who
            for node in nodes:
                node.tick(now, {})
        elif what == "gossip":
            nodes[other].receive_halt(nodes[who].position, now)
        elif what == "obey":
            nodes[who].obey(orders[other], now)
        elif nodes[who].active:
            nodes[who].halt(now)
    said = [node.position for node in nodes]
    for node in nodes:
        node.obey(orders[-1], now)
        for position in said:  # from before it
            node.receive_halt(position, now)
        assert node.position == orders[-1]


# ---- when denials jump ----


def test_it_halts_where_the_new_version_denies_more_than_the_old_one() -> None:
    one = rollout()
    one.tick(1, counts((1_000, 0), (0, 0)))
    assert not one.tick(2, counts((1_900, 100), (75, 25)))  # 10% and 25%
    assert one.tick(3, counts((1_900, 100), (65, 35)))
    assert one.position.status is Status.HALTED
    assert one.reason == JUMP
    assert (one.halts, one.since) == (1, 3)


def test_a_bucket_that_is_new_counts_from_nothing() -> None:
    one = rollout()
    assert not one.tick(0, {})
    both = {"other": ((1, 0), None), **counts((900, 100), (65, 35))}
    assert not replace(one, plan=replace(PLAN, denied_ratio_rise=None)).tick(1, both)
    assert one.tick(1, both)
    assert one.reason == JUMP


def test_where_the_new_version_is_everywhere_the_time_before_is_compared() -> None:
    one = rollout()
    one.advance(0)
    one.advance(0)
    assert not one.tick(1, counts((900, 100), (0, 0)))
    assert one.tick(2, counts((900, 100), (65, 35)))
    assert one.reason == JUMP


def test_only_what_was_decided_at_this_stage_counts() -> None:
    one = rollout()
    one.tick(0, counts((1_000, 0), (0, 1_000)))
    assert not one.tick(1, counts((2_000, 0), (500, 1_000)))


def test_it_halts_on_nothing_less_than_a_hundred_calls_of_each() -> None:
    for old, new in (((99, 0), (0, 500)), ((500, 0), (0, 99))):
        one = rollout()
        one.tick(0, counts((0, 0), None))
        assert not one.tick(1, counts(old, new))


def test_a_rise_within_the_noise_is_none() -> None:
    assert not is_jump((50, 50), (30, 70), 0.01)  # 20 points, the error is 7
    assert is_jump((5_000, 5_000), (3_000, 7_000), 0.01)
    assert not is_jump((90, 10), (95, 5), 0.0)
    assert not is_jump((400, 100), (360, 140), 0.0)  # 8.0 points, three errors are 8.1
    assert is_jump((400, 100), (359, 141), 0.0)
    assert not is_jump((1_000, 0), (500, 500), 0.5)  # not more than the rise


def test_where_no_key_is_left_it_compares_with_the_time_before() -> None:
    plan = RolloutPlan((Stage(),), HOLD, 0.2)
    one = Rollout(plan, FIRST, "eu", 0, {"api": ((5_000, 5_000), None)})
    one.tick(0, counts((6_000, 5_000), (0, 0)))  # since it came into force: 0 of 1,000 denied
    assert one.tick(1, counts((6_000, 5_000), (70, 30)))


def test_it_halts_by_itself_only_if_that_is_configured() -> None:
    one = rollout(replace(PLAN, denied_ratio_rise=None))
    one.tick(0, counts((0, 0), (0, 0)))
    assert not one.tick(1, counts((1_000, 0), (0, 1_000)))


def test_after_a_halt_the_command_may_go_on_and_it_halts_again() -> None:
    one = rollout()
    one.tick(0, counts((0, 0), (0, 0)))
    assert one.tick(1, counts((1_000, 0), (0, 1_000)))
    one.advance(2)
    assert not one.tick(3, counts((1_000, 0), (0, 1_000)))
    assert one.tick(4, counts((2_000, 0), (0, 2_000)))
    assert (one.position.stage, one.halts) == (1, 2)
