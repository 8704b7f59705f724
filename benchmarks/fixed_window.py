"""A rule for the simulator: a limiter in the memory of each process, each with the whole limit."""

from __future__ import annotations

from crdtbucket.simulator.node_network import Nodes
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Scenario


class FixedWindows(Nodes):
    """Every node counts by itself, in windows by its clock, and has the whole limit in each.

    A window is as long as the refill of the capacity takes, and lets the capacity pass.
    """

    name = "fixed-windows"

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin a run at time 0 with an empty window everywhere."""
        self._window = [0] * settings.regions
        self._count = [0] * settings.regions
        super().start(scenario, settings)

    def reset(self, node: int) -> None:
        """Give the node an empty window."""
        self._window[node], self._count[node] = self._current(node), 0

    def _current(self, node: int) -> int:
        settings = self.settings
        length = settings.capacity * settings.interval_ns // settings.refill_rate
        return self.clock(node) // max(1, length)

    def offer(self, node: int, calls: int, cost: int) -> int:
        """How many of the calls still fit in the node's own window."""
        if self._window[node] != self._current(node):
            self.reset(node)
        passed = min(calls, (self.settings.capacity - self._count[node]) // cost)
        self._count[node] += passed * cost
        return passed
