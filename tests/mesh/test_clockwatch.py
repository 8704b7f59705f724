"""Jumps of the own clock are told from jumps of a peer's, from delays and from pauses."""

from __future__ import annotations

from crdtbucket.mesh.clockwatch import JUMP_NS, WINDOW_NS, Offset, jump

MS = 1_000_000
STEP = 100 * MS


def feed(
    offsets: list[Offset],
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
            offset.sample(40 * MS - delay - own, now + own)
    return start + steps * STEP


def test_nothing_is_said_while_the_clocks_agree() -> None:
    offsets = [Offset(), Offset(), Offset()]
    feed(offsets, 0, 100)
    assert jump(offsets) == 0


def test_an_own_jump_forward_is_measured() -> None:
    offsets = [Offset(), Offset(), Offset()]
    at = feed(offsets, 0, 50)
    feed(offsets, at, 50, own=5_000 * MS)
    assert abs(jump(offsets) - 5_000 * MS) < 100 * MS


def test_an_own_jump_back_is_measured_against_several_peers_only() -> None:
    for peers, expected in ((3, -5_000 * MS), (1, 0)):
        offsets = [Offset() for _ in range(peers)]
        at = feed(offsets, 100 * WINDOW_NS, 50)
        feed(offsets, at, 120, own=-5_000 * MS)
        assert abs(jump(offsets) - expected) < 100 * MS


def test_one_peer_that_jumps_moves_nobody_else() -> None:
    offsets = [Offset(), Offset(), Offset()]
    at = feed(offsets, 0, 50)
    feed(offsets[:1], at, 50, own=-9_000 * MS)
    feed(offsets[1:], at, 50)
    assert jump(offsets) == 0


def test_a_burst_of_late_frames_after_a_pause_is_no_jump() -> None:
    offsets = [Offset(), Offset(), Offset()]
    at = feed(offsets, 0, 50)
    for offset in offsets:  # three seconds of frames, all read at once
        for step in range(30):
            offset.sample(step * STEP - 3_000 * MS, at + 3_000 * MS)
    feed(offsets, at + 3_000 * MS, 50)
    assert jump(offsets) == 0


def test_a_settled_jump_is_not_reported_again() -> None:
    offsets = [Offset(), Offset(), Offset()]
    at = feed(offsets, 0, 50)
    at = feed(offsets, at, 50, own=5_000 * MS)
    by = jump(offsets)
    for offset in offsets:
        offset.settle(-by)
    feed(offsets, at, 80, own=5_000 * MS)
    assert jump(offsets) == 0


def test_a_drift_is_corrected_in_steps() -> None:
    offsets = [Offset(), Offset()]
    corrected, own = 0, 0
    for step in range(30_000):
        now = step * STEP
        own = step * STEP * 1500 // 1_000_000  # 1500 ppm fast
        for offset in offsets:
            offset.sample(-40 * MS - own, now + own)
        by = jump(offsets)
        if by:
            corrected += by
            for offset in offsets:
                offset.settle(-by)
    assert own - corrected < 2 * JUMP_NS
    assert corrected > 0
