"""A member of a simulated mesh that lies."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from crdtbucket.errors import NodeConflict, WireError
from tests.bad_member import EPOCH, BadMember, Column
from tests.simulated.lies import ABSURD, ACTS, APART
from tests.simulated.truth import Place

if TYPE_CHECKING:
    from tests.simulated.network import Network


NAMES = ("bad", "worse")
"""Names of members that lie together."""


class HostileMember(BadMember):
    """A member that is linked with every running node, whatever is cut between those; what it sends
    arrives at once. It keeps the secret, the codec and its own name, and nothing else."""

    def __init__(self, mesh: Network, place: Place, name: str = NAMES[0]) -> None:
        super().__init__(mesh, name, EPOCH + NAMES.index(name))
        del mesh.nodes[self.name]  # no caller asks it for tokens
        mesh.hostile[self.name] = self
        self.place = place
        self.generation, self.taken, self.refunded, self.rounds = 1, 0, 0, 0
        self._met: dict[str, int] = {}
        """The epochs of the processes that it is linked with, by name."""

    def reach(self) -> list[str]:
        """Links it with every node that it can send to now; returns their names."""
        now = self.mesh.now_ns
        nodes = [n for n in self.mesh.nodes.values() if n.up and n.suspended_until <= now]
        for node in nodes:
            if self._met.get(node.name) != node.epochs:
                self._met[node.name] = node.epochs
                self.link(node.name)
        return [node.name for node in nodes]

    def act(self, kind: str, number: int) -> None:
        """Does one act to every node; what is random in it comes from `number`."""
        rng = random.Random(number)
        for name in self.reach():
            with suppress(WireError, NodeConflict):  # the node may refuse it
                (ACTS | APART)[kind](self, name, rng)

    def end(self) -> None:
        """Ends its process: links are closed, and dials are refused from now on."""
        for name, epochs in self._met.items():
            node = self.mesh.nodes[name]
            if node.up and node.epochs == epochs:
                node.node.disconnected(self.name, self.local(name), ended=True)
        self._refuse()

    def _refuse(self) -> None:
        for name in self._met:
            if self.mesh.nodes[name].up:
                self.mesh.nodes[name].node.dial_failed(
                    self.name, "", self.local(name), refused=True
                )
        self.mesh.schedule(self.mesh.now_ns + 10**9, self._refuse)

    # ---- what acts are made of ----

    def key(self, name: str) -> tuple[int, int]:
        return self.mesh[name].bucket(self.place[0]).hash(self.place[1])

    def own(self) -> Column:
        return (self.name, self.epoch, self.generation, self.taken, self.refunded)

    def round(
        self,
        name: str,
        debt_ns: int = 1,
        rates: tuple[int, int] | None = ABSURD,
        **values: Any,
    ) -> None:
        """Sends a complete round with its own column."""
        self.rounds += 1
        self.state(
            name, self.key(name), debt_ns, [self.own()], rates, round=self.rounds, parts=1, **values
        )

    def others(self, name: str) -> list[Column]:
        """The columns that it has received, except for those of the node itself."""
        return [one for one in self.columns(self.key(name)) if one[0] not in (name, self.name)]
