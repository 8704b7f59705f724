"""Callers that wait for tokens of a strong bucket, first come first served.

Only the first of a line asks the store: again when its last denial said that its cost could pass,
and every second in case another node gave tokens back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, cast

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import patience_ns
from crdtbucket.errors import WaitTimeout
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.waiting import MAX_WAITERS, Hash, Lines, Waited

SHORTEST_PAUSE_S = 0.001
LOOK_AGAIN_S = 1.0


class StrongWaiters(Lines):
    """The callers that wait for tokens of a bucket whose decisions the store makes."""

    def __init__(self, bucket: Bucket, seen: Waited) -> None:
        """`seen`: what is peeked at."""
        super().__init__(seen)
        self._strong = bucket

    async def wait(self, key: str | bytes, cost: int, timeout: float | None) -> Decision:
        """Waits until it is this caller's turn and the store has given it the tokens. Returns the
        allowed decision."""
        return await self.wait_for(key, cost, timeout, partial(self._strong.acquire, key, cost))

    async def wait_for(
        self,
        key: str | bytes,
        cost: int,
        timeout: float | None,
        ask: Callable[[], Coroutine[Any, Any, Decision]],
        *,
        by_time: bool = True,
    ) -> Decision:
        """Waits as `wait` does; `ask` asks the store. `by_time`: tokens come back by time alone, so
        a caller whose timeout is shorter than that would wait in vain."""
        bucket, patience = self._bucket, patience_ns(timeout)
        now = self._strong.table.now
        end = None if patience is None else now() + patience
        loop = asyncio.get_running_loop()
        line = cast("StoreLine | None", self.find(key, loop))
        if line is not None and (patience == 0 or len(line) >= MAX_WAITERS):
            why = "earlier callers wait for tokens of this key"
            raise WaitTimeout(why, bucket.peek(key, cost))

        def left_s() -> float | None:
            return None if end is None else max(0, end - now()) / NS_PER_SECOND

        line = line or StoreLine(self, bucket.hash(key), loop)
        caller = line.join()
        try:
            if not await line.turn(caller, left_s()):
                raise WaitTimeout(f"no turn within {timeout:g} s", bucket.peek(key, cost))
            while True:
                line.expect_kick()
                decision = await ask()
                if decision.allowed:
                    return decision
                left, wanted = left_s(), decision.retry_after
                if left is not None and not by_time:
                    wanted = min(wanted, left)
                if left is not None and (wanted > left or not left):
                    raise WaitTimeout(
                        f"a cost of {cost} takes {wanted:.3f} s or more, and {left:.3f} s are left",
                        decision,
                    )
                await line.rest(min(max(wanted, SHORTEST_PAUSE_S), LOOK_AGAIN_S))
        finally:
            line.leave(caller)


class StoreLine:
    """The callers of one event loop that wait for tokens of one key, the earliest first."""

    def __init__(self, lines: Lines, place: Hash, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.hash = place
        self._lines = lines
        self._callers: deque[asyncio.Future[None]] = deque()
        self._kicked: asyncio.Future[None] = loop.create_future()

    def __len__(self) -> int:
        return len(self._callers)

    def join(self) -> asyncio.Future[None]:
        """Waits behind all others. What is returned is done when it is the caller's turn."""
        caller: asyncio.Future[None] = self.loop.create_future()
        self._callers.append(caller)
        if len(self._callers) == 1:
            self._lines.open(self)
            caller.set_result(None)
        return caller

    async def turn(self, caller: asyncio.Future[None], seconds: float | None) -> bool:
        """Whether it became the caller's turn in time."""
        if not caller.done():
            await asyncio.wait({caller}, timeout=seconds)
        return caller.done()

    def leave(self, caller: asyncio.Future[None]) -> None:
        """Gives up the place; the next one's turn comes."""
        self._callers.remove(caller)
        if not self._callers:
            self._lines.close(self)
        elif not self._callers[0].done() and not self.loop.is_closed():
            self._callers[0].set_result(None)

    def expect_kick(self) -> None:
        """Forgets earlier kicks. One that comes from now on ends the next `rest`, even before that
        begins: the store may have decided before the tokens came back to it."""
        self._kicked = self.loop.create_future()

    async def rest(self, seconds: float) -> None:
        """Returns after so long, or as soon as the line was kicked since `expect_kick`."""
        await asyncio.wait({self._kicked}, timeout=seconds)

    def kick(self) -> None:
        """Look again soon; from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, or another thread closes it
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self._kicked.done():
            self._kicked.set_result(None)
