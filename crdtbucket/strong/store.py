"""The common store as the limiter sees it: an endpoint for each Redis primary, and the modes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.errors import CrdtbucketError, LimiterClosed, RedisUnavailable
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.across import block_on, run_on
from crdtbucket.strong.controller.mode_controller import Change, ControllerSettings
from crdtbucket.strong.controller.shared_controller import SharedController
from crdtbucket.strong.deadlines import Turn
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.ledger import Desk
from crdtbucket.strong.redis import topology
from crdtbucket.strong.redis.access import server_access, tls_context
from crdtbucket.strong.redis.locator import Locator
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.registry import Registry, Wish
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.supervisor import LAST_WORDS_S
from crdtbucket.strong.threads import Threads

LOG = logging.getLogger("crdtbucket.strong")
SEVERITY = {
    Mode.STRONG: logging.INFO,
    Mode.EVENTUAL: logging.WARNING,
    Mode.FALLBACK: logging.CRITICAL,
}
WORST = (Mode.FALLBACK, Mode.EVENTUAL, Mode.STRONG)
LOOK_AGAIN_S = 0.25
"""Between two looks at where the primaries are, while one of them does not serve."""
SHORTEST_S = 0.05
"""Between two looks in any case."""
Asked = tuple[BucketCore, "str | bytes", int]
"""A bucket, a key and a cost."""
T = TypeVar("T")


class Store:
    """Strong decisions of one process; everything runs on the event loop that starts it."""

    def __init__(
        self,
        config: RedisConfig,
        desk: Desk,
        table: Table,
        *,
        node: str,
        modes: ControllerSettings,
        degraded: Mode,
        on_change: Callable[[str, Change], None],
        on_mode: Callable[[Mode], None],
        wish: Callable[[], Wish] = Wish,
    ) -> None:
        """`degraded`: the mode when Redis is slow. `on_change` hears of every change of an
        endpoint, `on_mode` of the worst mode of all, at the start and when it changes. `wish`: see
        `Registry`."""
        self.desk = desk
        desk.owed.on_owe = self._wake
        self.endpoints: dict[Address, Endpoint] = {}
        self.registry = Registry(config.prefix, node, table, wish)
        self._config = config
        self._tls = tls_context(config)
        self._locator = Locator(config, self._tls)
        self._table = table
        self._node = node
        self._modes = modes
        self._degraded = degraded
        self._on_change = on_change
        self._on_mode = on_mode
        self.met: dict[str, str] | None = None
        """Servers that an earlier life of this node had told all, and by what each is known again;
        None without such a life. To be set before the start."""
        self._told: Mode | None = None
        self._unknown = ""
        self._warned = False
        self._fences = itertools.count(1)
        self._slots: list[Endpoint | None] = [None] * topology.SLOTS
        self._only: Endpoint | None = None
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}
        self._upkeep: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._introduced = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loops_thread = 0
        self._threads: Threads | None = None

    # ---- life ----

    async def start(self) -> None:
        """Connects, or learns within the time-out that it cannot: that is a mode, no error."""
        self._loop = asyncio.get_running_loop()
        self._loops_thread = threading.get_ident()
        self._threads = Threads(self.desk, self._loop, self._config.deadline_ns)
        await self._locate()
        await asyncio.gather(*(endpoint.keeper.connect() for endpoint in self.endpoints.values()))
        await self._register()
        # What an earlier life owes comes before what this one takes.
        for endpoint in self.endpoints.values():
            if endpoint.keeper.settler.due and endpoint.usable():
                await endpoint.keeper.settler.settle(LAST_WORDS_S)
        for endpoint in self.endpoints.values():
            self._tasks[endpoint] = asyncio.create_task(_logged(endpoint.keeper.run))
        self._upkeep = asyncio.create_task(_logged(self._keep))
        self._tell_mode()

    async def stop(self) -> None:
        """Settles what is owed, if the store serves, and closes the connections."""
        tasks = [*self._tasks.values(), *filter(None, [self._upkeep])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._threads is not None:
            await self._threads.stop()
        holder = self._holder()
        if holder is not None and holder.connection is not None and self.registry.seen:
            await self.registry.leave(holder.connection)
        await asyncio.gather(*(endpoint.keeper.stop() for endpoint in self.endpoints.values()))
        self._tasks.clear()

    def servers(self) -> tuple[tuple[str, str], ...]:
        """Each server that was met, and the text that it has until it is restarted."""
        return tuple(
            (str(address), one.keeper.run_id)
            for address, one in list(self.endpoints.items())
            if one.keeper.run_id
        )

    # ---- decisions ----

    @property
    def mode(self) -> Mode:
        """The worst mode of all endpoints; fallback while none is known, or may be used."""
        if self.registry.conflict:
            return Mode.FALLBACK
        modes = {endpoint.mode for endpoint in self.endpoints.values()} or {Mode.FALLBACK}
        return next(mode for mode in WORST if mode in modes)

    async def acquire(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        """Asks the store; from any event loop."""
        if asyncio.get_running_loop() is self._loop:
            endpoint = self._endpoint_of(bucket, key)
            if endpoint is not None:
                return await endpoint.acquire(bucket, key, cost)
            return await self._acquire(bucket, key, cost)
        return await self._there(self._acquire(bucket, key, cost), self._give_back)

    async def acquire_many(self, asked: Sequence[Asked]) -> list[Decision]:
        """One pipelined batch; the arguments are checked already."""
        work = self._acquire_many(asked)
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await self._there(work, lambda decisions: self._give_back(*decisions))

    async def _acquire_many(self, asked: Sequence[Asked]) -> list[Decision]:
        begun: list[tuple[Endpoint, asyncio.Future[Decision | None]]] = []
        found: list[Decision | asyncio.Future[Decision | None]] = []
        try:
            for bucket, key, cost in asked:
                endpoint = self._endpoint_of(bucket, key)
                if endpoint is None:
                    found.append(self.desk.away(bucket, key, cost, Mode.FALLBACK))
                    continue
                one = endpoint.begin(bucket, key, cost)
                found.append(one)
                if not isinstance(one, Decision):
                    begun.append((endpoint, one))
            await asyncio.gather(*(future for _, future in begun))
        except BaseException:
            # Nobody gets the others: what they took goes back, also of those that still come.
            self._give_back(*(one for one in found if isinstance(one, Decision)))
            for endpoint, future in begun:
                endpoint.abandon(future)
            raise
        return [one if isinstance(one, Decision) else _decided(one) for one in found]

    def _give_back(self, *decisions: Decision) -> None:
        """Refunds what nobody waits for any more."""
        for decision in decisions:
            if decision.allowed:
                self.desk.give_back(decision)

    async def _acquire(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        endpoint = self._endpoint_of(bucket, key)
        if endpoint is None:
            await asyncio.sleep(0)  # nothing is waited for: other tasks get their turn
            return self.desk.away(bucket, key, cost, Mode.FALLBACK)
        return await endpoint.acquire(bucket, key, cost)

    def _endpoint_of(self, bucket: BucketCore, key: str | bytes) -> Endpoint | None:
        """Where a key is decided; None when it is not known."""
        if self._only is not None:
            return self._only
        return self._slots[topology.slot(self.desk.name(bucket, bucket.hash(key)))]

    async def _there(self, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None]) -> T:
        """Runs on the store's own loop what another one waits for."""
        if self._loop is None:
            work.close()
            raise RuntimeError("the limiter is not open")
        return await run_on(self._loop, work, unwanted)

    def acquire_sync(self, bucket: BucketCore, key: str | bytes, cost: int) -> Decision:
        """`acquire` from a thread without an event loop, which it blocks."""
        threads = self._threads
        if self._table.refusal is not None:
            raise self._table.refusal  # before any lock, which a fork may have copied while held
        if threads is not None and threading.get_ident() != self._loops_thread:
            endpoint = self._endpoint_of(bucket, key)
            decision = None
            if endpoint is not None:
                decision = threads.acquire(endpoint, bucket, key, cost)
            if decision is not None:
                return decision
        return self.block_on(self._acquire(bucket, key, cost), self._give_back)

    def block_on(self, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None]) -> T:
        """What `work` returns on the store's own loop; blocks the calling thread, another one."""
        loop = self._loop
        if loop is None or _runs_here(loop):
            work.close()
            raise CrdtbucketError(
                "the limiter is not open"
                if loop is None
                else "this thread runs the limiter's event loop and may not block: await acquire()"
            )
        try:
            return block_on(loop, work, unwanted)
        except RuntimeError as error:
            if loop.is_closed() or self._table.refusal is not None:
                raise LimiterClosed("the limiter was closed before the store answered") from error
            raise

    def owe(self, bucket: BucketCore, key: str | bytes) -> None:
        """Counts of a key changed beside the store: it is told soon. From any thread."""
        self.owe_place(bucket, bucket.hash(key))

    def owe_place(self, bucket: BucketCore, place: tuple[int, int]) -> None:
        """`owe` for the hash of a key."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            # Closed meanwhile: then this life has no more to say.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.desk.owed.add, bucket, place)

    def _wake(self) -> None:
        if threading.get_ident() != self._loops_thread:
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # closed meanwhile
                    self._loop.call_soon_threadsafe(self._wake)
            return
        for endpoint in self.endpoints.values():
            if endpoint.usable():  # else a probe comes first, at its own time
                endpoint.keeper.wake()

    # ---- where the primaries are ----

    async def _keep(self) -> None:
        while True:
            await self._register()
            served = self.mode is Mode.STRONG or bool(self.registry.conflict)
            delay = max(SHORTEST_S, self.registry.delay_s) if served else LOOK_AGAIN_S
            with contextlib.suppress(asyncio.TimeoutError):
                await within(delay, self._look.wait())
            if self._look.is_set() or not served:
                self._look.clear()
                await self._locate()

    async def _register(self) -> None:
        endpoint = self._holder()
        if endpoint is None or endpoint.connection is None or not self.registry.due():
            return
        before, self._introduced = self.registry.conflict, True
        if not await self.registry.beat(endpoint.connection):
            # Where nobody asks for decisions, this may be the first that is seen of a failover.
            self._look.set()
        elif self.registry.conflict != before:
            if self.registry.conflict:
                LOG.critical("Redis %s is not used: %s", endpoint.address, self.registry.conflict)
            else:
                LOG.info("Redis %s is used: all hash alike by now", endpoint.address)
            self._wake()
        self._tell_mode()

    def _holder(self) -> Endpoint | None:
        """The endpoint that holds the list of processes."""
        return self._only or self._slots[topology.slot(self.registry.name)]

    def _barred(self) -> bool:
        """Whether no server may be used, however well it is: this process may hash otherwise than
        the others. Where the one with their list is gone, the last that is known of it holds."""
        if self._introduced:
            return bool(self.registry.conflict)
        holder = self._holder()
        return holder is not None and holder.connection is not None

    async def _locate(self) -> None:
        try:
            layout = await self._locator.locate()
        except RedisUnavailable as error:
            if not self.endpoints and str(error) != self._unknown:
                self._unknown = str(error)
                LOG.critical("no Redis primary is known: %s", error)
            return
        self._unknown = ""
        gone = {a: e for a, e in self.endpoints.items() if a not in dict(layout.primaries)}
        slots: list[Endpoint | None] = [None] * topology.SLOTS
        for address, ranges in layout.primaries:
            endpoint = self.endpoints.get(address) or self._successor(address, ranges, gone)
            for first, last in ranges:
                slots[first : last + 1] = [endpoint] * (last + 1 - first)
        self._slots = slots
        for address, endpoint in gone.items():
            del self.endpoints[address]
            await self._drop(endpoint)
        self._only = next(iter(self.endpoints.values())) if len(layout.primaries) == 1 else None
        self._tell_mode()

    def _successor(
        self, address: Address, ranges: tuple[tuple[int, int], ...], gone: dict[Address, Endpoint]
    ) -> Endpoint:
        """The endpoint that goes on at a new address, after a failover, or a new one."""
        for old, endpoint in gone.items():
            if self._slots[ranges[0][0]] is endpoint:
                LOG.info("the primary at %s went on to %s", old, address)
                del gone[old], self.endpoints[old]
                endpoint.move(address)
                break
        else:
            endpoint = self._endpoint(address, ranges)
            if self._upkeep is not None:
                self._tasks[endpoint] = asyncio.create_task(_logged(endpoint.keeper.run))
        self.endpoints[address] = endpoint
        return endpoint

    def _endpoint(self, address: Address, ranges: tuple[tuple[int, int], ...]) -> Endpoint:
        now = self._table.now()
        endpoint = Endpoint(
            address,
            server_access(self._config, self._tls, f"crdtbucket:{self._node}"),
            self._config,
            self.desk,
            SharedController(self._modes, now, self._degraded),
            self.registry.probe(ranges),
            now=self._table.now,
            fences=self._fences,
            owns=self._owns,
            changed=self._changed,
            elsewhere=self._elsewhere,
            barred=self._barred,
        )
        if self.met is not None:
            # Another one than the last life told may lack what that had told.
            endpoint.keeper.run_id = self.met.get(str(address))
        return endpoint

    async def _drop(self, endpoint: Endpoint) -> None:
        task = self._tasks.pop(endpoint, None)
        if task is not None:
            task.cancel()
        await endpoint.keeper.stop()

    def _owns(self, endpoint: Endpoint, name: bytes) -> bool:
        return self._only is not None or self._slots[topology.slot(name)] is endpoint

    def _elsewhere(self, endpoint: Endpoint, turn: Turn, error: RedisErrorReply) -> bool:
        """Sends to the right server what this one does not decide, and so did not run."""
        self._look.set()
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
        other = self.endpoints.get(address)
        if turn.done or other is None or not other.usable():
            return False
        other.take_over(turn, error.code == "ASK")
        return True

    # ---- modes ----

    def _changed(self, endpoint: Endpoint, change: Change) -> None:
        level = SEVERITY[change.after]
        LOG.log(
            level,
            "Redis %s: %s -> %s: %s",
            endpoint.address,
            change.before,
            change.after,
            change.reason,
        )
        if change.after is not Mode.STRONG:
            self._look.set()
        self._tell_mode()
        self._on_change(str(endpoint.address), change)

    def _tell_mode(self) -> None:
        mode = self.mode
        if mode is not self._told:
            self._told = mode
            self._on_mode(mode)


def _decided(future: asyncio.Future[Decision | None]) -> Decision:
    decision = future.result()
    assert decision is not None, "an ask with a key ends with a decision"
    return decision


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def _logged(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except Exception:
        LOG.exception("a bug in the limiter's work for Redis")
        raise


__all__ = ["Store"]
