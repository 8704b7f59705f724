"""A mesh of whole nodes on loopback sockets, in one process, with its CPU time measured."""

from __future__ import annotations

import asyncio
import time

from crdtbucket._core import Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.transport.mesh_network import MeshNetwork

LONGEST_S = 30.0


async def _run(nodes: int, seconds: float) -> tuple[float, float]:
    meshes: list[MeshNetwork] = []
    machines: list[MeshNode] = []
    try:
        for number in range(nodes):
            config = MeshConfig(
                listen="127.0.0.1:0",
                peers=[mesh.address for mesh in meshes],
                secret="a secret of this benchmark",
            )
            table = Table(max_keys=1000, hash_key=bytes(16), epoch=number + 1)
            machine = MeshNode(table, config, name=f"n{number}")
            mesh = MeshNetwork(machine, config)
            await mesh.start()
            meshes.append(mesh)
            machines.append(machine)
        deadline = time.monotonic() + LONGEST_S
        while any(len(mesh.links) < nodes - 1 for mesh in meshes):
            if time.monotonic() > deadline:
                raise AssertionError(f"{nodes} nodes are not linked after {LONGEST_S} s")
            await asyncio.sleep(0.02)
        before, spent = heard(machines), time.process_time()
        await asyncio.sleep(seconds)
        frames, spent = heard(machines) - before, time.process_time() - spent
    finally:
        await asyncio.gather(*(mesh.stop() for mesh in meshes))
    return spent / frames * 1e6, frames / seconds / nodes


def heard(machines: list[MeshNode]) -> int:
    """Frames that all of them have received."""
    return sum(machine.counters["frames"] for machine in machines)


def cost(nodes: int, seconds: float) -> tuple[float, ...]:
    """Us of CPU a frame, both ends together, and frames sent by a node in a second."""
    return asyncio.run(_run(nodes, seconds))
