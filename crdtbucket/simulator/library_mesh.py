"""The mesh of `crdtbucket.testing` in the form in which the simulator uses it."""

from __future__ import annotations

import math
from typing import Literal

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario, ScenarioFault
from crdtbucket.testing import SimulatedMesh


class LibraryMesh(SimulatedMesh):
    """A simulated mesh for one scenario: network, clocks and bucket by its settings.

    A node that the scenario crashes at time 0 has never run before it is restarted.
    """

    def __init__(
        self,
        scenario: Scenario,
        settings: Settings,
        *,
        prediction: bool = True,
        partition_burst: Literal["whole", "share"] = "whole",
    ) -> None:
        names = settings.node_names()
        super().__init__(
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
            prediction=prediction,
            partition_burst=partition_burst,
            down=absent(scenario, names),
        )

    def joining(self, name: str) -> bool:
        """Whether the node, without memory, has not yet had a complete round from a peer."""
        return not self.nodes[name].node.memory

    def room(self, name: str, bucket: str, key: str) -> int:
        """Tokens that a full bucket of the node keeps free for what silent peers may take."""
        return math.ceil(self.nodes[name].bucket(bucket).credit(key))

    def crash(self, node: str) -> None:
        """The process is killed, if it ever ran."""
        if self[node].up:
            super().crash(node)


def absent(scenario: Scenario, names: tuple[str, ...]) -> set[str]:
    """Nodes that are not there from the start."""
    crashes = (e for e in scenario.events if e.fault is ScenarioFault.CRASH and e.at_ns == 0)
    return {names[event.node] for event in crashes}
