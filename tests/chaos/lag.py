"""How long the machine, not the program, kept an event loop from running."""

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
        self._ends: list[int] = []
        self._stolen: list[int] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Lag:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def stolen_ns(self, begin: int, end: int) -> int:
        """Within these two times (`time.perf_counter_ns`), as far as was seen."""
        place = bisect.bisect_right(self._ends, begin)
        total = 0
        while place < len(self._ends) and self._ends[place] - self._stolen[place] < end:
            first = max(begin, self._ends[place] - self._stolen[place])
            total += max(0, min(end, self._ends[place]) - first)
            place += 1
        return total

    async def _watch(self) -> None:
        while True:
            begin, used = time.perf_counter_ns(), time.thread_time_ns()
            await asyncio.sleep(PERIOD_S)
            end = time.perf_counter_ns()
            late = end - begin - round(PERIOD_S * 1e9)
            stolen = min(late, late - (time.thread_time_ns() - used))
            if stolen > LEAST_NS:
                self._ends.append(end)
                self._stolen.append(stolen)
                self.worst_ns = max(self.worst_ns, stolen)


__all__ = ["Lag"]
