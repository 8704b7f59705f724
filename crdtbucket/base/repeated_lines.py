"""Keeps repeated events from flooding the log: one line of each cause in a while counts the
others."""

from __future__ import annotations

from collections.abc import Hashable

MOST = 4_096
"""Most causes that are distinguished; beyond that those that were logged first are forgotten."""


class RepeatedLines:
    """Says when a line is to be logged: at once, and then again after `every_ns` at the soonest.
    Times are ns of one clock."""

    def __init__(self, every_ns: int, most: int = MOST) -> None:
        self._every_ns, self._most = every_ns, most
        self._logged: dict[Hashable, tuple[int, int]] = {}
        """By cause: when it was logged last, and how often it occurred since then."""

    def add(self, cause: Hashable, now: int, count: int = 1) -> str | None:
        """Counts that a cause occurred, `count` times. Returns the end of the line that is to be
        logged now, which says how often it occurred since the last line; None where it was logged
        just before."""
        at, unsaid = self._logged.get(cause, (None, 0))
        if at is not None and now - at < self._every_ns:
            self._logged[cause] = (at, unsaid + count)
            return None
        self._logged.pop(cause, None)
        while len(self._logged) >= self._most:
            del self._logged[next(iter(self._logged))]
        self._logged[cause] = (now, 0)
        return f" ({unsaid} more since the last such line)" if unsaid else ""
