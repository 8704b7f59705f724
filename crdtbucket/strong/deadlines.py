"""Keeps the deadlines of requests that were written to a server. Before its timer calls an answer
missing, it reads what has arrived, and it counts only time in which this process could have read
the answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from crdtbucket._core import Decision
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.strong.redis.command_batch import Batch
from crdtbucket.strong.store_request import SentRequest

LOOK_S = 0.001
"""Before an answer is called missing, the loop gets so long to read what the socket may hold."""
LOOKS = 5
"""How often the socket is looked at, at least, before an answer is called missing."""


class LookTimer:
    """The timer of one queue of deadlines. A busy event loop runs it late, when answers may lie
    unread; a process that was stopped runs it later still, perhaps together with its server.

    So it looks `LOOKS` times within a deadline, and the time between two looks counts for no more
    than a quarter of the deadline.
    """

    def __init__(
        self, due: Callable[[], int | None], expire: Callable[[int, int], None], deadline_ns: int
    ) -> None:
        """`due`: when the next deadline passes (`clock`), None when there is none. `expire` gets a
        time of `clock` and one of `now_ns`; deadlines before both have passed, with no answer in
        the socket."""
        self._due = due
        self._expire = expire
        self._step_ns = deadline_ns // LOOKS
        self._most_ns = deadline_ns // (LOOKS - 1)
        self._counted_ns = self._seen_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def clock(self) -> int:
        """The time (ns) that counts towards deadlines. It stands still while there are none."""
        if self._timer is None:
            return self._counted_ns
        return self._counted_ns + min(now_ns() - self._seen_ns, self._most_ns)

    def arm(self) -> None:
        """Sets the timer, as there is a deadline. Does nothing when it is set already."""
        due = None if self._timer is not None else self._due()
        if due is not None:
            self._seen_ns = now_ns()
            self._wait(due)

    def _wait(self, due: int) -> None:
        delay = min(max(0, due - self._counted_ns), self._step_ns) / NS_PER_SECOND
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        self._counted_ns, self._seen_ns = self.clock(), now_ns()
        due = self._due()
        if due is None or due > self._counted_ns:
            self._timer = None
            if due is not None:
                self._wait(due)
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK_S, self._passed, self._counted_ns, self._seen_ns)

    def _passed(self, counted_ns: int, looked_ns: int) -> None:
        self._counted_ns, self._timer = self.clock(), None
        self._expire(counted_ns, looked_ns)
        self.arm()


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One request that a caller waits for, and the time since when."""

    home: object
    """The owner of the `Deadlines` that watch the request."""
    request: SentRequest
    future: asyncio.Future[Decision | None]
    first: Batch | None = field(default=None, init=False)
    """The batch in which it was sent first: its deadline counts from then."""
    sent: Batch | None = field(default=None, init=False)
    """The batch in which it was sent last."""
    since_ns: int = field(default=0, init=False)
    """When it was about to be written, on the clock of its `LookTimer`."""
    unanswered: bool = field(default=False, init=False)
    """Whether it was sent and has no answer yet."""
    done: bool = field(default=False, init=False)
    """Whether it is decided. A later answer only shows how slow the server is, and that the
    server has run the request."""

    @property
    def written_ns(self) -> int:
        """When it was first written (`clock.now_ns`); 0 before that."""
        return 0 if self.first is None else self.first.written_ns


class Deadlines:
    """The pending requests of one endpoint, in the order in which they were written."""

    def __init__(
        self, home: object, deadline_ns: int, overdue: Callable[[PendingRequest], None]
    ) -> None:
        """`overdue` is called for each request whose deadline has passed, and must give the request
        up."""
        self._home = home
        self._deadline_ns = deadline_ns
        self._overdue = overdue
        self._requests: deque[PendingRequest] = deque()
        self._timer = LookTimer(self._due, self._expire, deadline_ns)

    def __len__(self) -> int:
        """Requests that are neither answered nor given up."""
        return sum(map(self._open, self._requests))

    def add(self, pending: PendingRequest) -> None:
        """Watches a request that is about to be written after all others."""
        pending.since_ns = self._timer.clock()
        self._requests.append(pending)
        self._timer.arm()

    def take_over(self, pending: PendingRequest) -> None:
        """Watches a request that was written to another server first; its deadline stays."""
        pending.home = self._home
        pending.since_ns = self._timer.clock() - (now_ns() - pending.written_ns)
        self._requests.appendleft(pending)
        self._timer.arm()

    def let_go(self) -> bool:
        """Forgets decided requests at the front. Returns whether others are left. Answers come in
        order, so mostly the first requests are decided, and their memory is used again soon."""
        requests, home = self._requests, self._home
        while requests and (requests[0].done or requests[0].home is not home):
            requests.popleft()
        return bool(requests)

    def _open(self, pending: PendingRequest) -> bool:
        return not pending.done and pending.home is self._home

    def _due(self) -> int | None:
        self.let_go()
        if not self._requests:
            return None
        return self._requests[0].since_ns + self._deadline_ns

    def _expire(self, counted_ns: int, looked_ns: int) -> None:
        """Gives up the requests that were overdue when the loop began to look, and are still
        unanswered."""
        requests, deadline = self._requests, self._deadline_ns
        while requests:
            pending = requests[0]
            if not self._open(pending):
                requests.popleft()
            elif self._missing(pending, counted_ns - deadline, looked_ns - deadline):
                requests.popleft()
                self._overdue(pending)
            else:
                break

    def _missing(self, pending: PendingRequest, counted_ns: int, looked_ns: int) -> bool:
        return pending.since_ns <= counted_ns and 0 < pending.written_ns <= looked_ns
