"""The library itself as a rule: a simulated mesh of real nodes on one key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from crdtbucket.simulator.rule import SimulatedRule
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario, ScenarioFault
from crdtbucket.testing import SimulatedMesh

KEY = "one-key"


class MeshRule(SimulatedRule):
    """A mesh as a rule that can be watched: every node counts every take that it knows of.

    A node that the scenario crashes at time 0 has never run before it is restarted.
    """

    def __init__(
        self,
        name: str,
        *,
        prediction: bool = True,
        partition_burst: Literal["whole", "share"] = "whole",
    ) -> None:
        self.name = name
        self._prediction, self._partition_burst = prediction, partition_burst

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """A new mesh at time 0."""
        self.names, self._bucket = list(settings.node_names()), settings.bucket().name
        self._number = {name: number for number, name in enumerate(self.names)}
        self.network = self.mesh = self.made(scenario, settings)
        self._nodes = [self.mesh[name] for name in self.names]
        self._restarted = [False] * settings.regions
        self._guaranteed = [0] * settings.regions

    def made(self, scenario: Scenario, settings: Settings) -> SimulatedMesh:
        """The mesh of a run, with the network, clocks and bucket of its settings."""
        names = settings.node_names()
        return SimulatedMesh(
            names,
            [settings.bucket()],
            latency=settings.lag_ns / NS,
            jitter=settings.jitter,
            reordering=1.0,  # each message has a delay of its own, as in the baselines' network
            loss=scenario.loss,
            gossip_interval=settings.gossip_ns / NS,
            seed=settings.seed,
            clock_offsets={names[n]: ns / NS for n, ns in scenario.clock_offsets_ns.items()},
            clock_drift_ppm={names[n]: ppm for n, ppm in scenario.drift_ppm.items()},
            prediction=self._prediction,
            partition_burst=self._partition_burst,
            down=absent(scenario, names),
        )

    def advance(self, to_ns: int) -> None:
        """Lets time pass, and messages with it. A message that is due right now arrives only when
        time passes."""
        if to_ns > self.now:
            super().advance(to_ns)

    def offer(self, node: int, calls: int, cost: int) -> int:
        """How many of the calls the node admits. A denied call is an attempt too."""
        return self._nodes[node].take_burst(self._bucket, KEY, calls, cost)

    def sever(self, groups: Sequence[Sequence[int]]) -> None:
        """A device between these groups resets connections and refuses calls."""
        self.mesh.sever(*({self.names[node] for node in group} for group in groups))

    def crash(self, node: int) -> None:
        """The node's process ends, if it ever ran."""
        if self._nodes[node].up:
            self.mesh.crash(self.names[node])

    def restart(self, node: int) -> None:
        """The node starts again with empty memory."""
        self.mesh.restart(self.names[node])
        self._restarted[node] = True

    def replace(self, node: int) -> None:
        """A new process, under a name that was never used, takes the place of the node."""
        name = f"{self.names[node]}+"
        self.names[node], self._number[name] = name, node
        self.mesh.join(name)
        self._nodes[node] = self.mesh[name]
        self._restarted[node] = True

    def suspend(self, node: int, duration_ns: int) -> None:
        """The node stands still and keeps its memory."""
        self.mesh.suspend(self.names[node], duration_ns / NS)

    def known(self, node: int) -> Sequence[int] | None:
        """Tokens taken at each node that this one knows of; None while a restarted node has no
        memory.

        Nodes that start with the run need none, as nothing was taken before.
        """
        if self._restarted[node]:
            if not self._nodes[node].node.memory.complete:
                return None
            self._restarted[node] = False
        totals = [0] * len(self._nodes)
        for name, (taken, _) in self._nodes[node].columns(self._bucket, KEY).items():
            totals[self._number[name]] += taken
        return totals

    def room(self, node: int) -> int:
        """Tokens that a full bucket keeps free for silent peers."""
        return math.ceil(self._nodes[node].bucket(self._bucket).credit(KEY))

    def guaranteed(self, node: int) -> int:
        """Calls, of a token each, that the running process has admitted by its guaranteed share."""
        asked = self._nodes[node]
        if asked.up and asked.suspended_until <= self.now:
            self._guaranteed[node] = asked.bucket(self._bucket).counters()["guaranteed"]
        return self._guaranteed[node]


def absent(scenario: Scenario, names: tuple[str, ...]) -> set[str]:
    """Nodes that are not there from the start."""
    crashes = (e for e in scenario.events if e.fault is ScenarioFault.CRASH and e.at_ns == 0)
    return {names[event.node] for event in crashes}
