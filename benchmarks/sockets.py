"""A mesh of whole nodes in one process, linked by sockets or by NATS: its CPU time and bytes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Case, Comparison, Scale
from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.mesh.engines.nats_server import NatsServer
from tests.server_process import NotInstalled

QUESTION = "what does a frame cost over WebSockets, and what over NATS?"
LONGEST_S = 60.0
SPEC = BucketSpec("api", 1_000, 1, "1h")
SECRET = "a secret of this benchmark"
INTERVAL_S = 0.5
"""Seconds between rounds: thirty nodes in one process could not keep up with the default of 0.1."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Mesh:
    """Whole nodes on one event loop."""

    def __init__(self, engine: dict[str, Any] | None, interval: float) -> None:
        """`engine`: settings of a message engine; None for sockets. `interval` (s): of rounds."""
        self.networks: list[MeshNetwork] = []
        self.machines: list[MeshNode] = []
        self.buckets: list[BucketCore] = []
        self._engine = engine
        self._interval = interval

    async def add(self) -> None:
        """Starts one node more."""
        number = len(self.networks)
        where = self._engine or {
            "listen": "127.0.0.1:0",
            "peers": [mesh.address for mesh in self.networks],
        }
        config = MeshConfig(secret=SECRET, gossip_interval=self._interval, **where)
        table = Table(max_keys=1000, hash_key=bytes(16), epoch=number + 1)
        self.buckets.append(BucketCore(table, SPEC))
        self.machines.append(MeshNode(table, config, name=f"n{number}"))
        self.networks.append(MeshNetwork(self.machines[-1], config))
        await self.networks[-1].start()

    async def linked(self) -> None:
        """Returns when every node has a link to every other."""
        deadline, others = time.monotonic() + LONGEST_S, len(self.networks) - 1
        while any(len(mesh.links) < others for mesh in self.networks):
            if time.monotonic() > deadline:
                raise AssertionError(f"{others + 1} nodes are not linked after {LONGEST_S} s")
            await asyncio.sleep(0.02)

    async def converged(self, key: str) -> float:
        """Seconds from a take at the first node until all others count it."""
        left = self.buckets[0].take(key, 100).remaining
        began = time.perf_counter()
        while any(one.peek(key).remaining != left for one in self.buckets):
            if time.perf_counter() - began > LONGEST_S:
                raise AssertionError(f"the nodes do not agree after {LONGEST_S} s")
            await asyncio.sleep(0.001)
        return time.perf_counter() - began

    async def stop(self) -> None:
        """Ends all nodes."""
        await asyncio.gather(*(mesh.stop() for mesh in self.networks))

    @property
    def received(self) -> int:
        """Frames that all of them have received."""
        return sum(machine.counters["frames"] for machine in self.machines)

    @property
    def sent(self) -> int:
        """Bytes of sealed frames that all have sent."""
        return sum(mesh.counters.bytes_out for mesh in self.networks)


async def _run(
    nodes: int,
    seconds: float,
    engine: dict[str, Any] | None = None,
    server: int | None = None,
    interval: float = INTERVAL_S,
) -> tuple[float, ...]:
    mesh = Mesh(engine, interval)
    try:
        for _ in range(nodes):
            await mesh.add()
        await mesh.linked()
        frames, sent, spent = mesh.received, mesh.sent, time.process_time()
        theirs = _cpu_of(server)
        await asyncio.sleep(seconds)
        frames, sent = mesh.received - frames, mesh.sent - sent
        spent, theirs = time.process_time() - spent, _cpu_of(server) - theirs
        took = [await mesh.converged(f"key {number}") for number in range(5)]
    finally:
        await mesh.stop()
    return (
        spent / frames * 1e6,
        theirs / frames * 1e6,
        frames / seconds / nodes,
        sent / frames,
        sorted(took)[2] * 1e3,
    )


def _cpu_of(pid: int | None) -> float:
    """Processor seconds of a process so far; 0 for none."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def cost(nodes: int, seconds: float) -> tuple[float, ...]:
    """(Us of CPU for a frame over sockets, both ends together; frames that a node sends a
    second.)"""
    found = asyncio.run(_run(nodes, seconds, interval=0.1))
    return found[0], found[2]


def _over_nats(nodes: int, seconds: float) -> tuple[float, ...]:
    with NatsServer() as server:
        assert server.process is not None
        engine = {"transport": "nats", "servers": [server.url]}
        return asyncio.run(_run(nodes, seconds, engine, server.process.pid))


def _over_sockets(nodes: int, seconds: float) -> tuple[float, ...]:
    return asyncio.run(_run(nodes, seconds))


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields both carriers at each size, in one run."""
    seconds = scale.pick(10, 3, 1)
    carriers = {"WebSockets": _over_sockets}
    with suppress(NotInstalled):
        NatsServer().remove()
        carriers["NATS"] = _over_nats
    yield Comparison(
        "whole nodes, idle, over two carriers",
        (
            "us of CPU a frame, sent and received",
            "us of it in the server",
            "frames sent /s a node",
            "bytes a frame",
            "ms until all count a take",
        ),
        [
            Case(f"{name}, {n} nodes", partial(over, n, seconds))
            for n in (3, 10, 30)
            if n <= scale.pick(30, 10, 3)
            for name, over in carriers.items()
        ],
        note=f"all nodes in one process, rounds every {INTERVAL_S:g} s; the CPU of the NATS "
        "server is counted apart; bytes of sealed frames",
        repeats=scale.pick(3, 1, 1),
    )
