"""Callers that wait for tokens of a strong bucket: a line per key, first come first served.

Only the first of a line asks the store, again when its last denial said that its cost could pass,
and every second in case another node gave tokens back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import WaitTimeout
from crdtbucket.limiter.waiting import MAX_WAITERS, patience_ns

if TYPE_CHECKING:
    from crdtbucket.strong.strong_bucket import StrongBucket

SHORTEST_PAUSE_S = 0.001
LOOK_AGAIN_S = 1.0
Name = tuple[asyncio.AbstractEventLoop, tuple[int, int]]


class StrongWaiters:
    """All lines of one bucket: each of one key and one event loop."""

    def __init__(self, bucket: StrongBucket, max_waiters: int = MAX_WAITERS) -> None:
        self._bucket = bucket
        self._max_waiters = max_waiters
        self._lines: dict[Name, Line] = {}

    def __len__(self) -> int:
        """Callers that wait now."""
        return sum(len(line.callers) for line in list(self._lines.values()))

    def __bool__(self) -> bool:
        return bool(self._lines)

    async def wait(self, key: str | bytes, cost: int, timeout: float | None) -> Decision:
        """The allowed decision, once it is this caller's turn; `Bucket.wait` says the rest."""
        patience = patience_ns(timeout)
        now = self._bucket.table.now
        end = None if patience is None else now() + patience
        name = (asyncio.get_running_loop(), self._bucket.hash(key))
        line = self._lines.get(name) or Line(name[0])
        if line.callers and (patience == 0 or len(line.callers) >= self._max_waiters):
            why = "earlier callers wait for tokens of this key"
            raise WaitTimeout(why, self._bucket.peek(key, cost))

        def left_s() -> float | None:
            return None if end is None else max(0, end - now()) / NS_PER_SECOND

        self._lines[name] = line
        caller = line.join()
        try:
            if not await line.turn(caller, left_s()):
                why = f"no turn within {timeout:g} s"
                raise WaitTimeout(why, self._bucket.peek(key, cost))
            while True:
                decision = await self._bucket.acquire(key, cost)
                if decision.allowed:
                    return decision
                left, wanted = left_s(), decision.retry_after
                if left is not None and wanted > left:
                    raise WaitTimeout(
                        f"{cost} tokens take {wanted:.3f} s or more, and {left:.3f} s are left",
                        decision,
                    )
                await line.rest(min(max(wanted, SHORTEST_PAUSE_S), LOOK_AGAIN_S))
        finally:
            line.leave(caller)
            if not line.callers:
                del self._lines[name]

    def kick(self, key: str | bytes) -> None:
        """Tokens of `key` came back: its lines look again at once. Safe from any thread."""
        place = self._bucket.hash(key)
        for (_, of), line in list(self._lines.items()):
            if of == place:
                line.kick()

    def kick_all(self) -> None:
        """Every line looks again. Safe from any thread."""
        for line in list(self._lines.values()):
            line.kick()


class Line:
    """The callers of one event loop that wait for tokens of one key, the earliest first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.callers: deque[asyncio.Future[None]] = deque()
        self._loop = loop
        self._news: asyncio.Future[None] | None = None

    def join(self) -> asyncio.Future[None]:
        """Stands at the end. What is returned is done when it is the caller's turn."""
        caller: asyncio.Future[None] = self._loop.create_future()
        self.callers.append(caller)
        if len(self.callers) == 1:
            caller.set_result(None)
        return caller

    async def turn(self, caller: asyncio.Future[None], seconds: float | None) -> bool:
        """Whether it became the caller's turn in time."""
        if not caller.done():
            await asyncio.wait({caller}, timeout=seconds)
        return caller.done()

    def leave(self, caller: asyncio.Future[None]) -> None:
        """Gives up the place; the next one's turn comes."""
        self.callers.remove(caller)
        if self.callers and not self.callers[0].done():
            self.callers[0].set_result(None)

    async def rest(self, seconds: float) -> None:
        """Until then, or until there is news."""
        self._news = self._loop.create_future()
        await asyncio.wait({self._news}, timeout=seconds)

    def kick(self) -> None:
        """There is news. Safe from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


__all__ = ["StrongWaiters"]
