"""One Redis server that decides for some of the keys: its connection, its mode, its upkeep."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from crdtbucket.base.address import Address
from crdtbucket.base.clock import now_ns
from crdtbucket.errors import RedisUnavailable
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.address_watch import AddressWatch
from crdtbucket.strong.controller.mode_controller import Change, Controller
from crdtbucket.strong.controller.outage import Failure
from crdtbucket.strong.deadlines import PendingRequest
from crdtbucket.strong.dispatcher import Dispatcher
from crdtbucket.strong.endpoint_health import EndpointHealth
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.redis import script
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.beats import BeatArguments
from crdtbucket.strong.redis.blocking_connection import AnswerTooLate, BlockingConnection
from crdtbucket.strong.redis.lateness import lateness_of
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection, RedisConnectionLost
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.slot_script import SLOT_SCRIPT
from crdtbucket.strong.redis.topology import Ranges
from crdtbucket.strong.region_watch import RegionWatch
from crdtbucket.strong.resync import Resync
from crdtbucket.strong.server_link import ServerLink
from crdtbucket.strong.store_request import Item
from crdtbucket.strong.supervisor import Probe, Supervisor


class EndpointOwner(Protocol):
    """The owner of all endpoints as one endpoint sees it: what the endpoint asks of it and reports
    to it."""

    def next_fence(self) -> int:
        """A fence above all that this process has used."""

    def known_run_id(self, address: Address) -> str | None:
        """The server at an address as an earlier epoch met it; see `Supervisor`."""

    def owns(self, endpoint: Endpoint, name: bytes) -> bool:
        """Whether a Redis key is decided at an endpoint."""

    def barred(self) -> bool:
        """Whether no server may be used, even if it works."""

    def redirect(self, endpoint: Endpoint, pending: PendingRequest, error: RedisErrorReply) -> bool:
        """Another server decides this (MOVED, ASK). Whether the request was sent there."""

    def mode_changed(self, endpoint: Endpoint, change: Change) -> None:
        """An endpoint has a new mode."""

    def probe(self, ranges: Ranges) -> Probe:
        """A call on a key in these slots, to see whether their server decides."""

    def nodes_here(self) -> int:
        """Processes of this region; 0 before they were ever counted."""

    @property
    def regions(self) -> Regions | None:
        """The regions of a replicated Redis; None for one that all nodes share."""


class ThreadConnection(NamedTuple):
    """A thread's connection to one server; `connection` is None when the last attempt failed."""

    connection: BlockingConnection | None
    loops_connection: RedisConnection | None
    """The connection of the event loop at that time. When that is a new one, the server may be
    another one."""
    made_ns: int


class OfThread(threading.local):
    """The connection of the thread that asks for it."""

    known: ThreadConnection | None = None


class Endpoint:
    """Owns the parts that belong to one server. The parts call each other's methods, and the
    endpoint passes on what one part reports to another."""

    def __init__(
        self,
        address: Address,
        access: Access,
        config: RedisConfig,
        ledger: Ledger,
        controller: Controller,
        ranges: Ranges,
        owner: EndpointOwner,
    ) -> None:
        # Called for every decision, so not through a method of this class.
        self.barred = owner.barred
        regions, prefix = owner.regions, config.prefix.encode()
        scripts = [script.SOURCE, SLOT_SCRIPT.source]
        if regions is not None:
            scripts = [ReplicatedArguments.script.source, BeatArguments.script.source]
        self.link = ServerLink(address, access, owner.next_fence, self, scripts)
        self.watch = None
        if regions is not None:
            self.watch = RegionWatch(regions, prefix, self.link, owner.nodes_here)
        lateness = lateness_of(asyncio.get_running_loop())

        def now() -> int:
            """Local ns, without the time for which this process was stopped while it waited for an
            answer."""
            return ledger.table.now() - lateness.stopped()

        self.health = EndpointHealth(self.link, controller, now, ledger.lock, self)
        self.dispatcher = Dispatcher(ledger, self.link, self.health, config.deadline_ns, self)
        self.resync = Resync(ledger, self.link, self.dispatcher, self._owns)
        self.supervisor = Supervisor(
            ledger,
            self.link,
            self.dispatcher,
            self.resync,
            config,
            owner.probe(ranges),
            owner.known_run_id(address),
        )
        self.address_watch = AddressWatch(self.link, now_ns, self.supervisor.connect_anew)
        self.of_thread = OfThread()
        """The own connections of threads; belongs to `Threads`."""
        self._ledger = ledger
        self._owner = owner
        self._ranges = ranges

    @property
    def upkeep(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """The coroutines that run for the server until they are cancelled. Each becomes a task of
        its own: one task around all of them would notice a blocked loop later, and take it for a
        slow Redis."""
        works = [self.supervisor.run, self.address_watch.run]
        return works if self.watch is None else [*works, self.watch.run]

    @property
    def address(self) -> Address:
        """The address of the server."""
        return self.link.address

    @property
    def mode(self) -> Mode:
        """The mode in which decisions are made at this endpoint now."""
        return self.health.mode

    def serve(self, ranges: Ranges) -> None:
        """The server has these slots now. The probe moves to a key in them: a server that gave away
        the slot of its probe would answer every probe with another server's address, and would
        never be strong again."""
        if ranges != self._ranges:
            self._ranges = ranges
            self.supervisor.probe_with(self._owner.probe(ranges))

    def move(self, address: Address) -> None:
        """The server failed over: the same keys are decided at another address."""
        self.health.moved()
        self.link.move(address)
        self.dispatcher.queue.admit()
        self.supervisor.wake()

    def thread_lost(self, error: BaseException) -> None:
        """A request of a thread got no answer in time, or its connection ended."""
        counters = self.dispatcher.counters
        counters["indeterminate"] += 1
        self.supervisor.wake()
        if isinstance(error, AnswerTooLate):
            counters["timed_out"] += 1
            self.health.timed_out()
        elif isinstance(error, RedisConnectionLost):
            self.health.fail(Failure(error.kind), str(error))
        else:
            counters["cancelled"] += 1

    def stats(self) -> dict[str, Any]:
        """Numbers for people and metrics."""
        server = self.supervisor.facts
        return {
            **self.health.stats(),
            **self.dispatcher.counters,
            "open_calls": self.dispatcher.open_calls,
            "evicts": int(server.evicts),
            "evicted": server.evicted or 0,
        }

    def _owns(self, item: Item) -> bool:
        return self._owner.owns(self, self._ledger.names.key(*item))

    # ---- what the parts report ----

    def connection_lost(self, error: RedisUnavailable) -> None:
        """The connection in use ended: the health notes the failure, and the supervisor connects
        again."""
        self.health.fail(Failure(error.kind), str(error))
        self.dispatcher.queue.admit()
        self.supervisor.wake()

    def replies_read(self) -> None:
        self.dispatcher.replies_read()

    def mode_changed(self, change: Change) -> None:
        """The endpoint has a new mode, so calls that wait are looked at again."""
        self.supervisor.wake()
        self._owner.mode_changed(self, change)
        self.dispatcher.queue.admit()

    def server_is_replica(self) -> None:
        self.supervisor.server_is_replica()

    def request_given_up(self) -> None:
        """A request was decided here, so the supervisor settles its key."""
        self.supervisor.wake()

    def server_forgot(self) -> None:
        self.supervisor.server_forgot()

    def redirect(self, pending: PendingRequest, error: RedisErrorReply) -> bool:
        return self._owner.redirect(self, pending, error)
