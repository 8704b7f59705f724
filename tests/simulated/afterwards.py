"""At the end of a run, every node that runs serves: demand within the limit is not denied, on any
of them.

Most runs end soon after something has happened, and many ask for more than the limit, where calls
are denied in any case. So at the end, when every way is open and all debts have refilled, each node
in turn is asked for little.
"""

from __future__ import annotations

from crdtbucket.testing import SimulatedNode
from tests.simulated.network import Network
from tests.simulated.plan import Plan
from tests.simulated.view import View

SECOND = 10**9
MAIN = ("main", "key")
LIGHT = 0.3
"""The share of the limit that all nodes together are asked for."""
TURNS = 3
"""Calls on each node."""
REFILLED = 0.05
"""The share of the capacity that may still be owed when the calls begin."""
ROOMY = 25
"""A bucket that holds this many calls of each node must not deny any. A smaller one must not deny
all calls of a node: what is held back for the others may be more than the part of a call that is
left."""
FORGOTTEN = 20.0
"""For so many seconds after an overload, more is held back for the other nodes."""
WARM = 2.0
"""Seconds for which a node that has come without a memory serves only a share, unless a peer sends
it what is owed."""
NOTICED = 4.0
"""A clock that has jumped is noticed within so many seconds and two rounds: see docs/model.md.
After that the debts of its node are the most that they may be."""
FRAMES = 1500
"""About how many frames this check may cost."""


class Afterwards:
    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self._plan, self._mesh, self._view = plan, mesh, view
        self.judged = False
        """Whether the end of this run could be judged."""

    def check(self) -> None:
        """Makes the calls and judges them; time passes."""
        nodes = [node for node in self._mesh.nodes.values() if node.up]
        if not nodes or not self._view.connected() or self._kept(nodes):
            return  # credit for nodes that may still run is denied to the others
        specs = {node.bucket("main").spec for node in nodes}
        if len(specs) > 1:
            return  # a node has started again with another limit
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
