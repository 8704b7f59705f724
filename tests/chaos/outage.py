"""How much a fleet without its Redis admits, and whether the books agree afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from crdtbucket import BucketSpec
from crdtbucket._core import BucketReplica
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis.script import read_owner
from tests.chaos.figure import Figure, Progress, at_most, exactly
from tests.chaos.fleet import PATIENT, WIDE, Client, Fleet, fleet, until
from tests.chaos.switches import proxied
from tests.strong.redis_server import Server

NODES = 3
SPEC = BucketSpec("shared", 2_000, 2_000)
COST = 10
KEY = "k"
RATIO = 0.10
"""The default share of capacity and rate that a node admits in an outage."""

Column = tuple[int, int, int]
"""Generation, taken, refunded."""


@dataclass
class Outage:
    """The figures of an outage."""

    admitted: int
    """Tokens that decisions in fallback admitted."""
    seconds: float
    """Seconds from the first to the last of these decisions."""
    join: dict[str, Column]
    """By owner, the merged columns of all nodes."""
    record: dict[str, Column]
    """By owner, the records in Redis."""

    @property
    def allowance(self) -> float:
        share = NODES * min(RATIO, 1 / NODES)
        return share * (SPEC.capacity + SPEC.refill_rate * self.seconds)


async def run(seconds: float, modes: ControllerSettings = PATIENT) -> Outage:
    """Asks for twice the limit all the time, and takes Redis away for `seconds` of it."""
    async with (
        proxied() as (proxy, server, config),
        fleet(config, mesh=True, nodes=NODES, buckets=[WIDE, SPEC], modes=modes) as nodes,
    ):
        over = asyncio.Event()
        found: list[tuple[float, int]] = []
        load = [asyncio.create_task(_work(nodes, c, over, found)) for c in nodes.clients]
        try:
            await asyncio.sleep(2.0)
            await proxy.down()
            await asyncio.sleep(seconds)
            await proxy.up()
            await until(lambda: nodes.strong, 60)
        finally:
            over.set()
            await asyncio.gather(*load)
        await until(lambda: nodes.settled and _agree(nodes), 60)
        times = [at for at, _ in found]
        admitted = sum(tokens for _, tokens in found)
        span = times[-1] - times[0]
        return Outage(admitted, span, _join(nodes), _record(nodes.clients[0], server))


async def _work(
    nodes: Fleet, client: Client, over: asyncio.Event, found: list[tuple[float, int]]
) -> None:
    """Makes this node's third of the calls; notes what fallback decides."""
    pause = COST * NODES / (2 * SPEC.refill_rate)
    loop = asyncio.get_running_loop()
    due = loop.time()
    calls: set[asyncio.Task[None]] = set()

    async def call() -> None:
        decision = await nodes.timed(client, SPEC.name, KEY, COST)
        if decision.mode == Mode.FALLBACK:
            found.append((time.monotonic(), COST if decision.allowed else 0))

    while not over.is_set():
        task = asyncio.create_task(call())
        calls.add(task)
        task.add_done_callback(calls.discard)
        due += pause
        await asyncio.sleep(due - loop.time())
    await asyncio.gather(*calls)


def _columns(client: Client) -> dict[str, Column]:
    bucket = client.bucket(SPEC.name)
    place = bucket.hash(KEY)
    own, stated = BucketReplica(bucket).own(*place), BucketReplica(bucket).advertised(*place)
    assert own is not None
    assert stated is not None
    columns = {
        read_owner(one.owner)[1]: (one.generation, one.taken, one.refunded)
        for one in bucket.store.ledger.names.columns(stated[4])
    }
    return {**columns, client.name: own}


def _join(nodes: Fleet) -> dict[str, Column]:
    joined: dict[str, Column] = {}
    for client in nodes.clients:
        for name, column in _columns(client).items():
            joined[name] = max(joined.get(name, column), column)
    return joined


def _agree(nodes: Fleet) -> bool:
    return all(_columns(client) == _join(nodes) for client in nodes.clients)


def _record(client: Client, server: Server) -> dict[str, Column]:
    bucket = client.bucket(SPEC.name)
    flat = server.call("HGETALL", bucket.store.ledger.names.key(bucket, bucket.hash(KEY)))
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    del fields[b"level"]
    found = {}
    for owner, text in fields.items():
        generation, taken, refunded, *_ = map(int, text.split())
        found[owner.decode().partition(":")[2]] = (generation, taken, refunded)
    return found


async def figures(calls: int, progress: Progress) -> AsyncIterator[Figure]:
    found = await run(20.0)
    progress(f"outage: {found}")
    note = f"{found.admitted} tokens in {found.seconds:.1f} s"
    share = found.admitted / found.allowance
    yield at_most("outage of 20 s: admitted / the fleet's share", 1.05, share, note=note)
    taken = sum(column[1] for column in found.record.values())
    same = found.join == found.record
    yield exactly("outage of 20 s: Redis' record is the join", True, same, f"{taken} tokens taken")
