"""Estimates how old a frame is when it arrives: its lateness, and half of the smallest round trip.

A link or an engine in between may hold frames and hand them on late. A round trip does not show
which half of it was late, and half of a smoothed one is a guess. But lateness can be measured: the
two clocks stay at the same distance, so a frame is later than the quickest one of the last minute
by as much as its (receipt - sent) is larger. Only the travel time of the quickest frame cannot be
known from one direction; it is taken to be half of the smallest round trip. The highest ages are
kept for a while.
"""

from __future__ import annotations

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.mesh.protocol.clock_watch import DRIFT_PPM, MOST_NS

HALF_WINDOW_NS = 30_000_000_000
"""The smallest number of this half minute and of the one before counts. Time in which no frame came
belongs to neither: after a long silence the first frames may be late, and must not be compared only
with each other."""
MINUTE_NS = 60 * NS_PER_SECOND
HELD_UP_NS = 500_000_000
"""A frame whose round trip took this much longer than the smallest one does not show the travel
time: a link was held up, or this node or the peer was paused."""


class _Least:
    """The smallest number of the last two half windows in which there were any."""

    def __init__(self) -> None:
        self._least: int | None = None
        """The smallest of the half window under way, and that of the one before."""
        self._before: int | None = None
        self._since = 0

    def add(self, number: int, now: int) -> int:
        """Adds a number, and returns the smallest."""
        if self._least is None or not 0 <= now - self._since < HALF_WINDOW_NS:
            self._before, self._least, self._since = self._least, number, now
        elif number < self._least:
            self._least = number
        before = self._before
        return self._least if before is None or self._least < before else before


class TravelTimes:
    """The travel times of the frames of one peer on one connection. Times are ns."""

    def __init__(self) -> None:
        self._offset, self._trip = _Least(), _Least()
        self._least_trip = 0

    def age(self, sent: int, trip: int | None, now: int) -> int:
        """The age of a frame that comes now and was sent at `sent` of the peer's clock. `trip`: the
        round trip that ends with it, None if it shows none. No frame is older than that round trip,
        which began before it. So a clock that jumps makes nobody's frames old."""
        late = 0
        if abs(now - sent) <= MOST_NS:
            # Two clocks may run apart: what was smallest then may be larger by now.
            drift = now * DRIFT_PPM // 1_000_000
            late = now - sent - drift - self._offset.add(now - sent - drift, now)
        if trip is None:
            return late + self._least_trip // 2
        self._least_trip = self._trip.add(trip, now)
        return min(late + self._least_trip // 2, trip)

    def is_usual(self, trip: int) -> bool:
        """Whether this round trip is at most `HELD_UP_NS` longer than the smallest."""
        return trip - self._least_trip <= HELD_UP_NS


class WindowedMaximum:
    """The highest number of the running minute and the one before; times are ns of one clock."""

    def __init__(self) -> None:
        self._minute = self._highest = self._before = 0

    def add(self, number: int, now: int) -> None:
        """`number`, at least 0, was seen."""
        minute = now // MINUTE_NS
        if minute != self._minute:
            self._before = self._highest if minute == self._minute + 1 else 0
            self._highest, self._minute = 0, minute
        self._highest = max(self._highest, number)

    def highest(self, now: int) -> int:
        """The highest number; 0 when there was none. Safe from any thread."""
        minutes = now // MINUTE_NS - self._minute
        return 0 if minutes > 1 else self._highest if minutes else max(self._highest, self._before)
