"""Sends requests to one server, books the answers, and decides in this process the requests that
stay unanswered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from crdtbucket._core import BucketCore, Decision
from crdtbucket.errors import CrdtbucketError, RedisReplyError
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.outage import Failure
from crdtbucket.strong.deadlines import Deadlines, PendingRequest
from crdtbucket.strong.endpoint_health import EndpointHealth
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.read_tally import ReadTally
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.command_batch import Batch
from crdtbucket.strong.redis.redis_connection import MAX_OPEN_CALLS, RedisConnectionLost
from crdtbucket.strong.redis.resp import GarbledReply, RedisErrorReply
from crdtbucket.strong.room_queue import RoomQueue
from crdtbucket.strong.server_link import ServerLink
from crdtbucket.strong.store_request import Answered, SentRequest, StoreRequest
from crdtbucket.strong.window import Window

ELSEWHERE = ("MOVED", "ASK")
COUNTERS = ("answered", "late", "timed_out", "indeterminate", "cancelled")
ASKING = b"*1\r\n$6\r\nASKING\r\n"
UNYIELDED = 64
"""Decisions that are made without waiting for anything before other tasks may run."""


class DispatchListener(Protocol):
    """The endpoint as its dispatcher sees it: what the dispatcher asks of it and reports to it."""

    def barred(self) -> bool:
        """Whether no request may be sent, even if the server works."""

    def request_given_up(self) -> None:
        """A request was decided here, so its key is to be settled."""

    def server_forgot(self) -> None:
        """The server lacks a record that it held: it may have lost others."""

    def redirect(self, pending: PendingRequest, error: RedisErrorReply) -> bool:
        """Another server decides this (MOVED, ASK). Whether the request was sent there."""


class Dispatcher:
    """Sends one request for each decision, and none twice.

    Requests and answers of a connection keep their order, so that the ledger is never behind the
    server's record. All of it runs on one event loop.
    """

    def __init__(
        self,
        ledger: Ledger,
        link: ServerLink,
        health: EndpointHealth,
        deadline_ns: int,
        listener: DispatchListener,
    ) -> None:
        self.barred = listener.barred
        self.counters = dict.fromkeys(COUNTERS, 0)
        self._ledger = ledger
        self._link = link
        self.health = health
        self._controller = health.controller
        self._listener = listener
        self._deadlines = Deadlines(self, deadline_ns, self._overdue)
        self.queue = RoomQueue(deadline_ns, self)
        self._waiting = self.queue.requests
        self._window = Window(health.controller.latency_limit_ns // 4)
        self.tally = ReadTally(health, ledger.lock, self.counters, self._window)
        # Asking for the running loop is a system call on some Pythons, so not for each decision.
        self._new_future = asyncio.get_running_loop().create_future
        self._asked: Batch | None = None
        self._unyielded = 0

    @property
    def open_calls(self) -> int:
        """Decisions that were asked for and are neither made nor given up."""
        return len(self._deadlines) + len(self._waiting)

    def usable(self) -> bool:
        """Whether a request may be sent now."""
        strong = self._controller.mode is Mode.STRONG and self._link.connection is not None
        return strong and not self.barred()

    def full(self) -> bool:
        """Whether as many requests are in flight as may be."""
        connection = self._link.connection
        return connection is None or not connection.has_room(self._window.size)

    # ---- decisions ----

    async def acquire(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        """The server's decision or, if it does not come within the deadline, that of the mode
        without the server. The deadline begins when the request is written; before that it may wait
        behind others."""
        if self._unyielded >= UNYIELDED:
            self._unyielded = 0
            await asyncio.sleep(0)
        begun = self.begin(bucket, key, cost)
        if isinstance(begun, Decision):
            return begun
        try:
            decision = await begun
        except asyncio.CancelledError:
            self.abandon(begun, self._ledger.refund)
            raise
        assert decision is not None, "a request with a key ends with a decision"
        return decision

    def begin(
        self, bucket: BucketCore, key: str | bytes, cost: int
    ) -> Decision | asyncio.Future[Decision | None]:
        """A decision that is made at once, or the future of one. Raises as `take`."""
        begun = self.queue.submit(partial(self._opened, bucket, key, cost))
        self._unyielded = self._unyielded + 1 if isinstance(begun, Decision) else 0
        return begun

    def abandon(
        self, future: asyncio.Future[Decision | None], give_back: Callable[[Decision], None]
    ) -> None:
        """The caller of `begin`, or of the queue, has given up: its decision is refunded."""
        self.counters["cancelled"] += 1
        if not future.done():
            future.cancel()
        elif not future.cancelled() and future.exception() is None:
            given = future.result()
            if given is not None and given.allowed:
                give_back(given)

    def _opened(
        self, bucket: BucketCore, key: str | bytes, cost: int, usable: bool
    ) -> StoreRequest | Decision:
        if not usable:
            return self._ledger.decide_here(bucket, key, cost, self.health.mode_without_store)
        with self._ledger.lock:
            return self._ledger.open(bucket, key, cost, self._link.fence)

    # ---- requests ----

    def send(
        self, request: SentRequest, future: asyncio.Future[Decision | None] | None = None
    ) -> asyncio.Future[Decision | None]:
        """Sends a request, and returns the future of its decision, which ends within the
        deadline."""
        future = future or self._new_future()
        pending = PendingRequest(self, request, future)
        self._deadlines.add(pending)
        self._transmit(pending)
        return future

    def take_over(self, pending: PendingRequest, asking: bool) -> None:
        """Sends what another server did not decide; its deadline stays. `asking`: the slot is
        being moved to this server."""
        pending.request.sent_by(self._link.fence)
        self._deadlines.take_over(pending)
        # The whole script is sent, since nobody knows whether a server that takes over a slot has
        # it. A first request without it would be lost, as ASKING holds for one command only.
        self._transmit(pending, source=asking, asking=asking)

    def _transmit(
        self, pending: PendingRequest, *, source: bool = False, asking: bool = False
    ) -> None:
        """Sends a request; with `source` the whole script, to a server that lacks it; `asking` for
        a slot that is being moved."""
        connection = self._link.connection
        if connection is None or not connection.has_room(MAX_OPEN_CALLS):
            self._give_up(pending)
            return
        command = pending.request.command(self._link.beats, source)
        if asking:
            connection.send(ASKING, lambda _: None)  # its reply is not needed
        pending.sent = sent = connection.send(command, partial(self._replied, pending))
        pending.first = pending.first or sent
        pending.unanswered = True
        if sent is not self._asked:  # commands that are written together count as asked once
            self._asked = sent
            sent.when_written(self.health.asked)

    def replies_read(self) -> None:
        """All replies of one read have been handed out."""
        self._asked = None
        self.tally.tell()
        # Answers end a silence. Requests that were written meanwhile, or are still open, may begin
        # a new one.
        connection = self._link.connection
        if self._deadlines.let_go() and connection is not None and connection.oldest_ns:
            self.health.asked()
        if self._waiting:
            self.queue.answered()

    def _replied(self, pending: PendingRequest, reply: object) -> None:
        self._handle(pending, reply)
        if self._waiting:  # now: the server works on them while other replies are booked
            self.queue.admit()

    def _handle(self, pending: PendingRequest, reply: object) -> None:
        if isinstance(reply, RedisConnectionLost):
            self._lost(pending)
            return
        pending.unanswered = False
        if isinstance(reply, RedisErrorReply):
            self._refused(pending, reply)
            return
        late = pending.done
        try:
            result = self._answered(pending, pending.request.parse(reply))
        except RedisReplyError as error:
            self.tally.tell()
            self.health.fail(Failure.SCRIPT, str(error))
            pending.unanswered = True
            self._lost(pending)
            raise GarbledReply("what is no answer of the script") from error
        if late:
            return
        if result is None and pending.request.key is not None:
            self._give_up(pending)
        elif result is None or isinstance(result, Decision):
            self._finish(pending, result)
        else:
            pending.request = result
            self._transmit(pending)

    def _answered(self, pending: PendingRequest, answer: Answered) -> Decision | SentRequest | None:
        """Books an answer. Returns what `Ledger.book` does, or the same request to be sent again.
        Raises `RedisReplyError`."""
        request = pending.request
        # The server writes nothing for a denial, or for a request that the script sends back.
        wrote = answer.status is script.ALLOWED and request.cost > 0
        assert pending.sent is not None
        self.tally.add(pending.sent, wrote=wrote, late=pending.done, queued=bool(self._waiting))
        if pending.done:
            request.ledger.ended(request, answer)
            return None
        wanted = not pending.future.cancelled()
        with self._ledger.lock:
            return self._link.book(request, answer, wanted, self._listener.server_forgot)

    def _refused(self, pending: PendingRequest, error: RedisErrorReply) -> None:
        """An error reply came: the request did not run, or changed nothing."""
        assert pending.sent is not None
        late, latency = pending.done, pending.sent.latency_ns
        self.tally.tell()
        if error.code in ELSEWHERE and self._listener.redirect(pending, error):
            self.health.answered(latency, late=late)
            return
        self.health.refused(error, latency, late=late)
        if error.code == "NOSCRIPT" and not late:
            self._transmit(pending, source=True)
        else:
            self._give_up(pending)

    # ---- endings ----

    def _lost(self, pending: PendingRequest) -> None:
        """No answer will come, and it is not known whether the request ran, or still will."""
        if not pending.done:
            self.counters["indeterminate"] += 1
        self._give_up(pending)
        pending.request.ledger.connection_ended(pending.request)

    def _give_up(self, pending: PendingRequest) -> None:
        """Decides without the server, which may or may not have run the request."""
        if not pending.done:
            request, mode = pending.request, self.health.mode_without_store
            try:
                decision = request.ledger.give_up(request, mode, not pending.future.cancelled())
            except CrdtbucketError as error:  # the limiter was closed or changed meanwhile
                pending.done = True
                pending.future.set_exception(error)
            else:
                self._finish(pending, decision)
            self._listener.request_given_up()
        if not pending.unanswered:
            pending.request.ledger.ended(pending.request)

    def _finish(self, pending: PendingRequest, decision: Decision | None) -> None:
        pending.done = True
        if not pending.future.done():
            pending.future.set_result(decision)

    def _overdue(self, pending: PendingRequest) -> None:
        self.counters["timed_out"] += 1
        self.counters["indeterminate"] += 1
        self._give_up(pending)
        self.health.timed_out()
