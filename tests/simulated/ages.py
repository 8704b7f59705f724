"""What a node knows of a peer is at least as old as the node says it is."""

from __future__ import annotations

from crdtbucket.testing import SimulatedNode
from tests.simulated.network import Network
from tests.simulated.plan import Plan
from tests.simulated.view import View

SECOND = 10**9
APART = 0.002
"""Clocks run apart by half of this at most, and a node has to reckon with as much."""
EPSILON = 0.05
REMEMBERED_NS = 30 * SECOND
"""What the quickest frame took is known for half a minute at least while others come."""


class Ages:
    """The rule `age`: a node takes no news for younger than they are, but for what nobody can know:
    how long the quickest frame took, and by how much the clocks have drifted since it came."""

    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self._plan, self._mesh, self._view = plan, mesh, view

    def look(self, node: SimulatedNode) -> None:
        """Compares what this node says of its peers with when their frames were sent."""
        mesh, now = self._mesh, self._mesh.now_ns
        for name, (lag, _) in node.node.members.lags(node.local_ns(now)).items():
            line, way = mesh.open.get((node.name, name)), (name, node.name)
            newest, timely = mesh.newest.get(way), mesh.timely.get(way)
            if line is None or newest is None or newest[0] is not line:
                continue
            if timely is None or timely[0] is not line or now - timely[1] > REMEMBERED_NS:
                continue  # what a frame takes on this connection is not known yet, or no longer
            unsure = self._plan.one_way + APART * (now - timely[1]) / SECOND + EPSILON
            age, shown = (now - newest[1]) / SECOND, lag / SECOND
            if shown < age - unsure:
                self._view.broken(
                    "age",
                    f"{node.name} takes its news of {name} for {shown:.3f} s old, and they are "
                    f"{age:.3f} s old at {now / SECOND:.3f} s, {unsure:.3f} s cannot be known",
                )
