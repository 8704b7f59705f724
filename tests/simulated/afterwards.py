"""When all is over, whoever runs serves: what is asked for within the limit is given, to everybody.

Most runs end soon after something has happened, and many ask for more than the limit, where calls
are denied in any case. So at the end, when every way is open and all that was owed has refilled,
each node is asked for little, in turns.
"""

from __future__ import annotations

from crdtbucket.testing import SimulatedNode
from tests.simulated.network import Network
from tests.simulated.plan import Plan
from tests.simulated.view import View

SECOND = 10**9
MAIN = ("main", "key")
LIGHT = 0.3
"""Of the limit, all nodes together are asked for so much."""
TURNS = 3
"""Calls on each node."""
REFILLED = 0.05
"""Of the capacity may be owed when they begin."""
ROOMY = 25
"""A bucket that holds so many calls of each node denies none; a smaller one not all of a node: of
so little a part of a call is left to the others."""
FORGOTTEN = 20.0
"""Until then there is more left to them where all have asked for much, in seconds."""
WARM = 2.0
"""A node that has come without a memory serves but a share for so long where no peer tells it of
what is owed, in seconds."""
NOTICED = 4.0
"""A clock that has jumped is noticed within so long and two rounds, in seconds: see docs/model.md.
Then the debts of its node are the most that they may be."""
FRAMES = 1500
"""It may cost so many, about."""


class Afterwards:
    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self._plan, self._mesh, self._view = plan, mesh, view
        self.judged = False
        """Whether it could be looked at."""

    def check(self) -> None:
        """Time passes."""
        nodes = [node for node in self._mesh.nodes.values() if node.up]
        if not nodes or not self._view.connected() or self._kept(nodes):
            return  # what is kept for who may still run is denied to the others
        specs = {node.bucket("main").spec for node in nodes}
        if len(specs) > 1:
            return  # one has begun anew with another limit
        (spec,) = specs
        if self._plan.has("come", "return"):
            self._mesh.advance(WARM)
        lag = self._view.hops * (self._plan.gossip_interval + self._plan.one_way)
        if self._plan.has("jump"):
            self._mesh.advance(NOTICED + 2 * lag)
        gap = max(1 / (LIGHT * spec.rate_per_second), 2 * lag)
        cost = max(1, min(int(LIGHT * spec.rate_per_second * gap), spec.capacity // 25))
        small = spec.capacity < ROOMY * cost * len(nodes)
        wait = max(node.peek(*MAIN).debt for node in nodes) / SECOND + small * FORGOTTEN
        frames = max(1, 2 * len(self._plan.linked)) / self._plan.gossip_interval
        turns = min(TURNS, int((FRAMES / frames - wait) / gap / len(nodes)))
        if turns < 1 + small:
            return
        self._mesh.advance(wait + 2 * lag)
        if max(node.peek(*MAIN).debt for node in nodes) > REFILLED * wait * SECOND + SECOND:
            return
        self.judged = True
        denied = {node.name: 0 for node in nodes}
        for _ in range(turns):
            for node in nodes:
                self._mesh.advance(gap)
                denied[node.name] += 1 - node.take_burst(*MAIN, 1, cost)
        if max(denied.values()) > (turns - 1 if small else 0):
            self._view.broken("afterwards", f"of {turns} calls on each node were denied: {denied}")

    def _kept(self, nodes: list[SimulatedNode]) -> bool:
        return any(node.bucket("main").credit("key") for node in nodes)
