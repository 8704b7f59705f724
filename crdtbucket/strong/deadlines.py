"""Decisions on their way to a server: written, or still waiting for room; and their deadlines."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from crdtbucket._core import BucketCore, Decision
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.strong.redis.redis_connection import Batch
from crdtbucket.strong.store_request import StoreRequest

if TYPE_CHECKING:
    from crdtbucket.strong.endpoint import Endpoint

LOOK_S = 0.001
"""Before an answer is called missing, the loop gets so long to read what the socket may hold."""


class PendingRequest:
    """One ask on its way: who waits, and since when."""

    __slots__ = ("done", "first", "future", "home", "out", "request", "sent")

    def __init__(
        self, home: Endpoint, request: StoreRequest, future: asyncio.Future[Decision | None]
    ) -> None:
        self.home = home
        """The endpoint that sees to its deadline."""
        self.request = request
        self.future = future
        self.first: Batch | None = None
        """What it left with for the first time: its deadline counts from then."""
        self.sent: Batch | None = None
        """What it left with last."""
        self.out = False
        """It was sent, and no answer is here yet."""
        self.done = False
        """Decided; an answer that comes later only tells how slow the server is, and that no more
        is to come."""

    @property
    def written_ns(self) -> int:
        """When it was first written (`clock.now_ns`); 0 before that."""
        return 0 if self.first is None else self.first.written_ns


class QueuedRequest(NamedTuple):
    """A decision that waits for room in the window; nothing is asked or counted of it yet."""

    bucket: BucketCore
    key: str | bytes
    cost: int
    future: asyncio.Future[Decision | None]


class Deadlines:
    """The turns of one endpoint in the order of their writing, and the timer of their deadlines."""

    def __init__(
        self, home: Endpoint, deadline_ns: int, overdue: Callable[[PendingRequest], None]
    ) -> None:
        """`overdue` is called for each turn whose deadline has passed, and is to give it up."""
        self._home = home
        self._deadline_ns = deadline_ns
        self._overdue = overdue
        self._requests: deque[PendingRequest] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Those that nobody has answered or given up."""
        return sum(map(self._open, self._requests))

    def add(self, pending: PendingRequest) -> None:
        """One that is about to be written, the last one."""
        self._requests.append(pending)
        if self._timer is None:
            self._arm()

    def take_over(self, pending: PendingRequest) -> None:
        """One that was written to another server first; its deadline stays."""
        self._requests.appendleft(pending)
        if self._timer is None:
            self._arm()

    def let_go(self) -> None:
        """Forgets those at the front that are decided: answers come in order, so it is mostly the
        first, and what is let go now is used again soon."""
        requests, home = self._requests, self._home
        while requests and (requests[0].done or requests[0].home is not home):
            requests.popleft()

    def _open(self, pending: PendingRequest) -> bool:
        return not pending.done and pending.home is self._home

    def _arm(self) -> None:
        self.let_go()
        self._timer = None
        if self._requests:
            written = self._requests[0].written_ns
            passed = now_ns() - written if written else 0
            delay = max(0, self._deadline_ns - passed) / NS_PER_SECOND
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        # The loop may be late: what the server has answered by now is read before any is given up.
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK_S, self._expire, now_ns())

    def _expire(self, looked_ns: int) -> None:
        """Gives up what was overdue when the loop began to look, and is unanswered still."""
        requests = self._requests
        while requests:
            pending = requests[0]
            if not self._open(pending):
                requests.popleft()
            elif 0 < pending.written_ns <= looked_ns - self._deadline_ns:
                requests.popleft()
                self._overdue(pending)
            else:
                break
        self._arm()


__all__ = ["LOOK_S", "PendingRequest", "Deadlines", "QueuedRequest"]
