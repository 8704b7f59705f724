"""Jumps of the own clock are told from jumps of a peer's, from delays and from pauses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.mesh.protocol.clock_watch import (
    DRIFT_PPM,
    JUMP_NS,
    KEPT_NS,
    MOST_NS,
    STEP_NS,
    UNCONFIRMED_WINDOWS,
    WINDOW_NS,
    ClockOffset,
    OwnClock,
    jump,
)

MS = 1_000_000
STEP = 100 * MS


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
    """Frames each 100 ms while the own clock is fast by so many ppm, jumps undone. Returns the time
    after, and how much was undone."""
    undone = 0
    for now in range(start, start + seconds * 1_000 * MS, STEP):
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
    """By what is beyond the drift that is followed."""
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
    """So many rounds, each 100 ms after the one before; returns the time of the next."""
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
