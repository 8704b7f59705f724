"""Measures how long the machine, not the program, kept an event loop from running."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import time

PERIOD_S = 0.001
LEAST_NS = 500_000


class Lag:
    """Watches the running loop: `async with Lag() as lag`.

    A wake-up that is late by more than the processor time that this thread used meanwhile was
    late because something else had the processor. Only that is subtracted from a latency: what the
    program itself does for too long still counts.
    """

    def __init__(self) -> None:
        self.worst_ns = 0
        self._late: list[tuple[int, int, int]] = []
        """Begin and end of each time in which the loop was late, and how much of it was stolen."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Lag:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def note(self, begin: int, end: int, stolen: int) -> None:
        """Notes that the loop was late between these times, and that another process had the
        processor for `stolen` of them."""
        self._late.append((begin, end, stolen))
        self.worst_ns = max(self.worst_ns, stolen)

    def stolen_ns(self, begin: int, end: int) -> int:
        """The stolen time between these two times (`time.perf_counter_ns`), as far as it was seen.
        At which moment the processor was taken away is not known: the worst one for the caller is
        assumed."""
        place = bisect.bisect_right(self._late, begin, key=lambda late: late[1])
        total = 0
        for first, last, stolen in self._late[place:]:
            if first >= end:
                break
            total += min(stolen, min(end, last) - max(begin, first))
        return total

    async def _watch(self) -> None:
        while True:
            begin, used = time.perf_counter_ns(), time.thread_time_ns()
            await asyncio.sleep(PERIOD_S)
            end = time.perf_counter_ns()
            late = end - begin - round(PERIOD_S * 1e9)
            stolen = min(late, late - (time.thread_time_ns() - used))
            if stolen > LEAST_NS:
                self.note(begin + round(PERIOD_S * 1e9), end, stolen)
