"""A mesh of three nodes that is cut, and whose nodes start again: who can have heard of what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crdtbucket.testing import SimulatedMesh

NODES = ("a", "b", "c")


@dataclass
class CutMesh:
    """A mesh, and since when its nodes have been together and have had a memory. Times are s."""

    mesh: SimulatedMesh
    apart: bool = field(default=False, init=False)
    together_since: float = field(default=0.0, init=False)
    memory_since: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def now(self) -> float:
        return self.mesh.now_ns / 1e9

    def unheard_by(self, node: str | None, at: float, within: float) -> bool:
        """Whether `node` (None: a node that was up all the time) may not have heard of what another
        one did then. `within`: the time in which all that are connected have heard of it."""
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
