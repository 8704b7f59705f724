"""Meshes in memory under a steady load, with the CPU time of each node's protocol measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

BUCKET, SLOW = "bench", "slow"
SPECS = [BucketSpec(BUCKET, 1_000_000, 100_000), BucketSpec(SLOW, 1_000, 1, "1h")]
STEP = 0.01
"""Seconds between two bursts of takes of a load."""

Load = Callable[[SimulatedMesh, int], None]


def idle(mesh: SimulatedMesh, step: int) -> None:
    """Nobody takes anything."""


def one_hot_key(mesh: SimulatedMesh, step: int) -> None:
    """Every node takes 1,000 times a second from one key."""
    for node in mesh.nodes.values():
        node.take_burst(BUCKET, "hot", 10)


def changing_keys(rate: int, mesh: SimulatedMesh, step: int) -> None:
    """Takes once from `rate` different keys a second in the whole mesh, each at one node."""
    names, each = list(mesh.nodes), round(rate * STEP)
    for i in range(step * each, step * each + each):
        mesh[names[i % len(names)]].take(BUCKET, f"user:{i}")


def hold(mesh: SimulatedMesh, keys: int) -> None:
    """Fills a mesh with so many keys that stay in debt for longer than it is measured."""
    first = next(iter(mesh.nodes.values()))
    for i in range(keys):
        first.take(SLOW, f"held:{i}")


@dataclass
class Meter:
    """CPU time spent in some calls."""

    ns: int = 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function that makes the same call and counts its time."""

        def timed(*args: Any) -> Any:
            start = time.process_time_ns()
            try:
                return call(*args)
            finally:
                self.ns += time.process_time_ns() - start

        return timed


def cost(mesh: SimulatedMesh, load: Load, warm_up: float, seconds: float) -> tuple[float, ...]:
    """Kilobytes sent, CPU ms in ticks and receives, frames sent: for each second and node."""
    steps = [round(warm_up / STEP), round((warm_up + seconds) / STEP)]
    meter = Meter()
    sent = frames = 0
    for step in range(steps[1]):
        if step == steps[0]:
            sent, frames = mesh.bytes_sent, mesh.frames_sent
            for node in mesh.nodes.values():
                machine: Any = node.node
                machine.tick = meter.around(machine.tick)
                machine.receive = meter.around(machine.receive)
        load(mesh, step)
        mesh.advance(STEP)
    per_node = len(mesh.nodes) * seconds
    return (
        (mesh.bytes_sent - sent) / per_node / 1e3,
        meter.ns / per_node / 1e6,
        (mesh.frames_sent - frames) / per_node,
    )
