"""One Redis server that decides for some of the keys: its connection, its deadlines, its mode."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from crdtbucket._core import BucketCore, Decision
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.histogram import Histogram
from crdtbucket.errors import CrdtbucketError, RedisReplyError
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.mode_controller import Change, Controller, Failure
from crdtbucket.strong.deadlines import Deadlines, PendingRequest, QueuedRequest
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.redis_connection import RedisConnection, RedisConnectionLost
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.rights import explained
from crdtbucket.strong.store_request import Item, StoreRequest
from crdtbucket.strong.supervisor import Supervisor
from crdtbucket.strong.window import Window

if TYPE_CHECKING:
    from crdtbucket.base.address import Address
    from crdtbucket.strong.redis.access import Access
    from crdtbucket.strong.redis.redis_config import RedisConfig

LOG = logging.getLogger("crdtbucket.strong")
ELSEWHERE = ("MOVED", "ASK")
COUNTERS = ("answered", "late", "timed_out", "indeterminate", "cancelled")
ASKING = b"*1\r\n$6\r\nASKING\r\n"


UNYIELDED = 64
"""Decisions that are made without waiting for anything before other tasks get their turn."""


class Endpoint:
    """Asks one server, one ask a decision and none twice.

    Asks and answers of a connection keep their order, so that what is booked here never runs behind
    the server's record. All of it runs on one event loop.
    """

    def __init__(
        self,
        address: Address,
        access: Access,
        config: RedisConfig,
        ledger: Ledger,
        controller: Controller,
        probe: tuple[script.Arguments, script.ScriptCall],
        *,
        now: Callable[[], int],
        fences: Iterator[int],
        owns: Callable[[Endpoint, bytes], bool],
        changed: Callable[[Endpoint, Change], None],
        elsewhere: Callable[[Endpoint, PendingRequest, RedisErrorReply], bool],
        barred: Callable[[], bool] = lambda: False,
    ) -> None:
        """`probe`: a call on a key of this node's own. `fences`: ordinals of connections. `owns`:
        whether a Redis key is decided here. `changed` is told of a new mode; `elsewhere` gets what
        another server decides (MOVED), and tells whether it was sent on. `barred`: whether nothing
        may be asked, however well the server is."""
        self.address = address
        self.access = access
        self.controller = controller
        self.fence = 0
        self.latency = Histogram()
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.failed: dict[str, int] = {}
        self.ledger = ledger
        self.now = now
        self._owns = owns
        self._changed = changed
        self._elsewhere = elsewhere
        self._barred = barred
        self._complained = ""
        self._deadlines = Deadlines(self, config.deadline_ns, self._overdue)
        self.connection: RedisConnection | None = None
        self._window = Window(controller.latency_limit_ns // 4)
        self._waiting: deque[QueuedRequest] = deque()
        self._unyielded = 0
        self.supervisor = Supervisor(
            self,
            access,
            config,
            probe,
            fences=fences,
            mine=self._mine,
            outage_after=controller.outage_after,
        )
        self._slow = False
        self._mode_ns: dict[Mode, int] = {}
        self._mode_since = now()
        self._switches = 0

    # ---- decisions ----

    @property
    def mode(self) -> Mode:
        """How decisions are made here now."""
        return self.controller.mode

    @property
    def open_calls(self) -> int:
        """Decisions that are asked for, or wait to be, and that nobody has made or given up."""
        return len(self._deadlines) + len(self._waiting)

    def usable(self) -> bool:
        """Whether a decision may be asked for now."""
        strong = self.controller.mode is Mode.STRONG and self.connection is not None
        return strong and not self._barred()

    def may_settle(self) -> bool:
        """Whether the server may be told of what it lacks."""
        return not self._barred()

    async def acquire(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        """The server's decision, or within the deadline that of the rule for its absence; the
        deadline begins when the call is written, for which it may wait behind others."""
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
        assert decision is not None, "an ask with a key ends with a decision"
        return decision

    def begin(
        self, bucket: BucketCore, key: str | bytes, cost: int
    ) -> Decision | asyncio.Future[Decision | None]:
        """A decision that is made at once, or what will hold it. Raises as `take`."""
        if not self.usable():
            self._unyielded += 1
            return self.ledger.away(bucket, key, cost, self.away_mode())
        connection = self.connection
        room = connection is not None and connection.has_room(self._window.size)
        if self._waiting or not room:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(QueuedRequest(bucket, key, cost, future))
            return future
        with self.ledger.lock:
            opened = self.ledger.open(bucket, key, cost, self.fence)
        if isinstance(opened, Decision):
            self._unyielded += 1
            return opened
        self._unyielded = 0
        return self.send(opened)

    def abandon(self, future: asyncio.Future[Decision | None]) -> None:
        """The caller of `begin` is gone: the tokens that nobody will use go back."""
        self.counters["cancelled"] += 1
        if not future.done():
            future.cancel()
        elif not future.cancelled() and future.exception() is None:
            given = future.result()
            if given is not None and given.allowed:
                self.ledger.give_back(given)

    def admit(self) -> None:
        """Those who waited for room are asked for while there is some, and decided here when the
        server is not asked any more."""
        waiting = self._waiting
        while waiting:
            usable, connection = self.usable(), self.connection
            if usable and not (connection and connection.has_room(self._window.size)):
                return
            bucket, key, cost, future = waiting.popleft()
            if future.done():
                continue  # cancelled: nothing was asked
            try:
                opened: StoreRequest | Decision
                if usable:
                    with self.ledger.lock:
                        opened = self.ledger.open(bucket, key, cost, self.fence)
                else:
                    opened = self.ledger.away(bucket, key, cost, self.away_mode())
            except CrdtbucketError as error:
                future.set_exception(error)
                continue
            if isinstance(opened, Decision):
                future.set_result(opened)
            else:
                self._send(opened, future)

    def away_mode(self) -> Mode:
        """The rule for a decision that the server does not make."""
        return self.controller.mode if self.controller.mode is not Mode.STRONG else Mode.FALLBACK

    def send(self, request: StoreRequest) -> asyncio.Future[Decision | None]:
        """Puts an ask on its way. The future ends within the deadline."""
        future: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        self._send(request, future)
        return future

    def _send(self, request: StoreRequest, future: asyncio.Future[Decision | None]) -> None:
        pending = PendingRequest(self, request, future)
        self._deadlines.add(pending)
        self.transmit(pending)

    def transmit(
        self, pending: PendingRequest, *, source: bool = False, asking: bool = False
    ) -> None:
        """Sends a turn's ask; with `source` the whole script, to a server that lost it; `asking`
        for a slot on its way."""
        connection = self.connection
        if connection is None or connection.congested or connection.closed:
            self._give_up(pending)
            return
        arguments = pending.request.rules.arguments
        call = pending.request.call
        command = arguments.eval_command(call) if source else arguments.command(call)
        self.controller.asked(self.now())
        if asking:
            connection.send(ASKING, _ignore)
        pending.sent = connection.send(command, partial(self._replied, pending))
        pending.first = pending.first or pending.sent
        pending.out = True

    def _replied(self, pending: PendingRequest, reply: object) -> None:
        self._handle(pending, reply)
        if self._waiting:
            self.admit()

    def _handle(self, pending: PendingRequest, reply: object) -> None:
        if isinstance(reply, RedisConnectionLost):
            self._count_unknown(pending)
            self._give_up(pending)
            self.ledger.adrift(pending.request)
            return
        pending.out = False
        if isinstance(reply, RedisErrorReply):
            self._refused(pending, reply)
            return
        try:
            answer = script.parse(reply)
            assert pending.sent is not None
            latency = pending.sent.latency_ns
            late = pending.done
            with self.ledger.lock:
                self.latency.add(latency)
                self.counters["late" if late else "answered"] += 1
            if self._waiting:
                self._window.answered(latency)
            # A denial, and a call that the script sends back, write nothing.
            wrote = answer.status is script.ScriptStatus.ALLOWED and pending.request.cost > 0
            self.note(self.controller.answered(self.now(), latency, late=late, wrote=wrote))
            if late:
                self.ledger.ended(pending.request, answer)
                return
            if answer.status is script.ScriptStatus.FENCED:
                self.renew_fence(pending.request)
                self.transmit(pending)
                return
            if (
                answer.status is script.ScriptStatus.UNKNOWN
                and pending.request.item not in self.ledger.unsettled.pending
            ):
                self.supervisor.distrust()  # it held a record once: it may have lost others
            with self.ledger.lock:
                wanted = not pending.future.cancelled()
                result = self.ledger.answer(pending.request, answer, self.fence, wanted)
        except RedisReplyError as error:
            self.fail(Failure.SCRIPT, str(error))
            self._count_unknown(pending)
            self._give_up(pending)
            return
        if isinstance(result, StoreRequest):
            pending.request = result
            self.transmit(pending)
        elif result is None and pending.request.key is not None:
            self._give_up(pending)
        else:
            self._finish(pending, result)

    def renew_fence(self, request: StoreRequest) -> None:
        """A call was refused, as a younger connection has asked for its key: that of another server
        from which the key has come here, or one of a thread."""
        with self.ledger.lock:
            if request.call.fence == self.fence:
                self.fence = self.supervisor.next_fence()
            request.call.fence = self.fence

    def answered(
        self, latency_ns: int, wrote: bool, tell: Callable[[Callable[[], None]], None]
    ) -> None:
        """A thread's own call was answered in time; `wrote`: as of the controller. What that leads
        to is done by way of `tell`, on the event loop."""
        change = self.controller.answered(self.now(), latency_ns, wrote=wrote)
        with self.ledger.lock:
            self.latency.add(latency_ns)
            self.counters["answered"] += 1
        if change is not None or self.controller.slow is not self._slow:
            tell(partial(self.note, change))

    def lost_elsewhere(self, error: BaseException) -> None:
        """A thread's own call has no answer: it came too late, or the connection ended."""
        self.counters["indeterminate"] += 1
        self.supervisor.wake()
        if isinstance(error, TimeoutError):
            self.counters["timed_out"] += 1
            self.note(self.controller.timed_out(self.now()))
        elif isinstance(error, RedisConnectionLost):
            self.fail(Failure(error.kind), str(error))
        else:
            self.counters["cancelled"] += 1

    def _refused(self, pending: PendingRequest, error: RedisErrorReply) -> None:
        """An error reply: the call did not run, or changed nothing."""
        assert pending.sent is not None
        late, latency = pending.done, pending.sent.latency_ns
        sent_on = error.code in ELSEWHERE and self._elsewhere(self, pending, error)
        if not sent_on:
            self.refused(error, latency, late=late)
        else:
            self.note(self.controller.answered(self.now(), latency, late=late))
        if error.code == "NOSCRIPT" and not late:
            self.transmit(pending, source=True)
        elif not sent_on:
            self._give_up(pending)

    def refused(self, error: RedisErrorReply, latency_ns: int, *, late: bool) -> None:
        """What an error reply says of the server. `late`: its deadline was over."""
        if error.code == "NOSCRIPT":
            # It is well, and only wants to be asked otherwise.
            self.note(self.controller.answered(self.now(), latency_ns, late=late))
        else:
            self.fail(Failure(error.kind), explained(self.address, error))
            if error.code == "READONLY":
                self.supervisor.turn_away()

    def _count_unknown(self, pending: PendingRequest) -> None:
        """Whether the server ran this call is not known."""
        if pending.sent is not None and not pending.done:
            self.counters["indeterminate"] += 1

    def _give_up(self, pending: PendingRequest) -> None:
        """Decides without the server, which may or may not have decided."""
        if not pending.done:
            wanted = not pending.future.cancelled()
            self._finish(pending, self.ledger.lost(pending.request, self.away_mode(), wanted))
            self.supervisor.wake()
        if not pending.out:
            self.ledger.ended(pending.request)

    def _finish(self, pending: PendingRequest, decision: Decision | None) -> None:
        pending.done = True
        self._deadlines.let_go()
        if not pending.future.done():
            pending.future.set_result(decision)

    def stats(self) -> dict[str, Any]:
        """Numbers for people and metrics."""
        now, seconds = self.now(), dict(self._mode_ns)
        seconds[self.mode] = seconds.get(self.mode, 0) + now - self._mode_since
        return {
            "mode": str(self.mode),
            "mode_seconds": {str(mode): ns / NS_PER_SECOND for mode, ns in seconds.items()},
            "switches": self._switches,
            "slow": self.controller.slow,
            **self.counters,
            "failed": dict(self.failed),
            "latency": self.latency.cumulative(),
            "latency_sum": self.latency.sum_ns / NS_PER_SECOND,
            "open_calls": self.open_calls,
            "evicts": int(self.supervisor.facts.evicts),
            "evicted": self.supervisor.facts.evicted or 0,
        }

    def _overdue(self, pending: PendingRequest) -> None:
        self.counters["timed_out"] += 1
        self._count_unknown(pending)
        self._give_up(pending)
        self.note(self.controller.timed_out(self.now()))

    # ---- other servers ----

    def move(self, address: Address) -> None:
        """The server failed over: the same keys are decided at another address."""
        self.address = address
        self.controller.moved(self.now())
        self.supervisor.drop()
        self.supervisor.wake()

    def take_over(self, pending: PendingRequest, asking: bool) -> None:
        """Asks here what another server did not decide; its deadline stays. `asking`: the slot is
        on its way here."""
        pending.home = self
        pending.request.call.fence = self.fence
        self._deadlines.take_over(pending)
        # Whether a server that takes over a slot has the script is not known before it is asked,
        # and it would be asked in vain: ASKING holds for one command.
        self.transmit(pending, source=asking, asking=asking)

    def _mine(self, item: Item) -> bool:
        return self._owns(self, self.ledger.name(*item))

    # ---- modes ----

    def fail(self, failure: Failure, why: str) -> None:
        self.failed[failure.value] = self.failed.get(failure.value, 0) + 1
        if failure is Failure.AUTH and why != self._complained:
            self._complained = why  # nothing but a person mends it, and retries would fill the log
            LOG.error("%s", why)
        else:
            LOG.debug("%s: %s", self.address, why)
        self.note(self.controller.failed(self.now(), failure, why))

    def note(self, change: Change | None) -> None:
        """What an answer, or time, has led to: a new mode, or that the server is slow."""
        if self.controller.slow is not self._slow:
            self._slow = not self._slow
            if change is None:
                self._tell_slow()
        if change is not None:
            now = self.now()
            spent = self._mode_ns.get(change.before, 0) + now - self._mode_since
            self._mode_ns[change.before] = spent
            self._mode_since = now
            self._switches += 1
            self.supervisor.wake()
            self._changed(self, change)
            self.admit()

    def _tell_slow(self) -> None:
        if self._slow:
            why = "without a mesh an exact answer that is slow is worth more than the quota"
            slowness = self.controller.slowness
            LOG.warning("Redis %s: slow: %s; still strong, for %s", self.address, slowness, why)
        else:
            LOG.info("Redis %s: no longer slow", self.address)


def _ignore(_: object) -> None:
    """The reply to ASKING says nothing that the one to the call does not."""


__all__ = ["Endpoint"]
