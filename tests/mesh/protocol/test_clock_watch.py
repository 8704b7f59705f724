"""Jumps of this node's clock are distinguished from jumps of a peer's, from delays and from
pauses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.mesh.protocol.clock_watch import (
    DRIFT_PPM,
    JUMP_NS,
    KEPT_NS,
    MOST_NS,
    SHOWN_NS,
    STEADY,
    STEP_NS,
    TRIP_NS,
    UNCONFIRMED_WINDOWS,
    WINDOW_NS,
    ClockOffset,
    OwnClock,
    jump,
)

MS = 1_000_000
STEP = 100 * MS


def test_a_frame_counts_from_the_middle_of_its_round_trip_up_to_a_bound() -> None:
    for ahead, trip, best in (
        (5, 10, 10),
        (5, TRIP_NS, 5 + TRIP_NS // 2),
        (5, TRIP_NS + 1, None),
        (MOST_NS, 0, MOST_NS),
        (-MOST_NS, 3, 1 - MOST_NS),
        (-MOST_NS - 1, 3, None),
    ):
        offset = ClockOffset()
        offset.sample(ahead, trip, 7)
        taken = best is not None
        assert offset == ClockOffset(best=best, since=7 * taken, latest=7 * taken)


def test_the_largest_of_each_window_is_compared_with_the_base() -> None:
    offset = ClockOffset()
    for ahead, now in ((2, 10), (9, 10), (4, 9 + WINDOW_NS)):
        offset.sample(ahead, 0, now)
    assert offset == ClockOffset(best=9, since=10, latest=9 + WINDOW_NS)
    offset.sample(3, 0, 10 + WINDOW_NS)
    assert offset == ClockOffset(9, 9 + WINDOW_NS, 3, *[10 + WINDOW_NS] * 2, moved=0)
    offset.sample(5, 0, 9 + WINDOW_NS)  # the clock was set back: another window
    assert offset.best == 5
    assert (offset.base, offset.compared, offset.moved) == (9, 10 + WINDOW_NS, 0)


@pytest.mark.parametrize("sign", [-1, 1])
def test_what_moves_by_more_than_a_drift_and_a_second_is_a_jump(sign: int) -> None:
    """Within a second it is followed as far as a drift may explain it."""
    later = 5 * WINDOW_NS
    drift = later * DRIFT_PPM // 1_000_000
    for by, moved, base in (
        (drift - 1, 0, drift - 1),
        (drift + 1, 0, drift),
        (drift + JUMP_NS, 0, drift),
        (drift + JUMP_NS + 1, drift + JUMP_NS + 1, 0),
    ):
        offset = ClockOffset()
        offset.sample(0, 0, 0)
        offset.sample(sign * by, 0, later)
        offset.sample(0, 0, later + WINDOW_NS)
        assert (offset.moved, offset.base) == (sign * moved, sign * base)
        assert (offset.compared, offset.unconfirmed) == (later, int(moved != 0))


def test_a_jump_that_nobody_confirms_is_the_new_base_after_so_many_windows() -> None:
    offset = ClockOffset(0, 0, moved=0)
    jumped = 5 * JUMP_NS
    seen = []
    for window in range(UNCONFIRMED_WINDOWS + 2):
        offset.sample(jumped, 0, window * WINDOW_NS)
        seen.append((offset.base, offset.moved, offset.unconfirmed))
    alone = [(0, jumped, windows + 1) for windows in range(UNCONFIRMED_WINDOWS)]
    assert seen == [(0, 0, 0), *alone, (jumped, 0, 0)]
    offset = ClockOffset(0, 0, jumped, 0, 0, jumped, 3)
    offset.sample(0, 0, WINDOW_NS)
    assert offset.unconfirmed == 4
    offset.sample(0, 0, 2 * WINDOW_NS)  # as it was before
    assert (offset.base, offset.moved, offset.unconfirmed) == (0, 0, 0)


def test_a_jump_that_was_undone_is_measured_from_there() -> None:
    offset = ClockOffset(10, 1, 20, 2, 3, 5 * JUMP_NS, 4)
    offset.settle(-7)
    assert offset == ClockOffset(3, 1, None, 2, 3, None, 0)
    new = ClockOffset()
    new.settle(-7)
    assert new == ClockOffset()


def test_the_median_of_the_peers_is_believed_and_one_alone_in_one_direction() -> None:
    for moved, expected in (
        ((), 0),
        ((None, None), 0),
        ((-JUMP_NS - 1,), JUMP_NS + 1),
        ((-JUMP_NS,) * 3, 0),
        ((JUMP_NS,) * 3, 0),
        ((JUMP_NS + 1,), 0),  # of two clocks, the other one's
        ((JUMP_NS + 1, None), 0),
        ((JUMP_NS + 1,) * 2, -JUMP_NS - 1),
        ((-3 * JUMP_NS, -2 * JUMP_NS, 0, None), 2 * JUMP_NS),
        ((2 * JUMP_NS, 3 * JUMP_NS), -2 * JUMP_NS),
        ((-3 * JUMP_NS, -2 * JUMP_NS), 2 * JUMP_NS),
        ((-3 * JUMP_NS, 0), 0),  # one of two peers, in either direction
        ((3 * JUMP_NS, 0), 0),
        ((-3 * JUMP_NS, 3 * JUMP_NS, 0, 0), 0),
    ):
        assert jump(ClockOffset(moved=by) for by in moved) == expected


def feed(
    offsets: list[ClockOffset],
    start: int,
    steps: int,
    *,
    own: int = 0,
    delays: tuple[int, ...] = (80, 40, 120),
) -> int:
    """Frames of every peer each 100 ms; `own` is added to the own clock. Returns the time after."""
    for step in range(steps):
        now = start + step * STEP
        for number, offset in enumerate(offsets):
            delay = delays[(step + number) % len(delays)] * MS
            offset.sample(40 * MS - delay - own, 0, now + own)
    return start + steps * STEP


def test_nothing_is_said_while_the_clocks_agree() -> None:
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    feed(offsets, 0, 100)
    assert jump(offsets) == 0


def test_an_own_jump_forward_is_measured() -> None:
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    at = feed(offsets, 0, 50)
    feed(offsets, at, 50, own=5_000 * MS)
    assert abs(jump(offsets) - 5_000 * MS) < 100 * MS


def test_an_own_jump_back_is_measured_against_several_peers_only() -> None:
    for peers, expected in ((3, -5_000 * MS), (1, 0)):
        offsets = [ClockOffset() for _ in range(peers)]
        at = feed(offsets, 100 * WINDOW_NS, 50)
        feed(offsets, at, 100, own=-5_000 * MS)
        assert abs(jump(offsets) - expected) < 100 * MS


def test_frames_whose_way_there_was_held_up_are_no_jump() -> None:
    """The peer answers at once what came to it late: half of that is not the way back."""
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    at = feed(offsets, 0, 50)
    for step in range(100):
        for offset in offsets:
            offset.sample(-40 * MS, 4_000 * MS, at + step * STEP)
    assert jump(offsets) == 0


def test_one_peer_that_jumps_moves_nobody_else() -> None:
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    at = feed(offsets, 0, 50)
    feed(offsets[:1], at, 50, own=-9_000 * MS)
    feed(offsets[1:], at, 50)
    assert jump(offsets) == 0


def test_a_burst_of_late_frames_after_a_pause_is_no_jump() -> None:
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    at = feed(offsets, 0, 50)
    for offset in offsets:  # three seconds of frames, all read at once
        for step in range(30):
            offset.sample(step * STEP - 3_000 * MS, 0, at + 3_000 * MS)
    feed(offsets, at + 3_000 * MS, 50)
    assert jump(offsets) == 0


def test_a_settled_jump_is_not_reported_again() -> None:
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    at = feed(offsets, 0, 50)
    at = feed(offsets, at, 50, own=5_000 * MS)
    by = jump(offsets)
    for offset in offsets:
        offset.settle(-by)
    feed(offsets, at, 80, own=5_000 * MS)
    assert jump(offsets) == 0


def drifted(offsets: list[ClockOffset], start: int, seconds: int, ppm: int) -> tuple[int, int]:
    """Frames each 500 ms while the own clock is fast by so many ppm, jumps undone. Returns the time
    after, and how much was undone."""
    undone = 0
    for now in range(start, start + seconds * 1_000 * MS, 5 * STEP):
        own = now * ppm // 1_000_000
        for offset in offsets:
            offset.sample(-40 * MS - own + undone, 0, now + own)
        by = jump(offsets)
        undone += by
        if by:
            for offset in offsets:
                offset.settle(-by)
    return start + seconds * 1_000 * MS, undone


@pytest.mark.parametrize("ppm", [-1_000, -400, -200, 200, 400, 1_000])
def test_a_drift_is_followed_for_hours(ppm: int) -> None:
    offsets = [ClockOffset(), ClockOffset()]
    assert drifted(offsets, 0, 3 * 3600, ppm)[1] == 0


@pytest.mark.parametrize("ppm", [-1_000, -400, 400, 1_000])
@pytest.mark.parametrize("hours", [1, 12])
def test_a_drift_through_a_partition_is_no_jump(ppm: int, hours: int) -> None:
    offsets = [ClockOffset(), ClockOffset()]
    at, _ = drifted(offsets, 0, 61, ppm)  # it ends in the middle of a window
    assert drifted(offsets, at + hours * 3600 * 1_000 * MS, 60, ppm)[1] == 0


@pytest.mark.parametrize("by", [-5_000 * MS, 5_000 * MS])
def test_a_jump_beside_a_drift_is_one(by: int) -> None:
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    at, _ = drifted(offsets, 0, 3600, 400)
    for now in range(at, at + 6_000 * MS, STEP):
        own = now * 400 // 1_000_000 + by
        for offset in offsets:
            offset.sample(-40 * MS - own, 0, now + own)
    assert abs(jump(offsets) - by) < 10 * MS


def test_a_jump_in_a_long_silence_is_one_where_no_drift_explains_it() -> None:
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    at = feed(offsets, 0, 50)
    hour = 3600 * 1_000 * MS
    explained = hour * DRIFT_PPM // 1_000_000
    for by, expected in (
        (explained + 500 * MS, 0),
        (explained + 2_000 * MS, explained + 2_000 * MS),
    ):
        seen = [replace(offset) for offset in offsets]
        feed(seen, at + hour, 50, own=by)
        assert abs(jump(seen) - expected) < 100 * MS


def test_a_faster_drift_is_corrected_in_steps() -> None:
    """A step is what is beyond the drift that is followed."""
    offsets, seconds, ppm = [ClockOffset(), ClockOffset()], 3000, 1_500
    _, undone = drifted(offsets, 0, seconds, ppm)
    beyond = seconds * 1_000 * MS * (ppm - DRIFT_PPM) // 1_000_000
    assert undone > 0
    assert abs(beyond - undone) < JUMP_NS + 100 * MS


def test_what_one_peer_shows_alone_for_long_is_that_peers_clock() -> None:
    offsets = [ClockOffset(), ClockOffset(), ClockOffset()]
    at = feed(offsets, 0, 50)
    jumped, others = offsets[:1], offsets[1:]
    later = (UNCONFIRMED_WINDOWS + 3) * WINDOW_NS // STEP
    feed(others, at, later)
    at = feed(jumped, at, later, own=9_000 * MS)
    assert jump(jumped) == 0
    feed(jumped, at, 50, own=9_000 * MS)
    feed(others[:1], at, 50, own=9_000 * MS)  # years later another one does the same
    assert jump(offsets) == 0


def test_nonsense_is_no_clock() -> None:
    for extreme in (2**63 - 1, -(2**63), MOST_NS + 1):
        offset = ClockOffset()
        at = feed([offset], 0, 50)
        for step in range(100):
            offset.sample(extreme, 0, at + step * STEP)
        assert jump([offset]) == 0
        first = ClockOffset()
        for step in range(50):
            first.sample(extreme, 0, step * STEP)
        feed([first], 50 * STEP, 50)
        assert jump([first]) == 0


def rounds(own: OwnClock, start: int, many: int) -> int:
    """Plays so many rounds, each 100 ms after the one before; returns the time of the next."""
    for step in range(many):
        own.read(start + step * STEP)
    return start + many * STEP


@pytest.mark.parametrize("by", [5_000 * MS, -5_000 * MS])
def test_a_jump_that_the_own_clock_shows_is_believed_once(by: int) -> None:
    own = OwnClock(STEP)
    at = rounds(own, 0, 50)
    at = rounds(own, at + by, 50)
    assert not own.explains(-by)
    assert own.explains(by)
    assert not own.explains(by)


def test_a_jump_that_it_does_not_show_is_not_believed() -> None:
    own = OwnClock(STEP)
    rounds(own, 0, 50)
    assert not own.explains(STEP_NS + 1)
    assert not own.explains(-STEP_NS - 1)


def test_a_clock_that_runs_off_steadily_is_corrected_a_second_in_a_minute() -> None:
    own, corrected = OwnClock(STEP), 0
    at = 0
    for _ in range(100):
        at = rounds(own, at, 600)
        corrected += own.explains(1_000 * MS)
        corrected += own.explains(1_000 * MS)
    assert 100 <= corrected <= 102


def test_a_pause_of_long_ago_explains_nothing() -> None:
    own = OwnClock(STEP)
    at = rounds(own, 0, 50)
    at = rounds(own, at + 60_000 * MS, KEPT_NS // STEP + 2)
    own.read(at + 1_000 * MS)  # what is remembered is looked through when something comes new
    assert not own.explains(60_000 * MS)


def test_a_round_that_came_much_too_late_shows_a_jump_and_so_does_one_before_the_last() -> None:
    for passed, shown in (
        (STEP + SHOWN_NS, 0),
        (STEP + SHOWN_NS + 1, SHOWN_NS + 1),
        (0, 0),
        (-1, -1),
        (-3 * STEP_NS, -3 * STEP_NS),
        (STEP + 3 * STEP_NS, 3 * STEP_NS),
    ):
        for sign in (-1, 1):
            own = OwnClock(STEP)
            own.read(50)
            own.read(50 + passed)
            most = STEP_NS + (abs(shown) if sign * shown > 0 else 0)
            assert not own.explains(sign * (most + 1))
            assert own.explains(sign * most)


def test_jumps_add_up_and_are_used_up_in_their_direction_only() -> None:
    own, now = OwnClock(STEP), 0
    for passed in (0, STEP + 3 * STEP_NS, -2 * STEP_NS, STEP + STEP_NS, -STEP_NS):
        now += passed
        own.read(now)
    assert not own.explains(5 * STEP_NS + 1)
    assert own.explains(4 * STEP_NS)
    assert own.explains(-3 * STEP_NS)
    for by in (STEP_NS, -1):  # what is used up: one step alone is left, in either direction
        assert own.explains(by) is (by > 0)


def test_what_nothing_explained_comes_back_with_time() -> None:
    own, now = OwnClock(STEP), 0
    own.read(now)
    assert own.explains(STEP_NS - 5)
    assert own.explains(4)
    assert not own.explains(2)
    for _ in range(2):  # what is less than a nanosecond does not
        now += STEADY - 1
        own.read(now)
    assert not own.explains(2)
    now += 3 * STEADY
    own.read(now)
    assert own.explains(4)
    assert not own.explains(1)
    own.read(now - 600 * STEADY)  # a clock that was set back has let no time pass
    assert not own.explains(1)
    own.read(now - 600 * STEADY + STEADY * 3 * STEP_NS)
    assert not own.explains(3 * STEADY * STEP_NS + STEP_NS + 1)


def test_what_the_own_clock_showed_may_be_claimed_for_so_long() -> None:
    for passed, explained in ((KEPT_NS - 1, True), (KEPT_NS, False)):
        own = OwnClock(STEP)
        for now in (0, STEP + 3 * STEP_NS, STEP + 3 * STEP_NS + passed):
            own.read(now)
        assert own.explains(passed - STEP + 4 * STEP_NS) is explained  # that was a pause, too


def test_an_own_clock_says_for_how_long_it_has_stood_still_since_a_time() -> None:
    own = OwnClock(STEP)
    now = rounds(own, 0, 3)
    own.read(now := now + 5_000 * MS)
    first = now
    assert own.gaps(0) == own.gaps(first - 1) == 5_000 * MS
    assert own.gaps(first) == 0
    assert own.jumped() == first - 2_500 * MS
    now = rounds(own, now, 20)
    own.read(now := now + 1_100 * MS)
    assert own.gaps(first) == 1_100 * MS
    assert own.gaps(0) == 6_100 * MS
    assert own.jumped() == now - 550 * MS


def test_an_own_clock_that_never_jumped_says_so() -> None:
    own = OwnClock(STEP)
    assert own.gaps(0) == own.jumped() == 0
    rounds(own, 0, 100)
    assert own.gaps(0) == own.jumped() == 0
