"""Sends requests to one server, books the answers, and decides here what stays unanswered."""

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
from crdtbucket.strong.redis.redis_connection import (
    MAX_OPEN_CALLS,
    RedisConnectionLost,
)
from crdtbucket.strong.redis.resp import GarbledReply, RedisErrorReply
from crdtbucket.strong.room_queue import QueuedRequest, RoomQueue
from crdtbucket.strong.server_link import ServerLink
from crdtbucket.strong.store_request import Answered, SentRequest, StoreRequest
from crdtbucket.strong.window import Window

ELSEWHERE = ("MOVED", "ASK")
COUNTERS = ("answered", "late", "timed_out", "indeterminate", "cancelled")
ASKING = b"*1\r\n$6\r\nASKING\r\n"
UNYIELDED = 64
"""Decisions that are made without waiting for anything before other tasks may run."""


class DispatchListener(Protocol):
    """What the dispatcher asks and tells the endpoint that it belongs to."""

    def barred(self) -> bool:
        """Whether no request may be sent, however well the server is."""

    def request_given_up(self) -> None:
        """A request was decided here, so its key is to be settled."""

    def server_forgot(self) -> None:
        """The server lacks a record that it held: it may have lost others."""

    def server_is_replica(self) -> None:
        """The server takes no writes."""

    def redirect(self, pending: PendingRequest, error: RedisErrorReply) -> bool:
        """Another server decides this (MOVED, ASK). Whether the request was sent there."""


class Dispatcher:
    """One request for each decision, and none twice.

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
        self._listener = listener
        self._deadlines = Deadlines(self, deadline_ns, self._overdue)
        self._queue = RoomQueue(deadline_ns, self._silent)
        self._waiting = self._queue.requests
        self._window = Window(health.controller.latency_limit_ns // 4)
        self._tally = ReadTally(health, ledger.lock, self.counters, self._window)
        self._asked: Batch | None = None
        self._unyielded = 0

    @property
    def open_calls(self) -> int:
        """Decisions that were asked for and are neither made nor given up."""
        return len(self._deadlines) + len(self._waiting)

    def usable(self) -> bool:
        """Whether a request may be sent now."""
        strong = self.health.controller.mode is Mode.STRONG and self._link.connection is not None
        return strong and not self.barred()

    # ---- decisions ----

    async def acquire(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        """The server's decision, or within the deadline that of the mode without it. The deadline
        begins when the request is written, for which it may wait behind others."""
        if self._unyielded >= UNYIELDED:
            self._unyielded = 0
            await asyncio.sleep(0)
        begun = self.begin(bucket, key, cost)
        if isinstance(begun, Decision):
            return begun
        try:
            decision = await begun
        except asyncio.CancelledError:
            self.abandon(begun)
            raise
        assert decision is not None, "a request with a key ends with a decision"
        return decision

    def begin(
        self, bucket: BucketCore, key: str | bytes, cost: int
    ) -> Decision | asyncio.Future[Decision | None]:
        """A decision that is made at once, or the future of one. Raises as `take`."""
        connection = self._link.connection
        if connection is None or not self.usable():
            self._unyielded += 1
            return self._decide_here(bucket, key, cost)
        if self._waiting or not connection.has_room(self._window.size):
            return self._queue.add(partial(self._opened, bucket, key, cost))
        with self._ledger.lock:
            opened = self._ledger.open(bucket, key, cost, self._link.fence)
        if isinstance(opened, Decision):
            self._unyielded += 1
            return opened
        self._unyielded = 0
        return self.send(opened)

    def submit(
        self, opened: Callable[[bool], SentRequest | Decision]
    ) -> Decision | asyncio.Future[Decision | None]:
        """As `begin`, for what makes its request itself: see `QueuedRequest`."""
        connection = self._link.connection
        usable = connection is not None and self.usable()
        if connection and usable and (self._waiting or not connection.has_room(self._window.size)):
            return self._queue.add(opened)
        found = opened(usable)
        return found if isinstance(found, Decision) else self.send(found)

    def abandon(self, future: asyncio.Future[Decision | None]) -> None:
        """The caller of `begin` is gone: tokens that nobody will use go back."""
        self.counters["cancelled"] += 1
        if not future.done():
            future.cancel()
        elif not future.cancelled() and future.exception() is None:
            given = future.result()
            if given is not None and given.allowed:
                self._ledger.refund(given)

    def admit(self) -> None:
        """Sends queued requests while there is room, and decides them here when the server is not
        in use any more."""
        while self._waiting:
            usable, connection = self.usable(), self._link.connection
            if usable and not (connection and connection.has_room(self._window.size)):
                return
            queued = self._queue.pop()
            if not queued.future.done():  # else it was cancelled
                self._admit_one(queued, usable)

    def _admit_one(self, queued: QueuedRequest, usable: bool) -> None:
        try:
            opened = queued.opened(usable)
        except CrdtbucketError as error:
            queued.future.set_exception(error)
            return
        if isinstance(opened, Decision):
            queued.future.set_result(opened)
        else:
            self._send(opened, queued.future)

    def _opened(
        self, bucket: BucketCore, key: str | bytes, cost: int, usable: bool
    ) -> StoreRequest | Decision:
        if not usable:
            return self._decide_here(bucket, key, cost)
        with self._ledger.lock:
            return self._ledger.open(bucket, key, cost, self._link.fence)

    def _silent(self, queued: QueuedRequest) -> None:
        self._admit_one(queued, usable=False)

    def _decide_here(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        return self._ledger.decide_here(bucket, key, cost, self.health.mode_without_store)

    # ---- requests ----

    def send(self, request: SentRequest) -> asyncio.Future[Decision | None]:
        """Sends a request. The future ends within the deadline."""
        future: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        self._send(request, future)
        return future

    def _send(self, request: SentRequest, future: asyncio.Future[Decision | None]) -> None:
        pending = PendingRequest(self, request, future)
        self._deadlines.add(pending)
        self._transmit(pending)

    def take_over(self, pending: PendingRequest, asking: bool) -> None:
        """Sends what another server did not decide; its deadline stays. `asking`: the slot is
        being moved to this server."""
        pending.request.sent_by(self._link.fence)
        self._deadlines.take_over(pending)
        # Whether a server that takes over a slot has the script is not known before it is asked,
        # and it would be asked in vain: ASKING holds for one command.
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
            connection.send(ASKING, _ignore)
        pending.sent = sent = connection.send(command, partial(self._replied, pending))
        pending.first = pending.first or sent
        pending.unanswered = True
        if sent is not self._asked:  # what is written together is asked at one time
            self._asked = sent
            sent.when_written(self.health.asked)

    def replies_read(self) -> None:
        """All that one read brought has been handed out."""
        self._asked = None
        self._tally.tell()
        # Answers end a silence. What was written meanwhile, or is open still, may begin one.
        connection = self._link.connection
        if self._deadlines.let_go() and connection is not None and connection.oldest_ns:
            self.health.asked()
        if self._waiting:
            self._queue.answered()

    def tell(self) -> None:
        """Tells of the answers that were read so far: something comes that is to be told after."""
        self._tally.tell()

    def _replied(self, pending: PendingRequest, reply: object) -> None:
        self._handle(pending, reply)
        if self._waiting:  # at once: the server works on them while the other replies are booked
            self.admit()

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
            answer = pending.request.parse(reply)
            result = self._answered(pending, answer)
        except RedisReplyError as error:
            self._tally.tell()
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
        request, status = pending.request, answer.status
        ledger, lock = request.ledger, self._ledger.lock
        # A denial, and a request that the script sends back, write nothing.
        wrote = status is script.ScriptStatus.ALLOWED and request.cost > 0
        assert pending.sent is not None
        self._tally.add(pending.sent, wrote=wrote, late=pending.done, queued=bool(self._waiting))
        if pending.done:
            ledger.ended(request, answer)
            return None
        if status is script.ScriptStatus.FENCED:
            assert isinstance(request, StoreRequest), "others have no fence"
            with lock:
                self._link.renew_fence(request)
            return request
        if status is script.ScriptStatus.UNKNOWN and not ledger.lacking(request):
            self._listener.server_forgot()
        with lock:
            wanted = not pending.future.cancelled()
            return ledger.book(request, answer, self._link.fence, wanted)

    def _refused(self, pending: PendingRequest, error: RedisErrorReply) -> None:
        """An error reply: the request did not run, or changed nothing."""
        assert pending.sent is not None
        late, latency = pending.done, pending.sent.latency_ns
        self._tally.tell()
        sent_on = error.code in ELSEWHERE and self._listener.redirect(pending, error)
        if sent_on:
            self.health.answered(latency, late=late)
        else:
            self.refused(error, latency, late=late)
        if error.code == "NOSCRIPT" and not late:
            self._transmit(pending, source=True)
        elif not sent_on:
            self._give_up(pending)

    def refused(self, error: RedisErrorReply, latency_ns: int, *, late: bool) -> None:
        """The server answered with an error, which was not redirected."""
        self.health.refused(error, latency_ns, late=late)
        if error.code == "READONLY":
            self._listener.server_is_replica()

    # ---- endings ----

    def _lost(self, pending: PendingRequest) -> None:
        """No answer will come, and it is not known whether the request ran, or still will."""
        self._count_unknown(pending)
        self._give_up(pending)
        pending.request.ledger.connection_ended(pending.request)

    def _count_unknown(self, pending: PendingRequest) -> None:
        if not pending.done:
            self.counters["indeterminate"] += 1

    def _give_up(self, pending: PendingRequest) -> None:
        """Decides without the server, which may or may not have decided."""
        if not pending.done:
            wanted = not pending.future.cancelled()
            mode = self.health.mode_without_store
            request = pending.request
            self._finish(pending, request.ledger.give_up(request, mode, wanted))
            self._listener.request_given_up()
        if not pending.unanswered:
            pending.request.ledger.ended(pending.request)

    def _finish(self, pending: PendingRequest, decision: Decision | None) -> None:
        pending.done = True
        if not pending.future.done():
            pending.future.set_result(decision)

    def _overdue(self, pending: PendingRequest) -> None:
        self.counters["timed_out"] += 1
        self._count_unknown(pending)
        self._give_up(pending)
        self.health.timed_out()


def _ignore(_: object) -> None:
    """The reply to ASKING says nothing that the one to the request does not."""
