"""How long does a node that joins take to know all keys of the others, over real sockets?"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection

from benchmarks.environment import place
from benchmarks.measure import Case, Comparison, Scale, lateness
from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.spec.bucket_spec import BucketSpec

QUESTION = "how long until a node that joins holds all keys, and how late do the event loops get?"
SPEC = BucketSpec("api", 1_000, 1, "1h")
CHUNK = 10_000
LONGEST_S = 120.0


@asynccontextmanager
async def _running(
    name: str, max_keys: int, *peers: str
) -> AsyncIterator[tuple[Table, MeshNetwork]]:
    config = MeshConfig(listen="127.0.0.1:0", peers=peers, secret="a secret of this benchmark")
    table = Table(max_keys=max_keys, hash_key=bytes(16))
    bucket = BucketCore(table, SPEC)
    for first in range(0, 0 if peers else max_keys, CHUNK):
        bucket.take_many([f"user:{i}" for i in range(first, min(first + CHUNK, max_keys))])
    mesh = MeshNetwork(MeshNode(table, config, name=name), config)
    await mesh.start()
    try:
        yield table, mesh
    finally:
        await mesh.stop()


async def _hold(keys: int, line: Connection) -> None:
    async with _running("holder", keys) as (_, mesh), lateness() as late:
        await asyncio.sleep(0.3)  # its own rounds are over, as those of a node that runs
        line.send(mesh.address)
        late[1:] = []
        await asyncio.to_thread(line.recv)
        line.send(max(late))


def _holder(keys: int, line: Connection) -> None:
    asyncio.run(_hold(keys, line))


async def _join(keys: int, line: Connection) -> tuple[float, ...]:
    async with lateness() as late:
        start = time.perf_counter()
        async with _running("joiner", keys, line.recv()) as (table, _):
            while len(table) < keys:
                if time.perf_counter() - start > LONGEST_S:
                    raise AssertionError(f"{len(table)} of {keys} keys after {LONGEST_S} s")
                await asyncio.sleep(0.001)
            took = time.perf_counter() - start
        line.send("stop")
        return took, max(late) * 1e3, line.recv() * 1e3


def _joined(keys: int) -> Callable[[], tuple[float, ...]]:
    def run() -> tuple[float, ...]:
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        holder = context.Process(target=_holder, args=(keys, there), daemon=True)
        holder.start()
        assert holder.pid is not None
        place(holder.pid, beside=True)
        try:
            while not here.poll(0.1):
                if not holder.is_alive():
                    raise AssertionError("the holder has ended")
            return asyncio.run(_join(keys, here))
        finally:
            holder.kill()
            holder.join()

    return run


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields joins with ten times as many keys from row to row."""
    most = scale.pick(1_000_000, 100_000, 2_000)
    yield Comparison(
        "a node joins another one",
        ("s until it holds all keys", "ms late at most, the joiner", "ms late at most, the holder"),
        [
            Case(f"{keys:,} keys", _joined(keys), at=keys)
            for keys in (most // 100, most // 10, most)
        ],
        note="wall time of two processes over loopback, sealed frames; from the joiner's start",
        repeats=min(3, scale.repeats),
    )
