"""Notices a jump of the own clock by the peers' clocks, so that it is undone and no level moves.

Each frame shows the sender's clock, to within half of the round trip that ends with it. Those with
a round trip above `TRIP_NS` are left out, so that no delay passes for a jump. A delay makes the
clock look late, so the largest difference within a window is the truest. Clocks drift apart, by at
most some hundred ppm each: that is followed, however long a peer was not seen. What moves by more
than `JUMP_NS` beyond what a drift of `DRIFT_PPM` explains since the last comparison, on most links
at once, was a jump of this node's clock; a clock that runs off faster than that is corrected in
such steps, too. Peers may be wrong together, or be one under several names: they are believed as
far as the own clock shows such a jump itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_high, median_low

WINDOW_NS = 2_000_000_000
JUMP_NS = 1_000_000_000
TRIP_NS = JUMP_NS
"""A comparison is off by half of this at most, and the difference of two by all of it."""
DRIFT_PPM = 1_000
"""The most by which two clocks may drift apart: each is off by 500 ppm at most."""
MOST_NS = 2**58
"""A peer whose clock differs by more (nine years) is ignored: its frames are wrong."""
UNCONFIRMED_WINDOWS = 5
"""A jump that one peer's clock shows, and that the others do not confirm within so many windows,
was a jump of that peer's clock."""

SHOWN_NS = 500_000_000
"""A round that begins later than planned by this much (ns) may show a jump."""
KEPT_NS = 900_000_000_000
"""Time (ns) for which peers may claim a jump that the own clock has shown: they may be silent."""
STEP_NS = 2_000_000_000
"""How far (ns) a correction may exceed what the own clock shows, for clocks that drift away
steadily."""
STEADY = 60
"""That allowance comes back at one second in this many seconds."""
GAPS = 64
"""How many of the last times at which a round came too late are remembered."""


@dataclass(slots=True)
class ClockOffset:
    """The distance by which a peer's clock is ahead of this one (ns). Times are ns of this
    clock."""

    base: int | None = None
    """When they were last compared, the drift since then followed."""
    compared: int = 0
    """The time of that comparison."""
    best: int | None = None
    """The largest in the window now."""
    since: int = 0
    """The beginning of that window."""
    latest: int = 0
    """When the newest frame of the window came."""
    moved: int | None = None
    """By how much the last full window was beyond the base, if that is more than a drift; else 0.
    None while it is not known."""
    unconfirmed: int = 0
    """The number of windows for which `moved` has not been 0."""

    def sample(self, ahead: int, trip: int, now: int) -> None:
        """Takes one frame: how far its time of sending is ahead of the time at which it came, and
        the round trip that ends with it."""
        if trip > TRIP_NS or abs(ahead) > MOST_NS:
            return
        ahead += trip // 2
        if self.best is not None and not 0 <= now - self.since < WINDOW_NS:
            # Frames after a silence are in a window of their own, which is compared with this one.
            self._compare()
        if self.best is None:
            self.best, self.since = ahead, now
        self.best, self.latest = max(self.best, ahead), now

    def _compare(self) -> None:
        """The window is over: the difference that it shows is either drift, which is followed, or a
        jump."""
        best, self.best = self.best, None
        if best is None:
            return
        if self.base is None:
            self.base, self.compared, self.moved = best, self.latest, 0
            return
        moved = best - self.base
        drift = max(0, self.latest - self.compared) * DRIFT_PPM // 1_000_000
        self.compared = self.latest
        if abs(moved) - drift <= JUMP_NS:
            self.base += max(-drift, min(drift, moved))
            self.moved, self.unconfirmed = 0, 0
            return
        self.moved = moved
        self.unconfirmed += 1
        if self.unconfirmed > UNCONFIRMED_WINDOWS:
            self.base, self.moved, self.unconfirmed = best, 0, 0

    def settle(self, by: int) -> None:
        """The own clock's jump was undone: measuring begins again from there."""
        if self.base is not None:
            self.base += by
        self.moved = self.best = None
        self.unconfirmed = 0


class OwnClock:
    """Checks whether the own clock shows the jump that peers claim: between two rounds it moves by
    one interval, and by more or less where it jumped or the process paused."""

    def __init__(self, interval_ns: int) -> None:
        """`interval_ns`: between two rounds."""
        self._interval_ns = interval_ns
        self._last: int | None = None
        self._seen: list[tuple[int, int]] = []
        """When (on the moved clock) the own clock moved, and by how much beyond an interval; below
        0 for a move back."""
        self._unexplained = 0
        """Recent corrections that no observed jump explains, but a fast clock may."""
        self._gaps: deque[tuple[int, int]] = deque(maxlen=GAPS)
        """When rounds began that came late, and by how much."""

    def read(self, now: int) -> None:
        """Reads the own clock when a round begins."""
        if self._last is not None:
            passed = now - self._last
            moved = passed - self._interval_ns if passed >= 0 else passed
            if passed < 0 or moved > SHOWN_NS:
                self._seen = [one for one in self._seen if now - one[0] < KEPT_NS]
                self._seen.append((now, moved))
                self._gaps.append((now, moved))
            self._unexplained = max(0, self._unexplained - max(0, passed) // STEADY)
        self._last = now

    def gaps(self, since: int) -> int:
        """How much of the time since then this process stood still, or its clock jumped (ns)."""
        return sum(moved for at, moved in self._gaps if at > since and moved > 0)

    def jumped(self) -> int:
        """The middle of what it last jumped over, at the latest: later than all that was noted
        before, and earlier than all that came afterwards. 0 where it has not."""
        return max((at - moved // 2 for at, moved in self._seen if moved > 0), default=0)

    def explains(self, by: int) -> bool:
        """Whether it may have jumped forward by `by`; if so, that much is used up."""
        moves = [moved for _, moved in self._seen if (moved > 0) == (by > 0)]
        beyond = abs(by) - abs(sum(moves))
        if beyond > STEP_NS - self._unexplained:
            return False
        self._unexplained += max(0, beyond)
        self._seen = [one for one in self._seen if (one[1] > 0) != (by > 0)]
        return True


def jump(offsets: Iterable[ClockOffset]) -> int:
    """The time (ns) by which the own clock jumped forward, 0 for none.

    It is the median of the peers; of two in the middle the one that moved less counts, as one of
    two peers is not a majority. With a single peer nobody can tell whose clock jumped: then only a
    jump that raises the debt is believed, since the opposite would mint tokens.
    """
    moved = [offset.moved for offset in offsets if offset.moved is not None]
    if not any(moved):  # 0 where nobody's clock did
        return 0
    by = -min(median_low(moved), median_high(moved), key=abs)
    if abs(by) <= JUMP_NS or (len(moved) == 1 and by < 0):
        return 0
    return by
