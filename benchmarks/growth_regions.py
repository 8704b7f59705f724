"""What would regions cost and lose whose leaders exchange sums, against one flat mesh?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

from benchmarks.fleet.model import FleetRule
from benchmarks.fleet.topology import Topology, settings_of, spread
from benchmarks.measure import Case, Comparison, Scale
from benchmarks.scripted import frame_bytes
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import simulate

QUESTION = "what would regions cost and lose whose leaders exchange sums, against a flat mesh?"
REGIONS = 10
KEYS = 100
LOST = "leader-lost"
"""As skewed, and the leader of the region with most of the demand is lost, twice."""
UNITS = (
    "admitted, % of ideal",
    "excess, % of capacity",
    "dark s",
    "frames sent /s a node",
    "frames sent /s a leader",
    f"kB sent /s a node, {KEYS} such keys",
    f"kB sent /s a leader, {KEYS} such keys",
)
Values = tuple[float, ...]


def fleet(topology: Topology, name: str, scale: float) -> Values:
    """A scenario of the catalogue, played by regions: see `UNITS`."""
    made = SCENARIOS["skewed" if name == LOST else name](Settings(regions=topology.regions), scale)
    scenario = spread(made, topology)
    seconds = scenario.duration_ns / NS
    losses = [(seconds / 3, 0), (seconds * 2 / 3, 0)] if name == LOST else []
    rule = FleetRule(topology, losses=losses)
    outcome = simulate(rule, scenario, settings_of(topology))
    played = rule.now  # up to the last call
    within = rule.frames["within"] / played / topology.size
    between = rule.frames["between"] / played
    between /= topology.size if topology.flat else topology.regions
    columns = topology.size if topology.flat else topology.regions
    across = between * frame_bytes(columns, KEYS) / 1e3
    inside = within * frame_bytes(topology.columns, KEYS) / 1e3
    flat = topology.flat
    return (
        100.0 * (outcome.ratio or 0.0),
        outcome.excess_percent,
        outcome.dark_seconds,
        between if flat else within,
        within + between,
        across if flat else inside,
        across + inside,
    )


def spread_time(topology: Topology, seeds: Iterator[int]) -> Values:
    """Ms from a take on a node that leads nothing until all nodes have counted it."""
    rule, seed = FleetRule(topology), next(seeds)
    made = SCENARIOS["balanced"](Settings(regions=topology.regions), 1.0)
    rule.start(spread(made, topology), settings_of(topology, seed))
    rule.advance(NS)
    rule.offer(min(1, topology.size - 1), 1, 1)
    waited = 0
    while (rule.known.sum(axis=1) < 1).any():
        waited += 5
        if waited > 10_000:
            raise AssertionError(f"{topology.name}: not all have counted it after 10 s")
        rule.advance(NS + waited * NS // 1000)
    return (float(waited),)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """How long news take, and each scenario at 200 nodes, flat and in regions, and at 1,000."""
    sizes = [n for n in (20, 100) if n <= scale.pick(100, 20, 2)] or [2]
    shapes = [Topology(REGIONS, n, flat) for n in sizes for flat in (True, False)]
    shapes = [shape for shape in shapes if not (shape.flat and shape.size > 500)]
    yield Comparison(
        "until all have counted a take",
        ("ms",),
        [Case(shape.name, partial(spread_time, shape, count())) for shape in shapes],
        note="1 ms within a region, 80 ms between, +-50 %; rounds every 100 ms",
        repeats=scale.pick(20, 5, 1),
    )
    names = ("balanced", "skewed", "cold-20x", "square-1s", "roving", "partition-30s", LOST)
    for name in names if scale.name != "smoke" else (LOST,):
        lasts = 0.01 if scale.name == "smoke" else scale.pick(20, 10, 0) / 100
        yield Comparison(
            f"{name}: {REGIONS} regions",
            UNITS,
            [Case(shape.name, partial(fleet, shape, name, lasts)) for shape in shapes],
            [(f"flat mesh, {REGIONS} x 100", "cannot be: 511 processes can be told apart")],
            note="a model of the rule on one key, of a capacity of 10,000 and 2,000 tokens/s; kB: "
            "by the codec's sizes, with a column of each node or region in every entry",
            repeats=1,
        )
