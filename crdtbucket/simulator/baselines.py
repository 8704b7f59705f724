"""Simple rules for comparison: a static split, and merging of totals by maximum."""

from __future__ import annotations

from typing import cast

from crdtbucket.simulator.node_network import Gossip, Nodes
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Scenario


class StaticSplit(Nodes):
    """Every node has its own bucket of `capacity / nodes` and `rate / nodes`, and talks to none.

    Levels are in tokens x refill interval x nodes, so that the split has no remainder.
    """

    name = "static-split"

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin a run at time 0 with a full bucket everywhere."""
        self._level = [0] * settings.regions
        self._then = [0] * settings.regions
        super().start(scenario, settings)

    def reset(self, node: int) -> None:
        """Give the node a full bucket."""
        self._level[node] = self.settings.capacity * self.settings.interval_ns
        self._then[node] = self.clock(node)

    def offer(self, node: int, calls: int, cost: int) -> int:
        """How many of the calls the node's own part lets pass."""
        settings, clock = self.settings, self.clock(node)
        full = settings.capacity * settings.interval_ns
        level = self._level[node] + settings.refill_rate * (clock - self._then[node])
        unit = cost * settings.interval_ns * settings.regions
        level = min(full, level)
        passed = min(calls, level // unit)
        self._level[node], self._then[node] = level - passed * unit, clock
        return passed

    def own_bound(self, until_ns: int) -> int | None:
        """A node's part of the capacity for each restart, and what fast clocks add; else 0."""
        each = -(-self.settings.capacity // self.settings.regions)
        return each * self.restarts + -(-self.fast_clocks(until_ns) // self.settings.regions)


class MaxOfTotals(Gossip):
    """Every node holds one total of tokens added and one taken; merging keeps the greater.

    Two nodes that take at the same time merge to the greater of the two, not to their sum: takes
    are lost. It is the rule of the systems that replicate one scalar per bucket.
    """

    name = "max-of-totals"

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin a run at time 0 with a full bucket everywhere."""
        self._state = [(0, 0, 0)] * settings.regions
        super().start(scenario, settings)

    def reset(self, node: int) -> None:
        """Give the node a full bucket: (tokens added x interval, taken x interval, refilled at)."""
        full = self.settings.capacity * self.settings.interval_ns
        self._state[node] = (full, 0, self.clock(node))

    def message(self, node: int) -> object:
        """The node's totals."""
        return self._state[node]

    def receive(self, node: int, source: int, message: object) -> None:
        """Keep the greater of each total."""
        mine, theirs = self._state[node], cast("tuple[int, int, int]", message)
        self._state[node] = (
            max(mine[0], theirs[0]),
            max(mine[1], theirs[1]),
            max(mine[2], theirs[2]),
        )

    def offer(self, node: int, calls: int, cost: int) -> int:
        """How many of the calls pass by the totals that the node knows."""
        settings, clock = self.settings, self.clock(node)
        added, taken, then = self._state[node]
        full = settings.capacity * settings.interval_ns
        level = added - taken
        # A merged time may be ahead of a slow clock: nothing is refilled until the clock passes it.
        refill = max(0, min(settings.refill_rate * max(0, clock - then), full - level))
        unit = cost * settings.interval_ns
        passed = max(0, min(calls, (level + refill) // unit))
        if passed:
            self._state[node] = (added + refill, taken + passed * unit, max(then, clock))
        return passed

    def own_bound(self, until_ns: int) -> int | None:
        """Every node may admit the whole limit, and a capacity more after a restart."""
        settings = self.settings
        refilled = -(-settings.refill_rate * until_ns // settings.interval_ns)
        whole = (settings.regions - 1) * (settings.capacity + refilled)
        return whole + self.restarts * settings.capacity + self.fast_clocks(until_ns)
