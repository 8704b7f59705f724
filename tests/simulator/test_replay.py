from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from crdtbucket import demo
from crdtbucket.simulator.baselines import MaxOfTotals, StaticSplit
from crdtbucket.simulator.replay import replay
from crdtbucket.simulator.rule import SimulatedRule
from crdtbucket.simulator.rule_catalogue import CRDTBUCKET, NO_PREDICTION, make_rule
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.simulator.trace import Trace, read_trace
from tests.simulator.naive_mesh import NaiveMesh

RULES: list[Callable[[], SimulatedRule]] = [StaticSplit, MaxOfTotals, NaiveMesh]


def _trace(calls: int, gap_ns: int, cost: int) -> Trace:
    return Trace(array("q", (k * gap_ns for k in range(calls))), array("q", [cost] * calls))


@pytest.mark.parametrize("make", RULES)
def test_same_seed_same_outcome_within_the_bound(make: Callable[[], SimulatedRule]) -> None:
    trace = _trace(3_000, NS // 100, 40)
    settings = Settings(capacity=4_000, refill_rate=2_000, seed=4)
    outcome = replay(make(), trace, settings)
    assert outcome == replay(make(), trace, settings)
    assert outcome.bound_percent is not None
    assert outcome.over_admission_percent <= outcome.bound_percent
    assert (outcome.offered, outcome.calls_offered) == (120_000, 3_000)
    assert outcome.admitted == 40 * outcome.calls_admitted


def test_one_region_is_the_ideal_bucket() -> None:
    trace = _trace(1_000, NS // 100, 30)
    for make in RULES:
        outcome = replay(make(), trace, Settings(regions=1, capacity=500, refill_rate=1_000))
        assert outcome.ratio == 1
        assert outcome.admitted == pytest.approx(500 + 10 * 1_000, abs=30)


def test_calls_above_the_capacity_and_calls_for_nothing_are_counted_apart() -> None:
    trace = Trace(array("q", [0, 1, 2, 3]), array("q", [5, 101, 0, 300]))
    outcome = replay(StaticSplit(), trace, Settings(regions=1, capacity=100))
    assert (outcome.offered, outcome.admitted, outcome.calls_offered) == (5, 5, 1)
    assert (outcome.too_large, outcome.too_large_tokens, outcome.free) == (2, 401, 1)


def test_a_call_of_the_whole_capacity_is_not_too_large() -> None:
    outcome = replay(StaticSplit(), _trace(1, 1, 100), Settings(regions=1, capacity=100))
    assert (outcome.too_large, outcome.admitted) == (0, 100)


def test_every_rule_sees_the_same_calls_and_seeds_spread_them_differently() -> None:
    trace = _trace(500, NS // 50, 10)

    def shares(seed: int, make: Callable[[], SimulatedRule]) -> tuple[float | None, int]:
        outcome = replay(make(), trace, Settings(seed=seed, capacity=10_000))
        return outcome.starved_seconds, outcome.offered

    assert len({shares(1, make) for make in RULES}) == 1
    assert shares(1, StaticSplit) != shares(2, StaticSplit)


def test_a_faster_replay_meets_less_refill() -> None:
    trace = _trace(1_000, NS // 10, 10)
    settings = Settings(regions=1, capacity=100, refill_rate=100)
    assert replay(StaticSplit(), trace, settings).ratio == 1
    assert replay(StaticSplit(), trace, settings).admitted == 10_000
    assert replay(StaticSplit(), trace, settings, speed=4).admitted == pytest.approx(2_600, abs=10)
    with pytest.raises(SimulationError, match="speed"):
        replay(StaticSplit(), trace, settings, speed=0)
    with pytest.raises(SimulationError, match="speed 1e-300 the replay takes over a century"):
        replay(StaticSplit(), trace, settings, speed=1e-300)


def test_a_trace_of_real_calls_exceeds_less_with_prediction_than_without() -> None:
    """Few calls a second of most unequal costs, near twice the limit."""
    whole = read_trace(Path(demo.__file__).with_name("trace.csv"))
    trace = Trace(whole.times_ns[:600], whole.costs[:600])
    settings = Settings(capacity=20_000, refill_rate=4_000)
    with_it, without = (
        replay(make_rule(name), trace, settings) for name in (CRDTBUCKET, NO_PREDICTION)
    )
    assert with_it.over_admission_percent <= without.over_admission_percent - 3
    assert with_it.ratio is not None
    assert with_it.ratio >= 0.99
