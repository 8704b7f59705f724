from __future__ import annotations

import pytest

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario, ScenarioFault, skewed_shares
from crdtbucket.simulator.scenario_catalogue import SCENARIOS, select, two_sides
from crdtbucket.simulator.simulation_errors import SimulationError

REGIONS = (1, 2, 3, 5, 16)


def _offered(scenario: Scenario, regions: int, at: float) -> float:
    return sum(scenario.demand(at, node) for node in range(regions))


@pytest.mark.parametrize("regions", REGIONS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_works_for_any_number_of_regions(name: str, regions: int) -> None:
    settings = Settings(regions=regions)
    for scale in (1.0, 0.05):
        scenario = SCENARIOS[name](settings, scale)
        assert scenario.name == name
        for event in scenario.events:
            assert 0 <= event.at_ns < scenario.duration_ns
            assert 0 <= event.node < regions
            if event.fault is ScenarioFault.PARTITION:
                assert sorted(n for group in event.groups for n in group) == list(range(regions))
                assert all(event.groups)
            for source, target in event.ways:
                assert event.fault is ScenarioFault.CUT
                assert source != target
                assert {source, target} <= set(range(regions))
        for k in range(100):
            rates = [
                scenario.demand(k * scenario.duration_ns / NS / 100, n) for n in range(regions)
            ]
            assert min(rates) >= 0
            assert not scenario.light or sum(rates) < settings.rate_per_second
        assert {*scenario.drift_ppm, *scenario.clock_offsets_ns} <= set(range(regions))


@pytest.mark.parametrize(
    ("name", "at", "times_rate"),
    [
        ("balanced", 1, 2),
        ("hot", 1, 2),
        ("skewed", 1, 2),
        ("burst-5x", 9, 0.5),
        ("burst-5x", 10, 5),
        ("burst-5x", 15, 0.5),
        ("cold-20x", 11, 20),
        ("cold-20x", 12, 0),
        ("shifting", 31, 1.5),
        ("roving", 17, 1.5),
        ("square-1s", 2.5, 4),
        ("square-1s", 3.5, 0),
        ("square-5s", 7, 0),
        ("retry-storm", 1, 100.4),
        ("bursts-100ms", 3.05, 20),
        ("bursts-100ms", 3.15, 0),
        ("late-joiner", 20.9, 2),
        ("late-joiner", 21, 3),
        ("late-joiner-at-once", 19.9, 2),
        ("late-joiner-at-once", 20, 3),
        ("partition-30s-light-90", 70, 0.9),
    ],
)
def test_each_demand_offers_its_multiple_of_the_limit(
    name: str, at: float, times_rate: float
) -> None:
    for regions in REGIONS[2:]:
        settings = Settings(regions=regions)
        offered = _offered(SCENARIOS[name](settings, 1.0), regions, at)
        assert offered == pytest.approx(times_rate * settings.rate_per_second)


@pytest.mark.parametrize("regions", REGIONS)
def test_skewed_shares_are_one_for_each_region_and_whole_together(regions: int) -> None:
    assert len(skewed_shares(regions)) == regions
    assert sum(skewed_shares(regions)) == pytest.approx(1)


def test_a_partition_has_two_fifths_of_the_regions_on_one_side() -> None:
    assert two_sides(5) == ((0, 1), (2, 3, 4))
    assert two_sides(2) == ((0,), (1,))


def test_drift_is_symmetrical() -> None:
    ppm = SCENARIOS["drift"](Settings(regions=5), 1.0).drift_ppm
    assert [ppm[node] for node in range(5)] == [-200, -100, 0, 100, 200]


def test_scenarios_are_selected_by_patterns_in_their_order() -> None:
    assert select([]) == list(SCENARIOS)
    assert select(["square-*", "hot"]) == ["hot", "square-1s", "square-5s"]
    with pytest.raises(SimulationError, match="did you mean 'balanced'"):
        select(["balancd"])


def test_scenario_and_settings_name_what_is_wrong() -> None:
    with pytest.raises(SimulationError, match="step_ns"):
        Scenario("x", "x", NS, lambda _t, _n: 1.0, step_ns=3)
    with pytest.raises(SimulationError, match="lasts at least"):
        Scenario("x", "x", 1, lambda _t, _n: 1.0)
    with pytest.raises(SimulationError, match="regions"):
        Settings(regions=0)
    with pytest.raises(SimulationError, match="jitter"):
        Settings(jitter=1.5)
    with pytest.raises(SimulationError, match="refill_rate"):
        Settings(refill_rate=0)
    with pytest.raises(SimulationError, match="lag"):
        Settings(lag_ns=-1)
