"""Who tells whom, and how far away they are."""

from __future__ import annotations

from dataclasses import dataclass

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Demand, Event, Scenario, ScenarioFault


@dataclass(frozen=True)
class Topology:
    """`regions` regions of `nodes` nodes each. Delays are seconds, one way, on average.

    flat: every node tells every other. Else nodes tell those of their region, and one leader a
    region tells the leaders of the others a sum of its region's columns.
    """

    regions: int
    nodes: int
    flat: bool
    within: float = 0.001
    between: float = 0.08
    jitter: float = 0.5
    interval: float = 0.1

    @property
    def size(self) -> int:
        """Nodes in all."""
        return self.regions * self.nodes

    @property
    def columns(self) -> int:
        """Columns that a node holds of a key that all took from."""
        return self.size if self.flat else self.nodes + self.regions

    @property
    def name(self) -> str:
        """What it is called in tables."""
        kind = "flat mesh" if self.flat else "regions"
        return f"{kind}, {self.regions} x {self.nodes}"


@dataclass(frozen=True)
class FleetSettings(Settings):
    """Settings for any number of nodes; `regions` are nodes here."""

    def __post_init__(self) -> None:
        """Nothing is refused: the model has no limit of nodes."""


def settings_of(topology: Topology, seed: int = 0) -> FleetSettings:
    """The simulator's bucket and network, with one node for each of the fleet."""
    return FleetSettings(regions=topology.size, lag_ns=round(topology.between * NS), seed=seed)


def spread(scenario: Scenario, topology: Topology) -> Scenario:
    """A scenario of regions as one of nodes: a region's demand is that of all its nodes alike, and
    what happens to a region happens to all of them."""
    each, demand = topology.nodes, scenario.demand

    def of_node(seconds: float, node: int) -> float:
        return demand(seconds, node // each) / each

    shaped: Demand = of_node
    events = tuple(_spread_event(event, each) for event in scenario.events)
    return Scenario(
        scenario.name, scenario.title, scenario.duration_ns, shaped, events,
        light=scenario.light, loss=scenario.loss, step_ns=scenario.step_ns,
    )  # fmt: skip


def _spread_event(event: Event, each: int) -> Event:
    if event.fault not in (ScenarioFault.PARTITION, ScenarioFault.HEAL):
        raise ValueError(f"{event.fault.value} happens to a node, not to a region")
    groups = tuple(
        tuple(region * each + node for region in group for node in range(each))
        for group in event.groups
    )
    return Event(event.at_ns, event.fault, groups=groups)
