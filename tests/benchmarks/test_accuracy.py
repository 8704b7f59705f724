"""Fixed windows in each region: the rule that only the benchmark has."""

from __future__ import annotations

from benchmarks.fixed_window import FixedWindows
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import simulate

SETTINGS = Settings(regions=2, capacity=100, refill_rate=50)  # a window is two seconds


def started() -> FixedWindows:
    rule = FixedWindows()
    rule.start(SCENARIOS["balanced"](SETTINGS, 1.0), SETTINGS)
    return rule


def test_each_node_has_the_whole_limit() -> None:
    rule = started()
    assert [rule.offer(node, 150, 1) for node in (0, 1)] == [100, 100]
    assert [rule.offer(node, 1, 1) for node in (0, 1)] == [0, 0]


def test_a_window_ends_and_what_was_left_of_it_is_lost() -> None:
    rule = started()
    assert rule.offer(0, 30, 1) == 30
    rule.advance(2 * NS - 1)
    assert rule.offer(0, 100, 1) == 70
    rule.advance(2 * NS)
    assert rule.offer(0, 150, 1) == 100
    rule.advance(3 * NS)
    assert rule.offer(0, 1, 1) == 0


def test_costs_are_whole_tokens_of_the_window() -> None:
    rule = started()
    assert rule.offer(0, 50, 30) == 3
    assert rule.offer(0, 50, 10) == 1


def test_a_restart_forgets() -> None:
    rule = started()
    rule.offer(0, 100, 1)
    rule.crash(0)
    rule.restart(0)
    assert rule.offer(0, 5, 1) == 5


def test_regions_that_all_want_it_get_the_limit_each() -> None:
    settings = Settings(regions=5)
    outcome = simulate(FixedWindows(), SCENARIOS["balanced"](settings, 1.0), settings)
    assert outcome.ratio is not None
    assert outcome.ratio > 1.5  # twice the limit is offered, and hardly anything is denied
