"""Bounds how many calls may be in flight at a server: enough to keep it busy, and no more.

A server answers the calls of a connection one after another, so a call waits for all that were
written before it. That wait is caused here and not by the server. So the number of calls in
flight is bounded such that the wait stays small beside the limit on latency; the other calls wait
unwritten, where no deadline runs yet.
"""

from __future__ import annotations

START = 64
LEAST = 16
MOST = 1024
"""A distant server needs many calls in flight; with more than this many, no more are decided per
second."""
_MEMORY = 32
"""The quickest latency adapts by one part in this many per window, so a server that has become
slower for good is recognised after a small multiple of as many windows."""


class Window:
    """The bound on calls in flight at one server, which follows the latency of its answers. No I/O,
    no clock.

    Answers that take longer than the quickest ones by more than `spare_ns` waited for other calls
    of ours: then the window shrinks. Else it grows.
    """

    def __init__(self, spare_ns: int) -> None:
        self.size = START
        """Calls that may be in flight now."""
        self._spare_ns = spare_ns
        self._least_ns: int | None = None
        self._answers = 0

    def answered(self, latency_ns: int, answers: int = 1) -> None:
        """An answer took so long, or several; called while there are calls that wait for room."""
        least = self._least_ns
        if least is None or latency_ns < least:
            self._least_ns = least = latency_ns
        self._answers += answers
        if self._answers < self.size:
            return  # one change per window: calls under way left under the last size
        self._answers = 0
        if latency_ns - least > self._spare_ns:
            self.size = max(LEAST, self.size * 3 // 4)
        else:
            self.size = min(MOST, self.size * 5 // 4)
        self._least_ns = least + (latency_ns - least) // _MEMORY
