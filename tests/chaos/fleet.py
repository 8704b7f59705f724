"""Client nodes under load, with a ledger of all answers to their callers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from crdtbucket import BucketSpec, Decision, Limiter, MeshConfig, RedisConfig
from crdtbucket._core import BucketReplica
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.strong_bucket import StrongBucket
from tests.chaos.lag import Lag

WIDE = BucketSpec("wide", 100_000, 1, "1h")
"""It hardly refills while a test runs, so the level itself can be compared, too."""
TIGHT = BucketSpec("tight", 60, 300)
"""Most of the load on it is denied."""
PATIENT = ControllerSettings(latency_limit=0.2)
"""For tests that are not about latency: a machine that stalls by itself must not count as a slow
Redis."""
HASTY = replace(PATIENT, stable_after=0.3, stable_after_failover=0.3, least_return_gap=0.0)
"""The same for short runs."""
UNHURRIED = ControllerSettings(latency_limit=5.0, outage_after=20.0)
"""For runs in which no server fails: however busy the machine is, Redis decides."""
KEYS = 8
SLOW_NS = 10_000_000
SECRET = "a secret of these tests"
Line = tuple[str, str]
"""A bucket's name and a key."""


class Generations:
    """The generations of the entries of one node.

    An entry that is full and idle is evicted, and the next take begins another generation: what the
    one before counted is history, and the stores forget it when they learn of the new one. That the
    key was full is not taken from the node: it follows from the time since the last take. If an
    earlier generation was not surely full when it ended, its tokens are counted as missing.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[int, int]] = {}

    def take(self, line: tuple[str, str], generation: int, now_ns: int, full_ns: int) -> bool:
        """Notes a take that was allowed; returns whether all before it is history.

        `full_ns`: the time in which any level of the key refills."""
        before, taken_ns = self._last.get(line, (generation, now_ns))
        self._last[line] = generation, now_ns
        return generation != before and now_ns - taken_ns >= full_ns


class Client:
    """One node and what its callers got."""

    def __init__(
        self,
        name: str,
        config: RedisConfig,
        *,
        mesh: MeshConfig | None,
        buckets: Sequence[BucketSpec],
        modes: ControllerSettings,
        region: str,
    ) -> None:
        self.name = name
        self.limiter = Limiter(
            buckets,
            node=name,
            region=region,
            redis=config,
            consistency="strong",
            mesh=mesh,
            degradation=Degradation(modes=modes, on_mode_change=self._changed),
        )
        self.consumed: Counter[Line] = Counter()
        """Tokens of allowed decisions, less what was given back, and without history."""
        self.history = 0
        """Tokens of keys that have been full since, in entries that were evicted: see
        `Generations`."""
        self._generations = Generations()
        self.decisions = 0
        self.modes: Counter[Mode] = Counter()
        self.slow: list[tuple[int, int]] = []
        """Begin and end (ns) of the decisions that took longer than `SLOW_NS`."""
        self.latencies: list[tuple[float, float]] = []
        """When each decision was made (`time.monotonic`), and how long it took (s)."""
        self.notices: list[tuple[float, ModeNotice]] = []
        """Changes of mode, and when they were reported (`time.monotonic`)."""

    def _changed(self, notice: ModeNotice) -> None:
        self.notices.append((time.monotonic(), notice))

    def bucket(self, name: str) -> StrongBucket:
        found = self.limiter.bucket(name)
        assert isinstance(found, StrongBucket)
        return found

    @property
    def strong(self) -> bool:
        """Whether every endpoint is asked, over a connection."""
        store = self.bucket(WIDE.name).store
        usable = (one.dispatcher.usable() for one in store.endpoints.values())
        return store.mode is Mode.STRONG and all(usable)

    @property
    def settled(self) -> bool:
        """Whether everything has been sent to Redis."""
        store = self.bucket(WIDE.name).store
        idle = all(not endpoint.dispatcher.open_calls for endpoint in store.endpoints.values())
        return self.strong and idle and not any(e.resync.due for e in store.endpoints.values())

    def book(self, bucket: str, key: str, decision: Decision) -> None:
        """Books a decision that a caller was given."""
        self.decisions += 1
        self.modes[Mode(decision.mode)] += 1
        if not decision.allowed:
            return
        line, found = (bucket, key), self.bucket(bucket)
        own = BucketReplica(found).own(*found.hash(key))
        assert own is not None  # it was taken from just now
        ceiling = found.spec.capacity + found.max_debt
        full_ns = math.ceil(ceiling * 1e9 / found.spec.rate_per_second)
        if self._generations.take(line, own[0], time.monotonic_ns(), full_ns):
            self.history += self.consumed.pop(line)
        self.consumed[line] += decision.cost

    def refund(self, bucket: str, key: str, decision: Decision, tokens: int) -> None:
        """A caller gives tokens back."""
        self.consumed[bucket, key] -= self.bucket(bucket).refund(decision, tokens)


class Fleet:
    """Some nodes that share one Redis, all on this event loop."""

    def __init__(self, clients: Sequence[Client], lag: Lag, seed: int) -> None:
        self.clients, self.lag = clients, lag
        self.random = random.Random(seed)

    @property
    def decisions(self) -> int:
        return sum(client.decisions for client in self.clients)

    @property
    def strong(self) -> bool:
        return all(client.strong for client in self.clients)

    @property
    def ready(self) -> bool:
        """Whether all are strong and, in a mesh, linked with each other."""
        return self.strong and all(_linked(one, len(self.clients)) for one in self.clients)

    @property
    def settled(self) -> bool:
        return all(client.settled for client in self.clients)

    @property
    def mode_counts(self) -> str:
        """How many decisions were made in each mode."""
        modes = sum((client.modes for client in self.clients), Counter())
        return ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items()))

    def worst_ms(self, *, raw: bool = False) -> float:
        """The longest decision (ms), without the time that the machine took unless `raw`."""
        worst = SLOW_NS
        for client in self.clients:
            for begin, end in client.slow:
                stolen = 0 if raw else self.lag.stolen_ns(begin, end)
                worst = max(worst, end - begin - stolen)
        return worst / 1e6

    @contextlib.asynccontextmanager
    async def loaded(self, calls: int, seconds: float) -> AsyncIterator[None]:
        """Makes `calls` decisions, evenly over `seconds`, and more until the block ends."""
        over = asyncio.Event()
        load = asyncio.create_task(self._load(calls, seconds, over))
        try:
            yield
        finally:
            over.set()
            await load

    async def _load(self, calls: int, seconds: float, over: asyncio.Event) -> None:
        workers = 16 * len(self.clients)
        end = self.decisions + calls
        pause = seconds * workers / calls

        async def work(client: Client) -> None:
            loop = asyncio.get_running_loop()
            due = loop.time() + pause * self.random.random()
            while self.decisions < end or not over.is_set():
                await asyncio.sleep(due - loop.time())
                due = max(due, loop.time() - pause) + pause * 2 * self.random.random()
                await self._call(client)

        await asyncio.gather(*(work(self.clients[n % len(self.clients)]) for n in range(workers)))

    async def _call(self, client: Client) -> None:
        dice = self.random
        bucket = dice.choice((WIDE.name, TIGHT.name))
        key, cost = f"k{dice.randrange(KEYS)}", dice.randint(1, 3)
        decision = await self.timed(client, bucket, key, cost)
        if decision.allowed and dice.random() < 0.1:
            client.refund(bucket, key, decision, dice.randint(1, cost))

    async def timed(self, client: Client, bucket: str, key: str, cost: int) -> Decision:
        """Makes one decision, books it and measures its time."""
        begin = time.perf_counter_ns()
        decision = await client.bucket(bucket).acquire(key, cost)
        end = time.perf_counter_ns()
        client.latencies.append((time.monotonic(), (end - begin) / 1e9))
        if end - begin > SLOW_NS:
            client.slow.append((begin, end))
        client.book(bucket, key, decision)
        return decision

    async def touch(self, keys: Sequence[str]) -> None:
        """Makes one decision of every node on each of these keys."""
        for client in self.clients:
            for key in keys:
                await self.timed(client, WIDE.name, key, 1)


Place = tuple[str, RedisConfig, str]
"""The name of a node, its Redis, and its region."""


@contextlib.asynccontextmanager
async def opened(
    places: Iterable[Place],
    *,
    mesh: bool = False,
    seed: int = 0,
    buckets: Sequence[BucketSpec] = (WIDE, TIGHT),
    modes: ControllerSettings = PATIENT,
) -> AsyncIterator[Fleet]:
    """Nodes that are open, strong and, in a mesh, linked."""
    async with contextlib.AsyncExitStack() as stack:
        lag = await stack.enter_async_context(Lag())
        clients: list[Client] = []
        for name, config, region in places:
            link = linked(clients) if mesh else None
            client = Client(name, config, mesh=link, buckets=buckets, modes=modes, region=region)
            await stack.enter_async_context(client.limiter)
            clients.append(client)
        made = Fleet(clients, lag, seed)
        await until(lambda: made.ready, 60)
        yield made


def fleet(
    config: RedisConfig, *, nodes: int = 3, **options: Any
) -> AbstractAsyncContextManager[Fleet]:
    """So many nodes with one Redis; `options` as of `opened`."""
    return opened([(f"n{number}", config, "default") for number in range(nodes)], **options)


def linked(clients: Sequence[Client]) -> MeshConfig:
    """The settings by which one more node joins the mesh: it calls the first node."""
    peers = [clients[0].limiter.address] if clients else []
    return MeshConfig(listen="127.0.0.1:0", peers=peers, secret=SECRET)


def _linked(client: Client, nodes: int) -> bool:
    stats = client.limiter.stats()
    alive = [state for state in stats.get("peers", {}).values() if state == "alive"]
    return not stats["warming_up"] and ("peers" not in stats or len(alive) == nodes - 1)


async def until(holds: Callable[[], bool], seconds: float) -> float:
    """Waits until `holds` is true; returns the seconds. Raises `TimeoutError` after `seconds`."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"not within {seconds} s")
        await asyncio.sleep(0.005)
    return time.monotonic() - begin
