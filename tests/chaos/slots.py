"""One node of a Redis cluster is frozen: calls on the keys of the other nodes are not slower."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from crdtbucket import RedisConfig
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis.topology import slot
from tests.chaos.audit import Audit, audit
from tests.chaos.figure import Figure, Progress, at_most, exactly
from tests.chaos.fleet import PATIENT, WIDE, Client, Fleet, fleet, until
from tests.chaos.lag import Lag
from tests.strong.redis_groups import cluster
from tests.strong.redis_server import Server

KEYS = 300
HOT = 4
"""The number of hot keys, which get a quarter of the calls."""
WORKERS = 24
PAUSE_S = 0.02


@dataclass
class Frozen:
    """The figures of callers whose slots are on the other nodes."""

    before_ms: float
    during_ms: float
    decisions: int
    strong: float
    """The share of their decisions that Redis made while the node was frozen."""
    books: Audit


class Took(NamedTuple):
    """One decision on a key of a slot that is not frozen."""

    at: float
    begin: int
    end: int
    strong: bool


def p99_ms(lag: Lag, decisions: list[Took], begin: float, end: float) -> float:
    """The lower quartile of the p99 of every second: other work on the machine slows some seconds,
    while the frozen node would slow all of them."""
    found = []
    for second in range(round(end - begin)):
        within = [d for d in decisions if second <= d.at - begin < second + 1]
        took = sorted(d.end - d.begin - lag.stolen_ns(d.begin, d.end) for d in within)
        found.append(took[-(-99 * len(took) // 100) - 1] / 1e6)
    return statistics.quantiles(found, n=4)[0]


async def run(
    seconds: float, modes: ControllerSettings = PATIENT, deadline: float = 0.05
) -> Frozen:
    """Plays `seconds` of load before the fault and as many with the frozen node, and then until all
    slots are served. Redis has `deadline` seconds for an answer."""
    async with cluster(
        "redis-server", "cluster-require-full-coverage no", replicas=True
    ) as servers:
        addresses = [f"{one.host}:{one.port}" for one in servers[:3]]
        config = RedisConfig(cluster=True, nodes=addresses, deadline=deadline)
        async with fleet(config, nodes=2, mesh=True, modes=modes) as nodes:
            over = asyncio.Event()
            found: list[Took] = []
            load = asyncio.gather(
                *(_work(nodes, nodes.clients[n % 2], n, servers[0], over, found)
                  for n in range(WORKERS))
            )  # fmt: skip
            try:
                await asyncio.sleep(1.0)  # connections, scripts and entries are made
                begin = time.monotonic()
                await asyncio.sleep(seconds)
                servers[0].freeze()
                frozen = time.monotonic()
                await asyncio.sleep(seconds)
                end = time.monotonic()
                await until(lambda: nodes.strong, 60)
            finally:
                over.set()
                await load
            await until(lambda: nodes.settled, 60)
            strong = [took.strong for took in found if frozen <= took.at < end]
            return Frozen(
                p99_ms(nodes.lag, found, begin, frozen),
                p99_ms(nodes.lag, found, frozen, end),
                nodes.decisions,
                sum(strong) / len(strong),
                audit(nodes, [servers[3], servers[1], servers[2]]),
            )


async def _work(
    nodes: Fleet,
    client: Client,
    seed: int,
    doomed: Server,
    over: asyncio.Event,
    found: list[Took],
) -> None:
    dice = random.Random(seed)
    bucket = client.bucket(WIDE.name)
    homes = {str(address): e for address, e in bucket.store.endpoints.items()}
    frozen = homes[f"{doomed.host}:{doomed.port}"]
    slots = list(bucket.store._places._slots)
    while not over.is_set():
        key = f"k{dice.randrange(HOT if dice.random() < 0.25 else KEYS)}"
        other = slots[slot(bucket.store.ledger.names.key(bucket, bucket.hash(key)))] is not frozen
        begin = time.perf_counter_ns()
        decision = await nodes.timed(client, WIDE.name, key, 1)
        end = time.perf_counter_ns()
        if other:
            found.append(Took(time.monotonic(), begin, end, decision.mode == Mode.STRONG))
        await asyncio.sleep(PAUSE_S * 2 * dice.random())


async def figures(calls: int, progress: Progress) -> AsyncIterator[Figure]:
    found = await run(8.0)
    progress(f"cluster: {found}")
    load = os.getloadavg()[0]
    note = f"{found.during_ms:.2f} ms after {found.before_ms:.2f} ms, load average {load:.1f}"
    ratio = found.during_ms / found.before_ms
    yield at_most("cluster, 1 of 6 frozen: p99 of the other slots", 1.5, ratio, " x", note)
    books = found.books
    yield exactly("cluster: takes lost, charged twice", (0, 0), (books.lost, books.over))
