"""Decisions that wait for room in the window of one server; nothing is counted of them yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from crdtbucket._core import Decision
from crdtbucket.base.clock import now_ns
from crdtbucket.strong.look_timer import LookTimer
from crdtbucket.strong.store_request import SentRequest


class QueuedRequest(NamedTuple):
    """One of them, and since when it waits (`clock.now_ns`)."""

    opened: Callable[[bool], SentRequest | Decision]
    """The request to send; without the server, for False, the decision."""
    future: asyncio.Future[Decision | None]
    since_ns: int


class RoomQueue:
    """First come, first served. As long as the server answers, a caller waits for its place; a
    server that answers nothing for a deadline is waited for no longer."""

    def __init__(self, deadline_ns: int, silent: Callable[[QueuedRequest], None]) -> None:
        """`silent` is called for each request that has waited for a deadline in which the server
        answered nothing, and is to decide it."""
        self._deadline_ns = deadline_ns
        self._silent = silent
        self.requests: deque[QueuedRequest] = deque()
        """Those that wait, the first one first; to be changed by the queue alone."""
        self._answered_ns = 0
        self._timer = LookTimer(self._due, self._expire)

    def add(
        self, opened: Callable[[bool], SentRequest | Decision]
    ) -> asyncio.Future[Decision | None]:
        """A new one at the end, and the future of its decision."""
        future: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        self.requests.append(QueuedRequest(opened, future, now_ns()))
        self._timer.arm()
        return future

    def pop(self) -> QueuedRequest:
        """The first one, which waits no longer."""
        return self.requests.popleft()

    def answered(self) -> None:
        """The server has answered something."""
        self._answered_ns = now_ns()

    def _waited_since(self) -> int:
        return max(self.requests[0].since_ns, self._answered_ns)

    def _due(self) -> int | None:
        return self._waited_since() + self._deadline_ns if self.requests else None

    def _expire(self, looked_ns: int) -> None:
        while self.requests and self._waited_since() <= looked_ns - self._deadline_ns:
            queued = self.requests.popleft()
            if not queued.future.done():  # else it was cancelled
                self._silent(queued)
