"""A queue of decisions that wait until more requests may be sent to a server. No tokens are counted
for them yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from crdtbucket._core import Decision
from crdtbucket.errors import CrdtbucketError
from crdtbucket.strong.deadlines import LookTimer
from crdtbucket.strong.store_request import SentRequest

Opened = Callable[[bool], "SentRequest | Decision"]
"""Makes the request to send (for True), or decides without the server (for False)."""


class Room(Protocol):
    """The dispatcher as the queue sees it: whether a request may be sent now, and the sending."""

    def usable(self) -> bool:
        """Whether a request may be sent now."""

    def full(self) -> bool:
        """Whether as many are in flight as may be."""

    def send(
        self, request: SentRequest, future: asyncio.Future[Decision | None] | None = None
    ) -> asyncio.Future[Decision | None]:
        """Sends a request, and returns the future of its decision: this one, or a new one."""


class QueuedRequest(NamedTuple):
    """One decision that waits, and since when (`LookTimer.clock`)."""

    opened: Opened
    future: asyncio.Future[Decision | None]
    since_ns: int


class RoomQueue:
    """Decisions that wait until requests may be sent, first come, first served. As long as the
    server answers, a caller waits for its place. When the server answers nothing for two deadlines,
    this node decides the queued calls. After a single deadline, a short pause of the server would
    end the wait of a whole burst, although the server was never asked."""

    def __init__(self, deadline_ns: int, room: Room) -> None:
        """`deadline_ns`: of one request that was sent."""
        self._patience_ns = 2 * deadline_ns
        self._room = room
        self.requests: deque[QueuedRequest] = deque()
        """The decisions that wait, the first one first; only the queue may change it."""
        self._answered_ns = 0
        self._timer = LookTimer(self._due, self._expire, deadline_ns)

    def submit(self, opened: Opened) -> Decision | asyncio.Future[Decision | None]:
        """A decision that is made at once, or the future of one that is asked for, or waits."""
        usable = self._room.usable()
        if usable and (self.requests or self._room.full()):
            future: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
            self.requests.append(QueuedRequest(opened, future, self._timer.clock()))
            self._timer.arm()
            return future
        found = opened(usable)
        return found if isinstance(found, Decision) else self._room.send(found)

    def admit(self) -> None:
        """Sends waiting requests while there is room, or decides them here when the server is no
        longer in use."""
        while self.requests:
            usable = self._room.usable()
            if usable and self._room.full():
                return
            self._open(self.requests.popleft(), usable)

    def answered(self) -> None:
        """The server has sent an answer: calls that wait may be sent."""
        self._answered_ns = self._timer.clock()

    def _open(self, queued: QueuedRequest, usable: bool) -> None:
        if queued.future.done():  # the caller has given up
            return
        try:
            opened = queued.opened(usable)
        except CrdtbucketError as error:
            queued.future.set_exception(error)
            return
        if isinstance(opened, Decision):
            queued.future.set_result(opened)
        else:
            self._room.send(opened, queued.future)

    def _waited_since(self) -> int:
        return max(self.requests[0].since_ns, self._answered_ns)

    def _due(self) -> int | None:
        return self._waited_since() + self._patience_ns if self.requests else None

    def _expire(self, counted_ns: int, _: int) -> None:
        while self.requests and self._waited_since() <= counted_ns - self._patience_ns:
            self._open(self.requests.popleft(), usable=False)
