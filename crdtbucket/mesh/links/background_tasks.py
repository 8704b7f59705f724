"""Tasks that nobody awaits: their bugs are logged, and they end with their owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from crdtbucket.mesh.links.counters import LOG


class BackgroundTasks:
    """The tasks of one owner."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Awaitable[None]) -> None:
        """Runs `work` on this loop."""
        task = asyncio.ensure_future(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Cancels what still runs, and waits for it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001 - logged; nobody awaits this task
        LOG.exception("a bug in the mesh's background work")


__all__ = ["BackgroundTasks"]
