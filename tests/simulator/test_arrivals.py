from __future__ import annotations

import statistics
from random import Random

import pytest

from crdtbucket.simulator.arrivals import arrivals, poisson
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import GRID_NS, Scenario


@pytest.mark.parametrize("mean", [0.0004, 0.3, 1.7, 8.0, 55.0, 4_000.0])
def test_poisson_has_its_mean_and_its_variance(mean: float) -> None:
    rng, draws = Random(1), 20_000
    counts = [poisson(mean, rng) for _ in range(draws)]
    error = 5 * (mean / draws) ** 0.5
    assert statistics.fmean(counts) == pytest.approx(mean, abs=error)
    assert statistics.variance(counts) == pytest.approx(mean, rel=0.1 if mean > 0.1 else 1.0)


def test_poisson_without_demand() -> None:
    assert poisson(0.0, Random(1)) == 0


def _scenario(rate: float = 700.0, step_ns: int = 1_000_000) -> Scenario:
    return Scenario("x", "x", 5 * NS, lambda t, n: rate if n or t < 1 else 0.0, step_ns=step_ns)


@pytest.mark.parametrize("rate", [3.0, 150.0, 700.0])
def test_calls_follow_the_demand(rate: float) -> None:
    total = [0, 0]
    for block in arrivals(_scenario(rate), Settings(regions=2, seed=5)):
        assert block.rates == ((rate if block.start_ns < NS else 0.0), rate)
        for at, calls in block.steps:
            assert block.start_ns <= at < block.start_ns + GRID_NS
            assert at % 1_000_000 == 0
            for node, count in calls:
                assert count > 0
                total[node] += count
    assert total[0] == pytest.approx(rate, abs=5 * rate**0.5)
    assert total[1] == pytest.approx(5 * rate, abs=5 * (5 * rate) ** 0.5)


def test_times_never_go_back_and_a_seed_repeats() -> None:
    blocks = list(arrivals(_scenario(), Settings(regions=2, seed=5)))
    times = [at for block in blocks for at, _ in block.steps]
    assert times == sorted(set(times))
    assert blocks == list(arrivals(_scenario(), Settings(regions=2, seed=5)))
    assert blocks != list(arrivals(_scenario(), Settings(regions=2, seed=6)))


def test_a_node_stream_does_not_depend_on_the_others() -> None:
    def of_first(regions: int) -> list[tuple[int, int]]:
        settings = Settings(regions=regions, seed=5)
        return [
            (at, count)
            for block in arrivals(_scenario(), settings)
            for at, calls in block.steps
            for node, count in calls
            if node == 1
        ]

    assert of_first(2) == of_first(5)
