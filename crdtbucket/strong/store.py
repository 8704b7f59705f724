"""The shared store as a limiter sees it: decisions by any of its primaries, and its modes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from crdtbucket._core import BucketCore, Decision
from crdtbucket.base.across import block_on, run_on, runs_here
from crdtbucket.base.lasting import lasting
from crdtbucket.errors import CrdtbucketError, LimiterClosed
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.mode_controller import Change
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.endpoints import ControllerFactory, Endpoints
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.registry import Registry
from crdtbucket.strong.redis.shares import WantedShare
from crdtbucket.strong.store_regions import StoreRegions
from crdtbucket.strong.store_slots import StoreSlots
from crdtbucket.strong.store_upkeep import StoreUpkeep
from crdtbucket.strong.threads import Threads

LOG = logging.getLogger("crdtbucket.strong")
Asked = tuple[BucketCore, "str | bytes", int]
"""A bucket, a key and a cost."""
T = TypeVar("T")


class StoreOwner(Protocol):
    """The limiter as its store sees it: what the store asks of it and reports to it."""

    def endpoint_changed(self, address: str, change: Change) -> None:
        """The endpoint at an address has a new mode."""

    def worst_mode_changed(self, mode: Mode) -> None:
        """The worst mode of all endpoints, at the start and at every change."""

    def wanted_share(self) -> WantedShare:
        """The share of every limit that this process would grant without Redis."""

    @property
    def regions(self) -> Regions | None:
        """The regions of a replicated Redis; None for one that all nodes share."""


class Store:
    """Strong decisions of one process; everything runs on the event loop that makes it."""

    def __init__(
        self,
        config: RedisConfig,
        ledger: Ledger,
        node: str,
        controller: ControllerFactory,
        owner: StoreOwner,
        met: Mapping[str, str] | None,
    ) -> None:
        """`controller`: makes the mode controller of an endpoint. `met`: the servers that held
        everything at the end of this node's previous epoch, and the run id of each; None without
        such an epoch."""
        self.ledger = ledger
        table, regions = ledger.table, owner.regions
        self.regions = StoreRegions(regions, config.prefix, table, self._endpoints)
        elsewhere = None if regions is None else self.regions.nodes_elsewhere
        self.registry = Registry(config.prefix, node, table, owner.wanted_share, regions, elsewhere)
        self._places = Endpoints(config, ledger, self.registry, controller, self, met, regions)
        self._loop = asyncio.get_running_loop()
        self._loops_thread = threading.get_ident()
        self._threads = Threads(ledger, self._loop, config.deadline_ns)
        self.slots = StoreSlots(ledger.slots, self._places, self._loop)
        self._upkeep = StoreUpkeep(
            self._places, self.registry, self.regions, owner.worst_mode_changed
        )
        self._upkeep_task: asyncio.Task[None] | None = None
        self._owner = owner

    def renew(self, config: RedisConfig) -> None:
        """The credentials are those of `config` from now on; from any thread."""
        self._places.renew(config)

    # ---- start and stop ----

    async def start(self) -> None:
        """Connects, or finds within the time-out that it cannot: that changes the mode, and is no
        error."""
        await self._places.locate()
        await self._places.connect()
        await self._upkeep.register()
        await self._places.run()
        upkeep = lasting(self._upkeep.run, "the upkeep of Redis", LOG)
        self._upkeep_task = asyncio.create_task(upkeep)
        self._upkeep.report_mode()

    async def stop(self) -> None:
        """Settles what is unsettled, if the store serves, and closes the connections."""
        await self.slots.stop()
        tasks = self._places.cancel()
        if self._upkeep_task is not None:
            self._upkeep_task.cancel()
            tasks.append(self._upkeep_task)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._threads.stop()
        holder = self._places.at(self.registry.name)
        connection = None if holder is None else holder.link.connection
        if connection is not None and self.registry.seen:
            await self.registry.leave(connection)
        await self._places.stop()

    def _endpoints(self) -> list[Endpoint]:
        return list(self._places.by_address.values())

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """Each endpoint by its address."""
        return {str(address): one for address, one in list(self._places.by_address.items())}

    def outages(self) -> dict[str, dict[str, Any]]:
        """Each endpoint that is not strong; see `EndpointHealth.outlook`."""
        found = ((address, one.health.outlook()) for address, one in self.endpoints.items())
        return {address: outlook for address, outlook in found if outlook is not None}

    @property
    def fault(self) -> str:
        """Why no Redis is used at all; "" where one is."""
        return self.registry.conflict or self._places.unknown

    def servers(self) -> tuple[tuple[str, str], ...]:
        """Each server that was met, and its run id."""
        met = ((address, one.supervisor.run_id) for address, one in self.endpoints.items())
        return tuple((address, run_id) for address, run_id in met if run_id)

    # ---- decisions ----

    @property
    def mode(self) -> Mode:
        """The worst mode of all endpoints; fallback while none is known or none may be used."""
        return self._upkeep.mode

    def acquire(
        self, bucket: BucketCore, key: str | bytes, cost: int
    ) -> Coroutine[Any, Any, Decision]:
        """Asks the store; from any event loop."""
        if asyncio.get_running_loop() is not self._loop:
            return self._on_own_loop(self._acquire(bucket, key, cost), self._give_back)
        endpoint = self._places.of(bucket, key)
        if endpoint is None:
            return self._acquire(bucket, key, cost)
        return endpoint.dispatcher.acquire(bucket, key, cost)

    async def acquire_many(self, asked: Sequence[Asked]) -> list[Decision]:
        """Asks the store for one pipelined batch of decisions; the arguments are checked
        already."""
        work = self._acquire_many(asked)
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await self._on_own_loop(work, lambda decisions: self._give_back(*decisions))

    async def _acquire_many(self, asked: Sequence[Asked]) -> list[Decision]:
        begun: list[tuple[Endpoint, asyncio.Future[Decision | None]]] = []
        found: list[Decision | asyncio.Future[Decision | None]] = []
        try:
            for bucket, key, cost in asked:
                endpoint = self._places.of(bucket, key)
                if endpoint is None:
                    found.append(self.ledger.decide_here(bucket, key, cost, Mode.FALLBACK))
                    continue
                one = endpoint.dispatcher.begin(bucket, key, cost)
                found.append(one)
                if not isinstance(one, Decision):
                    begun.append((endpoint, one))
            await asyncio.gather(*(future for _, future in begun))
        except BaseException:
            # No caller gets the other decisions, so their tokens go back, also those of decisions
            # still to come.
            self._give_back(*(one for one in found if isinstance(one, Decision)))
            for endpoint, future in begun:
                endpoint.dispatcher.abandon(future, self.ledger.refund)
            raise
        return [one if isinstance(one, Decision) else _decided(one) for one in found]

    def _give_back(self, *decisions: Decision) -> None:
        """Refunds decisions whose callers have given up."""
        for decision in decisions:
            if decision.allowed:
                self.ledger.refund(decision)

    async def _acquire(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        endpoint = self._places.of(bucket, key)
        if endpoint is None:
            await asyncio.sleep(0)  # nothing else awaits here, and other tasks shall run
            return self.ledger.decide_here(bucket, key, cost, Mode.FALLBACK)
        return await endpoint.dispatcher.acquire(bucket, key, cost)

    def acquire_sync(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        """`acquire` from a thread without an event loop, which it blocks."""
        refusal = self.ledger.table.refusal
        if refusal is not None:
            raise refusal  # also in the loop's own thread, which would get another error below
        if threading.get_ident() != self._loops_thread:
            endpoint = self._places.of(bucket, key)
            decision = None
            if endpoint is not None:
                decision = self._threads.acquire(endpoint, bucket, key, cost)
            if decision is not None:
                return decision
        return self.block_on(self._acquire(bucket, key, cost), self._give_back)

    async def _on_own_loop(self, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None]) -> T:
        refusal = self.ledger.table.refusal
        if refusal is not None:
            work.close()
            raise refusal  # as in `block_on`
        return await run_on(self._loop, work, unwanted)

    def block_on(self, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None]) -> T:
        """The result of `work` on the store's own loop; blocks the calling thread, which must not
        be that of the loop."""
        loop, refusal = self._loop, self.ledger.table.refusal
        if refusal is not None:
            work.close()
            raise refusal  # a forked child has a copy of the loop, which nobody runs
        if runs_here(loop):
            work.close()
            raise CrdtbucketError(
                "this thread runs the limiter's event loop and may not block: await acquire()"
            )
        try:
            return block_on(loop, work, unwanted)
        except RuntimeError as error:
            if loop.is_closed() or self.ledger.table.refusal is not None:
                raise LimiterClosed("the limiter was closed before the store answered") from error
            raise

    # ---- settling ----

    def unsettle(self, bucket: BucketCore, key: str | bytes) -> None:
        """Counts of a key changed without the store: they are settled soon. Safe from any
        thread."""
        self.unsettle_places(bucket, [bucket.hash(key)])

    def unsettle_places(self, bucket: BucketCore, places: Sequence[tuple[int, int]]) -> None:
        """`unsettle` for the hashes of keys."""
        # RuntimeError: the loop was closed, and this epoch settles nothing more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._unsettle_now, bucket, places)

    def _unsettle_now(self, bucket: BucketCore, places: Sequence[tuple[int, int]]) -> None:
        with self.ledger.lock:  # threads keep their accounts meanwhile
            for place in places:
                self.ledger.unsettled.add(bucket, place)

    def wake(self) -> None:
        """Wakes the endpoints, as something is to be settled. From any thread."""
        if threading.get_ident() == self._loops_thread:
            self._places.wake()
        else:
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                self._loop.call_soon_threadsafe(self.wake)

    # ---- what the endpoints ask and report: the methods of `EndpointsListener` ----

    def barred(self) -> bool:
        """Whether no server may be used, even if it works, because this process may hash keys in
        another way than the others. While the server with the list of processes is unreachable, the
        last known answer holds."""
        if self._upkeep.registered:
            return bool(self.registry.conflict)
        holder = self._places.at(self.registry.name)
        return holder is not None and holder.link.connection is not None

    def endpoint_changed(self, endpoint: Endpoint, change: Change) -> None:
        """The endpoint has a new mode."""
        self._upkeep.report_mode()
        self._owner.endpoint_changed(str(endpoint.address), change)


def _decided(future: asyncio.Future[Decision | None]) -> Decision:
    decision = future.result()
    assert decision is not None, "a request with a key ends with a decision"
    return decision
