from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from crdtbucket.simulator.baselines import MaxOfTotals, StaticSplit
from crdtbucket.simulator.node_network import Nodes
from crdtbucket.simulator.rule import SimulatedRule
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Event, Scenario, ScenarioFault
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import Outcome, simulate
from tests.simulator.naive_mesh import NaiveMesh

RULES: list[Callable[[], SimulatedRule]] = [StaticSplit, MaxOfTotals, NaiveMesh]


def _run(rule: SimulatedRule, name: str, scale: float = 1.0, **changes: int) -> Outcome:
    settings = Settings(**{"seed": 1, **changes})
    return simulate(rule, SCENARIOS[name](settings, scale), settings)


class Asked(Nodes):
    """A rule that admits everything and remembers what it was asked."""

    name = "asked"

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []

    def start(self, scenario: Scenario, settings: Settings) -> None:
        super().start(scenario, settings)
        self.log.append(("start", scenario.name))

    def reset(self, node: int) -> None:
        return

    def advance(self, to_ns: int) -> None:
        assert to_ns >= self.now
        super().advance(to_ns)

    def offer(self, node: int, calls: int, cost: int) -> int:
        self.log.append(("offer", self.now, node))
        return calls

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        self.log.append(("partition", self.now, groups))

    def cut(self, ways: Sequence[tuple[int, int]]) -> None:
        self.log.append(("cut", self.now, ways))

    def stall(self, held_ns: int, drain_ns: int) -> None:
        self.log.append(("stall", self.now, held_ns, drain_ns))

    def heal(self) -> None:
        self.log.append(("heal", self.now))

    def crash(self, node: int) -> None:
        self.log.append(("crash", self.now, node))

    def restart(self, node: int) -> None:
        self.log.append(("restart", self.now, node))

    def suspend(self, node: int, duration_ns: int) -> None:
        self.log.append(("suspend", self.now, node, duration_ns))


def test_faults_reach_the_rule_and_down_nodes_are_asked_nothing() -> None:
    events = (
        Event(NS, ScenarioFault.PARTITION, groups=((0,), (1,))),
        Event(NS + NS // 2, ScenarioFault.CUT, ways=((0, 1),)),
        Event(2 * NS, ScenarioFault.HEAL),
        Event(2 * NS + NS // 2, ScenarioFault.STALL, duration_ns=NS, drain_ns=2 * NS),
        Event(3 * NS, ScenarioFault.CRASH, 1),
        Event(4 * NS, ScenarioFault.RESTART, 1),
        Event(5 * NS, ScenarioFault.SUSPEND, 0, duration_ns=NS),
    )
    rule = Asked()
    scenario = Scenario("x", "x", 7 * NS, lambda _t, _n: 500.0, events)
    outcome = simulate(rule, scenario, Settings(regions=2))
    assert [entry for entry in rule.log if entry[0] != "offer"] == [
        ("start", "x"),
        ("partition", NS, ((0,), (1,))),
        ("cut", NS + NS // 2, ((0, 1),)),
        ("heal", 2 * NS),
        ("stall", 2 * NS + NS // 2, NS, 2 * NS),
        ("crash", 3 * NS, 1),
        ("restart", 4 * NS, 1),
        ("suspend", 5 * NS, 0, NS),
    ]
    offers = [(int(str(e[1])) // NS, e[2]) for e in rule.log if e[0] == "offer"]
    seconds = {node: {second for second, who in offers if who == node} for node in (0, 1)}
    assert seconds == {0: {0, 1, 2, 3, 4, 6}, 1: {0, 1, 2, 4, 5, 6}}
    assert outcome.bound_percent is None
    assert outcome.admitted == outcome.offered


@pytest.mark.parametrize("make", RULES)
@pytest.mark.parametrize("name", ["skewed", "loss-30", "restart-skewed", "partition-30s"])
def test_same_seed_same_outcome(make: Callable[[], SimulatedRule], name: str) -> None:
    first = _run(make(), name, 0.05)
    assert first == _run(make(), name, 0.05)
    assert first != _run(make(), name, 0.05, seed=2)


@pytest.mark.parametrize("name", ["balanced", "skewed", "restart-hot", "suspend-60s"])
def test_every_rule_is_asked_the_same(name: str) -> None:
    assert len({_run(make(), name, 0.1).offered for make in RULES}) == 1


def test_one_region_is_the_ideal_bucket() -> None:
    for make in RULES:
        outcome = _run(make(), "burst-5x", 0.5, regions=1)
        assert outcome.ratio == 1
        assert outcome.over_admission_percent <= 0


# Expected figures are those of independent simulators of the same rules, seed apart.


def test_static_split_never_exceeds_but_starves_the_hot_region() -> None:
    balanced = _run(StaticSplit(), "balanced")
    assert balanced.over_admission_percent == pytest.approx(0, abs=0.2)
    assert balanced.ratio == pytest.approx(1, abs=0.001)
    assert balanced.bound_percent == 0
    hot = _run(StaticSplit(), "hot")
    assert hot.ratio == pytest.approx(0.2, abs=0.005)
    assert hot.over_admission_percent == pytest.approx(-89, abs=1)
    skewed = _run(StaticSplit(), "skewed")
    assert skewed.ratio == pytest.approx(0.58, abs=0.01)
    assert skewed.over_admission_percent == pytest.approx(-83, abs=1)


def test_max_of_totals_admits_far_more_than_the_limit() -> None:
    balanced = _run(MaxOfTotals(), "balanced")
    assert balanced.over_admission_percent == pytest.approx(1102, rel=0.02)
    assert balanced.ratio == pytest.approx(1.85, abs=0.02)
    cold = _run(MaxOfTotals(), "cold-20x")
    assert cold.over_admission_percent == pytest.approx(560, rel=0.01)
    assert cold.ratio == pytest.approx(5, abs=0.05)
    assert _run(MaxOfTotals(), "hot").ratio == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("make", [StaticSplit, MaxOfTotals])
def test_no_baseline_exceeds_its_own_bound(make: Callable[[], SimulatedRule], name: str) -> None:
    outcome = _run(make(), name, 0.05, capacity=300, refill_rate=200)
    assert outcome.bound_percent is not None
    assert outcome.over_admission_percent <= outcome.bound_percent


def test_naive_mesh_keeps_a_balanced_limit() -> None:
    outcome = _run(NaiveMesh(), "balanced", 0.5)
    assert outcome.ratio == pytest.approx(1, abs=0.01)
    assert outcome.over_admission_percent < 5


def test_light_load_counts_denials_and_only_there() -> None:
    assert _run(StaticSplit(), "partition-30s-light-90", 0.2).denied_light == 0
    tiny = _run(StaticSplit(), "partition-30s-light-90", 0.2, capacity=10)
    assert tiny.denied_light == tiny.offered - tiny.admitted > 0
    assert _run(StaticSplit(), "balanced", 0.2).denied_light == 0


def test_a_starved_node_is_seen() -> None:
    class Starves(StaticSplit):
        def offer(self, node: int, calls: int, cost: int) -> int:
            starved = node == 3 and 2 * NS <= self.now < 5 * NS
            return 0 if starved else super().offer(node, calls, cost)

    assert _run(Starves(), "balanced", 0.2).starved_seconds == pytest.approx(3, abs=0.05)


def test_a_curve_has_a_point_for_each_interval_and_never_falls() -> None:
    settings = Settings(seed=1)
    scenario = SCENARIOS["balanced"](settings, 0.1)
    outcome = simulate(StaticSplit(), scenario, settings, curve_every_ns=NS // 10)
    assert len(outcome.curve) == 60
    assert [point[0] for point in outcome.curve[:3]] == [0.0, 0.1, 0.2]
    for before, after in zip(outcome.curve, outcome.curve[1:], strict=False):
        assert all(a <= b for a, b in zip(before, after, strict=True))
    assert outcome.curve[-1][1] <= outcome.offered
