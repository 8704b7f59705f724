"""What the named traces and invariants share: meshes, their levels, and steady demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

SECOND = 10**9
TRACE = BucketSpec("b", 100, 100)
"""Capacity 100, refill 100 a second, debt of at most 100 or what the lag needs."""
STILL = BucketSpec("b", 100, 1, "1h")
"""It hardly refills, so that the level shows what was counted."""
NAMES = ("A", "B", "C", "D", "E")
NODES = ("a", "b", "c")


def mesh_of(size: int = 3, spec: BucketSpec = TRACE, **options: Any) -> SimulatedMesh:
    return SimulatedMesh(NAMES[:size], [spec], **{"latency": 0.02, "seed": 1, **options})


def levels(mesh: SimulatedMesh) -> dict[str, int]:
    """Whole tokens left, by node that is up and running."""
    up = (n for n in mesh.nodes.values() if n.up and n.suspended_until <= mesh.now_ns)
    return {node.name: node.peek("b", "k").remaining for node in up}


def debts(mesh: SimulatedMesh) -> dict[str, int]:
    return {node.name: node.peek("b", "k").debt for node in mesh.nodes.values() if node.up}


def lowest_level(mesh: SimulatedMesh, seconds: float) -> int:
    """The lowest level of any node while time passes."""
    lowest = min(levels(mesh).values())
    for _ in range(round(seconds / 0.01)):
        mesh.advance(0.01)
        lowest = min(lowest, *levels(mesh).values())
    return lowest


def drive(
    mesh: SimulatedMesh,
    demand: Mapping[str, float],
    seconds: float,
) -> dict[str, tuple[int, int, float]]:
    """Makes single takes, so many a second: {node: (allowed, denied, longest s starved)}."""
    allowed, denied = dict.fromkeys(demand, 0), dict.fromkeys(demand, 0)
    start = mesh.now_ns
    last, starved = dict.fromkeys(demand, start), dict.fromkeys(demand, 0)
    due = {name: start + SECOND / rate / 2 for name, rate in demand.items() if rate}
    while due:
        name = min(due, key=due.__getitem__)
        if due[name] >= start + seconds * SECOND:
            break
        mesh.advance_to(round(due[name]))
        due[name] += SECOND / demand[name]
        if mesh[name].suspended_until > mesh.now_ns:
            continue
        if mesh[name].take("b", "k").allowed:
            allowed[name] += 1
            starved[name], last[name] = max(starved[name], mesh.now_ns - last[name]), mesh.now_ns
        else:
            denied[name] += 1
    mesh.advance_to(start + round(seconds * SECOND))
    return {
        name: (allowed[name], denied[name], max(starved[name], mesh.now_ns - last[name]) / SECOND)
        for name in demand
    }


def total(result: Mapping[str, tuple[int, int, float]]) -> int:
    return sum(allowed for allowed, _, _ in result.values())


@dataclass
class CutMesh:
    """A mesh, and the times since which its nodes have been together and have had a memory. Times
    are s."""

    mesh: SimulatedMesh
    apart: bool = field(default=False, init=False)
    together_since: float = field(default=0.0, init=False)
    memory_since: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def now(self) -> float:
        return self.mesh.now_ns / 1e9

    def not_merged_by(self, node: str | None, at: float, within: float) -> bool:
        """Whether `node` (None: a node that was up all the time) may not have merged yet what
        another node took `at` a time. `within`: the time in which all connected nodes have merged
        it."""
        memory = 0.0 if node is None else self.memory_since.get(node, 0.0)
        return self.apart or self.now - max(at, self.together_since, memory) < within

    def cut(self) -> None:
        self.mesh.partition(["a"], ["b", "c"])
        self.apart = True

    def heal(self) -> None:
        if self.apart:
            self.mesh.heal()
            self.apart, self.together_since = False, self.now

    def restart(self, node: str, memory: Literal["empty", "snapshot"]) -> None:
        if not self.mesh[node].up:
            self.mesh.restart(node, memory)
            self.memory_since[node] = self.now


def jump(mesh: SimulatedMesh, name: str, seconds: float) -> None:
    """Makes the clock of a node jump, while no time passes."""
    mesh[name]._offset += round(seconds * SECOND)


def stand_still(mesh: SimulatedMesh, name: str, seconds: float) -> None:
    """Makes the machine of a node stand still together with its clock."""
    mesh.suspend(name, seconds)
    jump(mesh, name, -seconds)
