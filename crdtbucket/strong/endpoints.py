"""Finds the Redis primaries, and the endpoint that decides each key."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from crdtbucket._core import BucketCore
from crdtbucket.base.address import Address
from crdtbucket.base.lasting import lasting
from crdtbucket.errors import RedisUnavailable
from crdtbucket.spec.mode import Mode, worst
from crdtbucket.strong.controller.mode_controller import Change, Controller
from crdtbucket.strong.deadlines import PendingRequest
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.redis import topology
from crdtbucket.strong.redis.access import Access, followed_tls, server_access
from crdtbucket.strong.redis.locator import Locator
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.registry import Registry
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.topology import Ranges
from crdtbucket.strong.supervisor import Probe

LOG = logging.getLogger("crdtbucket.strong")
SEVERITY = {
    Mode.STRONG: logging.INFO,
    Mode.EVENTUAL: logging.WARNING,
    Mode.FALLBACK: logging.CRITICAL,
}
ControllerFactory = Callable[[int], Controller]
"""Makes the controller of an endpoint that begins now (local ns)."""


class EndpointsListener(Protocol):
    """Is called when something changes that concerns all endpoints."""

    def endpoint_changed(self, endpoint: Endpoint, change: Change) -> None:
        """An endpoint has a new mode."""

    def barred(self) -> bool:
        """Whether no server may be used, even if it works."""


class Endpoints:
    """All endpoints, one for each Redis primary. `locate` finds out where the primaries are now."""

    def __init__(
        self,
        config: RedisConfig,
        ledger: Ledger,
        registry: Registry,
        controller: ControllerFactory,
        listener: EndpointsListener,
        met: Mapping[str, str] | None,
        regions: Regions | None,
    ) -> None:
        """`controller`: makes the mode controller of an endpoint. `met`: see `Store`. `regions`:
        those of a replicated Redis."""
        self.regions = regions
        self.barred = listener.barred
        self.by_address: dict[Address, Endpoint] = {}
        self.look = asyncio.Event()
        """Set when the primaries may be elsewhere by now."""
        self._config = config
        self._files = followed_tls(config)
        self._tls = self._files.now()
        self._locator = Locator(config, self._tls)
        self._ledger = ledger
        self._registry = registry
        self._controller = controller
        self._listener = listener
        self._met = met
        self.unknown = ""
        """Why no primary is known; "" where one is, or nobody has looked."""
        self._warned = False
        self._fences = itertools.count(1)
        self._slots: list[Endpoint | None] = [None] * topology.SLOTS
        self._only: Endpoint | None = None
        self._running = False
        self._tasks: dict[Endpoint, list[asyncio.Task[None]]] = {}

    # ---- start and stop ----

    async def connect(self) -> None:
        """Connects to every primary that is known, as far as that is possible."""
        await asyncio.gather(*(one.supervisor.connect() for one in self.by_address.values()))

    async def run(self) -> None:
        """Settles what the previous epoch left unsettled, then starts the upkeep of all
        endpoints."""
        # The earlier epoch comes first, before this one takes anything.
        for endpoint in self.by_address.values():
            if endpoint.dispatcher.usable():
                await endpoint.supervisor.settle_briefly()
        self._running = True
        for endpoint in self.by_address.values():
            self._supervise(endpoint)

    def cancel(self) -> list[asyncio.Task[None]]:
        """Ends the upkeep. Returns the tasks that are ending."""
        tasks = [task for each in self._tasks.values() for task in each]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        return tasks

    async def stop(self) -> None:
        """Settles what can be settled quickly, and closes the connections."""
        await asyncio.gather(*(one.supervisor.stop() for one in self.by_address.values()))

    def wake(self) -> None:
        """Wakes the endpoints, as some key is to be settled."""
        for endpoint in self.by_address.values():
            if endpoint.dispatcher.usable():  # else a probe comes first, when it is due
                endpoint.supervisor.wake()

    def renew(self, config: RedisConfig) -> None:
        """Connections are opened with the credentials of `config` from now on, and those that exist
        stay; from any thread."""
        self._config = config
        self._locator.renew(config, self._tls)
        for endpoint in list(self.by_address.values()):
            endpoint.link.renew(self._access())

    def follow_files(self) -> None:
        """Connections are opened with certificates as they are in their files by now; to be called
        often."""
        before, self._tls = self._tls, self._files.now()
        if self._tls is not before:
            self.renew(self._config)

    # ---- which endpoint ----

    def of(self, bucket: BucketCore, key: str | bytes) -> Endpoint | None:
        """The endpoint that decides a key; None when that is not known."""
        if self._only is not None:
            return self._only
        return self.at(self._ledger.names.key(bucket, bucket.hash(key)))

    def at(self, name: bytes) -> Endpoint | None:
        """The endpoint that holds a Redis key; None when that is not known."""
        return self._only or self._slots[topology.slot(name)]

    @property
    def worst_mode(self) -> Mode:
        """The worst mode of all endpoints; fallback while none is known. Safe from any thread."""
        modes = {endpoint.mode for endpoint in list(self.by_address.values())}
        return worst(modes) if modes else Mode.FALLBACK

    async def locate(self) -> None:
        """Finds out where the primaries are, and follows them."""
        try:
            found = await self._locator.locate()
        except RedisUnavailable as error:
            if not self.by_address and str(error) != self.unknown:
                self.unknown = str(error)
                LOG.critical("no Redis primary is known: %s", error)
            return
        self.unknown = ""
        gone = {a: e for a, e in self.by_address.items() if a not in dict(found.primaries)}
        serving: list[Endpoint] = []
        for address, ranges in found.primaries:
            endpoint = self.by_address.get(address) or self._successor(address, ranges, gone)
            endpoint.serve(ranges)
            serving.append(endpoint)
        self._slots = [None if at is None else serving[at] for at in found.owners()]
        for address, endpoint in gone.items():
            del self.by_address[address]
            await self._drop(endpoint)
        self._only = next(iter(self.by_address.values())) if len(found.primaries) == 1 else None

    def _successor(
        self, address: Address, ranges: Ranges, gone: dict[Address, Endpoint]
    ) -> Endpoint:
        """The endpoint that goes on at a new address, after a failover, or a new one."""
        for old, endpoint in gone.items():
            if self._slots[ranges[0][0]] is endpoint:
                LOG.info("the primary at %s went on to %s", old, address)
                del gone[old], self.by_address[old]
                endpoint.move(address)
                break
        else:
            endpoint = self._new(address, ranges)
            if self._running:
                self._supervise(endpoint)
        self.by_address[address] = endpoint
        return endpoint

    def _new(self, address: Address, ranges: Ranges) -> Endpoint:
        now = self._ledger.table.now()
        return Endpoint(
            address,
            self._access(),
            self._config,
            self._ledger,
            self._controller(now),
            ranges,
            self,
        )

    def _access(self) -> Access:
        return server_access(self._config, self._tls, f"crdtbucket:{self._registry.node}")

    def _supervise(self, endpoint: Endpoint) -> None:
        works = [lasting(work, "keeping a server of Redis", LOG) for work in endpoint.upkeep]
        self._tasks[endpoint] = [asyncio.create_task(work) for work in works]

    async def _drop(self, endpoint: Endpoint) -> None:
        for task in self._tasks.pop(endpoint, ()):
            task.cancel()
        await endpoint.supervisor.stop()

    # ---- what endpoints ask and report ----

    def next_fence(self) -> int:
        """A number above all that this process has used for a connection."""
        return next(self._fences)

    def known_run_id(self, address: Address) -> str | None:
        # If this is not the server that the previous epoch met, it may lack what that one held.
        return "" if self._met is None else self._met.get(str(address))

    def owns(self, endpoint: Endpoint, name: bytes) -> bool:
        return self._only is not None or self._slots[topology.slot(name)] is endpoint

    def probe(self, ranges: Ranges) -> Probe:
        return self._registry.probe(ranges)

    def nodes_here(self) -> int:
        return self._registry.here if self._registry.seen else 0

    def redirect(self, endpoint: Endpoint, pending: PendingRequest, error: RedisErrorReply) -> bool:
        self.look.set()
        if not self._config.target.cluster and not self._warned:
            self._warned = True
            LOG.warning(
                "Redis at %s is a node of a cluster, and was given as a single server (%s): set "
                "cluster=True, or redis+cluster:// in the url",
                endpoint.address,
                error,
            )
        try:
            _, address = topology.parse_moved(error, endpoint.address)
        except RedisUnavailable as wrong:
            LOG.info("%s", wrong)
            return False
        other = self.by_address.get(address)
        if pending.done or other is None or not other.dispatcher.usable():
            return False
        other.dispatcher.take_over(pending, error.code == "ASK")
        return True

    def mode_changed(self, endpoint: Endpoint, change: Change) -> None:
        LOG.log(
            SEVERITY[change.after],
            "Redis %s: %s -> %s: %s",
            endpoint.address,
            change.before,
            change.after,
            change.reason,
        )
        if change.after is not Mode.STRONG:
            self.look.set()
        self._listener.endpoint_changed(endpoint, change)
