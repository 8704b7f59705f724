"""The nodes of the rules that crdtbucket is compared with: clocks, faults, and simple gossip."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from crdtbucket.simulator.rule import SimulatedRule
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Scenario
from crdtbucket.testing.simulated_network import SimulatedNetwork
from crdtbucket.testing.simulation_settings import SimulationSettings

_PPM = 1_000_000


class Nodes(SimulatedRule):
    """The nodes that simple rules share: their clocks, and which are up."""

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin a run at time 0 with a full bucket everywhere."""
        self.settings, self.scenario = settings, scenario
        self.names = list(settings.node_names())
        self.network = SimulatedNetwork(self.names, SimulationSettings())
        self.ppm = [round(scenario.drift_ppm.get(n, 0.0)) for n in range(settings.regions)]
        self.up_at: list[int | None] = [0] * settings.regions
        self.restarts = 0
        for node in range(settings.regions):
            self.reset(node)

    def reset(self, node: int) -> None:
        """Give the node an empty memory."""
        raise NotImplementedError

    def clock(self, node: int) -> int:
        """The node's own time, ns: monotonic, and as fast as its drift says."""
        return self.now + self.now * self.ppm[node] // _PPM

    def is_up(self, node: int) -> bool:
        """Whether the node runs now."""
        up_at = self.up_at[node]
        return up_at is not None and self.now >= up_at

    def passes(self, source: int, target: int) -> bool:
        """Whether a message that arrives now gets through."""
        return self.network.passes(self.names[source], self.names[target])

    def sever(self, groups: Sequence[Sequence[int]]) -> None:
        """Does the same as `partition`, since these rules have no connections that could be
        reset."""
        self.partition(groups)

    def crash(self, node: int) -> None:
        """The node's memory is lost."""
        self.up_at[node] = None

    def restart(self, node: int) -> None:
        """The node starts again with empty memory."""
        self.restarts += 1
        self.up_at[node] = self.now
        self.reset(node)

    def replace(self, node: int) -> None:
        """Restarts the node: these rules know nodes by number, so that a new name changes
        nothing."""
        self.restart(node)

    def suspend(self, node: int, duration_ns: int) -> None:
        """The node stands still and keeps its memory."""
        self.up_at[node] = self.now + duration_ns

    def fast_clocks(self, until_ns: int) -> int:
        """Tokens beyond the rate that nodes with fast clocks refill in that time, summed over the
        nodes."""
        fast = sum(max(0, ppm) for ppm in self.ppm)
        rate, interval = self.settings.refill_rate, self.settings.interval_ns
        return -(-rate * until_ns * fast // (interval * _PPM))


class Gossip(Nodes):
    """Nodes that send each other a message every interval. Messages are late, reordered and lost at
    random, by the seed.

    Messages must be cumulative, since one that meets a cut link or a node that is down is lost.
    """

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin a run at time 0. Every node sends its first message at a random phase of the
        interval."""
        super().start(scenario, settings)
        self._rng = Random(f"{settings.seed}/{scenario.name}/network")
        if settings.regions > 1:
            for node in range(settings.regions):
                phase = round(self._rng.random() * settings.gossip_ns)
                self.network.schedule(phase, self._round, node)

    def message(self, node: int) -> object:
        """What the node sends in its round."""
        raise NotImplementedError

    def receive(self, node: int, source: int, message: object) -> None:
        """The node receives a message of `source`."""
        raise NotImplementedError

    def _round(self, node: int) -> None:
        settings, rng = self.settings, self._rng
        self.network.schedule(self.now + settings.gossip_ns, self._round, node)
        if not self.is_up(node):
            return
        message = self.message(node)
        for target in range(settings.regions):
            if target != node and rng.random() >= self.scenario.loss:
                spread = settings.jitter * (2.0 * rng.random() - 1.0)
                at = self.now + round(settings.lag_ns * (1.0 + spread))
                at = self.network.late((self.names[node], self.names[target]), at)
                self.network.schedule(at, self._deliver, node, target, message)

    def _deliver(self, source: int, target: int, message: object) -> None:
        if self.is_up(target) and self.passes(source, target):
            self.receive(target, source, message)
