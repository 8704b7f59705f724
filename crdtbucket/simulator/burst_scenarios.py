"""Scenarios of rough demand: retries without end, and bursts, at the same time or at random."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario

_BURST_SECONDS = 0.1
_STORM, _POLITE = 100.0, 0.4
_CHANCE, _TAIL, _HIGHEST = 0.05, 1.5, 50.0
"""Chance of a burst in 100 ms in a region; exponent of heights; the highest, in refill rates."""


def storm(s: Settings, scale: float) -> Scenario:
    """One region retries at a hundred times the limit, beside one that wants two fifths of it."""
    wants = [_STORM * s.rate_per_second, _POLITE * s.rate_per_second]

    def demand(_t: float, node: int) -> float:
        return wants[node] if node < len(wants) else 0.0

    title = "a storm of retries (100x) beside a polite region"
    return Scenario("retry-storm", title, round(30 * scale * NS), demand)


def in_step(s: Settings, scale: float) -> Scenario:
    """Bursts of 100 ms in all regions at once, once a second, twice the limit on the average."""
    high = 2.0 / _BURST_SECONDS * s.rate_per_second / s.regions

    def demand(t: float, _node: int) -> float:
        return high if t % 1.0 < _BURST_SECONDS else 0.0

    title = "bursts of 100 ms everywhere at once, 2x"
    return Scenario("bursts-100ms", title, round(60 * scale * NS), demand)


def at_random(s: Settings, scale: float) -> Scenario:
    """Bursts of 100 ms in each region at random times, of heavy-tailed heights, 2x on the average.

    They are the same ones for every seed.
    """
    mean = 2.0 * s.rate_per_second / s.regions
    least = mean / _CHANCE * (_TAIL - 1.0) / _TAIL

    @lru_cache(maxsize=256)
    def height(cell: int, node: int) -> float:
        rng = Random(f"bursts/{cell}/{node}")
        if rng.random() >= _CHANCE:
            return 0.0
        return min(_HIGHEST * s.rate_per_second, least * rng.paretovariate(_TAIL))

    def demand(t: float, node: int) -> float:
        return height(int(t / _BURST_SECONDS + 1e-9), node)

    title = "bursts of 100 ms at random, of heavy-tailed heights, 2x"
    return Scenario("bursts-random", title, round(60 * scale * NS), demand)
