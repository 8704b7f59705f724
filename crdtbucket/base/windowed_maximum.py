"""The highest of what was seen in the last one to two minutes."""

from __future__ import annotations

from crdtbucket.base.clock import NS_PER_SECOND

MINUTE_NS = 60 * NS_PER_SECOND


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
        """0 when nothing was seen; any thread may ask."""
        minutes = now // MINUTE_NS - self._minute
        return 0 if minutes > 1 else self._highest if minutes else max(self._highest, self._before)
