from __future__ import annotations

import pytest

from crdtbucket.simulator.rule import WatchedRule
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Event, Scenario, ScenarioFault
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import simulate
from tests.simulator.naive_mesh import NaiveMesh

SHORT = {"drift": 0.05, "suspend-60s": 0.1, "rarest-callers": 0.05}


def test_naive_mesh_is_watched() -> None:
    assert isinstance(NaiveMesh(), WatchedRule)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_run_exceeds_its_bound(name: str) -> None:
    settings = Settings(seed=7, regions=4, capacity=1_000, refill_rate=300)
    scale = 0.05 if "partition-300s" in name else SHORT.get(name, 0.2)
    outcome = simulate(NaiveMesh(), SCENARIOS[name](settings, scale), settings)
    assert outcome.bound_percent is not None
    assert outcome.over_admission_percent <= outcome.bound_percent


def test_bound_is_what_light_allows() -> None:
    """Four fifths of what is offered within the longest delay and one interval, and no more."""
    settings = Settings(seed=1)
    outcome = simulate(NaiveMesh(), SCENARIOS["cold-20x"](settings, 0.5), settings)
    assert outcome.bound_percent is not None
    farthest = settings.lag_ns * (1 + settings.jitter) + settings.gossip_ns + 10_000_000
    most = 100 * 20 * settings.rate_per_second * farthest / NS / settings.capacity * 4 / 5
    assert outcome.over_admission_percent <= outcome.bound_percent <= most * 1.05
    assert outcome.bound_percent < 2 * outcome.over_admission_percent


def test_bound_of_a_partition_is_what_the_other_side_took() -> None:
    settings = Settings(seed=1, capacity=1_000, refill_rate=500)
    outcome = simulate(NaiveMesh(), SCENARIOS["partition-30s"](settings, 0.5), settings)
    assert outcome.bound_percent is not None
    assert 600 < outcome.over_admission_percent <= outcome.bound_percent < 1_200


def test_second_partition_adds_what_was_forgiven_after_the_first() -> None:
    settings = Settings(seed=1, capacity=500, refill_rate=500, max_debt=100)
    cut = ((0, 1), (2, 3, 4))
    events = [
        Event((start + length) * NS, fault, groups=cut if fault is ScenarioFault.PARTITION else ())
        for start in (5, 30)
        for length, fault in ((0, ScenarioFault.PARTITION), (15, ScenarioFault.HEAL))
    ]
    scenario = Scenario("twice", "", 50 * NS, lambda _t, _n: 200.0, tuple(events))
    outcome = simulate(NaiveMesh(), scenario, settings)
    assert outcome.bound_percent is not None
    # Either partition alone doubles the limit for 15 s: 1,500 % of the capacity.
    assert 2_000 < outcome.over_admission_percent <= outcome.bound_percent < 3_500


def test_a_rule_that_loses_takes_is_found_over_the_bound() -> None:
    settings = Settings(seed=3)
    outcome = simulate(NaiveMesh(forget=0.3), SCENARIOS["balanced"](settings, 0.5), settings)
    assert outcome.bound_percent is not None
    assert outcome.over_admission_percent > outcome.bound_percent


def test_node_without_memory_adds_its_share_and_not_its_history() -> None:
    settings = Settings(seed=1)
    outcome = simulate(NaiveMesh(), SCENARIOS["restart-hot"](settings, 1.0), settings)
    assert outcome.bound_percent is not None
    # Five restarts, each of which may lose what was on its way and take a share of a fifth.
    assert outcome.over_admission_percent <= outcome.bound_percent < 5 * (20 + 5)
