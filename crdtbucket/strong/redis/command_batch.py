"""Records when commands left together, and how long their answers took. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable


class Batch:
    """Commands that were written together, and how long their answers took."""

    __slots__ = ("_when_written", "arrived_ns", "late_ns", "written_ns")

    def __init__(self) -> None:
        self._when_written: Callable[[], None] | None = None
        self.written_ns = 0
        """When they were handed to the system (`clock.now_ns`); 0 before that."""
        self.late_ns = 0
        """By how much (ns) the loop had been late in all when they were written."""
        self.arrived_ns = 0
        """When the newest answer to one of them was here, read or not."""

    @property
    def latency_ns(self) -> int:
        """How long the newest answer took (ns), without the time for which it lay unread here."""
        return max(0, self.arrived_ns - self.written_ns)

    def when_written(self, call: Callable[[], None]) -> None:
        """Calls this once the commands have left, or at once if they have. Only the last function
        that was given is called."""
        if self.written_ns:
            call()
        else:
            self._when_written = call

    def leave(self, now: int) -> None:
        """The commands leave now (`clock.now_ns`)."""
        self.written_ns = now
        if self._when_written is not None:
            self._when_written()
