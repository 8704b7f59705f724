"""The scenarios of a replicated store: for any number of regions, each fault where it belongs."""

from __future__ import annotations

import pytest

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario, ScenarioFault
from crdtbucket.simulator.scenario_catalogue import SCENARIOS, select
from crdtbucket.simulator.store_scenarios import ALL_SCENARIOS, STORE_SCENARIOS

OWN = [name for name in STORE_SCENARIOS if name not in SCENARIOS]


def rates(scenario: Scenario, at: float, regions: int) -> list[float]:
    return [scenario.demand(at, node) for node in range(regions)]


@pytest.mark.parametrize("regions", [1, 2, 3, 5])
@pytest.mark.parametrize("name", OWN)
def test_every_scenario_works_for_any_number_of_regions(name: str, regions: int) -> None:
    settings = Settings(regions=regions)
    for scale in (1.0, 0.05):
        scenario = STORE_SCENARIOS[name](settings, scale)
        assert scenario.name == name
        assert [event.fault is ScenarioFault.HEAL for event in scenario.events] in (
            [],
            [False, True],
        )
        for event in scenario.events:
            assert 0 < event.at_ns < scenario.duration_ns
            if event.fault is ScenarioFault.PARTITION:
                assert sorted(n for group in event.groups for n in group) == list(range(regions))
        for k in range(100):
            found = rates(scenario, k * scenario.duration_ns / NS / 100, regions)
            assert min(found) >= 0
            assert not scenario.light or sum(found) < settings.rate_per_second
        assert set(scenario.drift_ppm) <= set(range(regions))


def test_a_node_that_sees_nobody_one_peer_or_all_but_one() -> None:
    settings = Settings(regions=3)

    def cut(name: str) -> object:
        event = STORE_SCENARIOS[name](settings, 1.0).events[0]
        return event.groups or event.ways

    assert cut("apart-60s") == ((0,), (1,), (2,))
    assert cut("apart-60s-alone") == ((0,), (1, 2))
    assert cut("apart-60s-pair") == ((0, 2), (2, 0))


def test_where_demand_moves_and_bursts() -> None:
    settings = Settings(regions=3)
    rate = settings.rate_per_second
    moving = STORE_SCENARIOS["apart-60s-moving"](settings, 1.0)
    assert rates(moving, 49.0, 3) == pytest.approx([1.8 * rate, 0.2 * rate, 0.0])
    assert rates(moving, 51.0, 3) == pytest.approx([0.2 * rate, 1.8 * rate, 0.0])
    moved = STORE_SCENARIOS["apart-60s-moved"](settings, 1.0)
    assert rates(moved, 51.0, 3) == [0.0, 2.0 * rate, 0.0]
    burst = STORE_SCENARIOS["apart-60s-burst"](settings, 1.0)
    assert rates(burst, 76.9, 3)[0] == pytest.approx(rate / 6)
    assert rates(burst, 77.1, 3)[0] == 8.0 * rate
    assert rates(burst, 80.1, 3)[0] == pytest.approx(rate / 6)


def test_patterns_select_from_a_catalogue_and_no_name_means_two_things() -> None:
    assert select([], STORE_SCENARIOS) == list(STORE_SCENARIOS)
    assert select(["apart-300s*"], STORE_SCENARIOS) == ["apart-300s", "apart-300s-skewed"]
    assert ALL_SCENARIOS.keys() == SCENARIOS.keys() | STORE_SCENARIOS.keys()
    for name in STORE_SCENARIOS.keys() & SCENARIOS.keys():
        assert STORE_SCENARIOS[name] is SCENARIOS[name]
