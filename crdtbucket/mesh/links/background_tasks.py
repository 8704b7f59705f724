"""Tasks that nobody awaits: their bugs are logged, and they end with their owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from crdtbucket.base.lasting import lasting
from crdtbucket.mesh.links.counters import LOG


class BackgroundTasks:
    """The tasks of one owner."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[None]] = set()

    def spawn(self, work: Awaitable[None]) -> None:
        """Runs `work` on this loop."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def keep(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work`, which lasts as long as the owner: after a bug in `what` it begins again."""
        self.spawn(lasting(work, what, LOG))

    def repeat(self, what: str, look: Callable[[], None], seconds: float) -> None:
        """Calls `look` at once and then every `seconds`; after a bug it begins again, as `keep`
        does."""

        async def looks() -> None:
            while True:
                look()
                await asyncio.sleep(seconds)

        self.keep(what, looks)

    async def end(self) -> None:
        """Cancels what still runs, and waits for it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("a bug in the mesh's background work", exc_info=error)
