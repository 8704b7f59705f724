"""Draws when calls arrive: a Poisson stream for each node, the same one for every rule."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import GRID_NS, Scenario

_SPREAD = 12
_FEW = 2.0


@dataclass(frozen=True)
class Block:
    """One cell of the time grid: the demand of each node (`rates`, calls a second), and its calls.
    `steps` are (ns, [(node, calls), ...])."""

    start_ns: int
    rates: tuple[float, ...]
    steps: list[tuple[int, list[tuple[int, int]]]]


@lru_cache(maxsize=4096)
def _table(mean: float) -> tuple[int, list[float]]:
    """The lowest count, and P(count <= lowest + i) for every i that a draw can tell apart."""
    width = _SPREAD * math.sqrt(mean) + _SPREAD
    low, high = max(0, int(mean - width)), int(mean + width) + 1
    total, sums = 0.0, []
    for count in range(low, high + 1):
        total += math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
        sums.append(total)
    return low, sums


def poisson(mean: float, rng: Random) -> int:
    """Draws one Poisson count, by inversion."""
    if mean <= 0.0:
        return 0
    low, sums = _table(mean)
    return low + min(bisect_right(sums, rng.random()), len(sums) - 1)


def arrivals(scenario: Scenario, settings: Settings) -> Iterator[Block]:
    """Yields every cell of the grid with its calls, in the order of time.

    A node's stream depends only on the seed, the scenario and the node: every rule is asked the
    same, whatever it answers.
    """
    nodes = range(settings.regions)
    rngs = [Random(f"{settings.seed}/{scenario.name}/{node}") for node in nodes]
    demand, step_ns = scenario.demand, scenario.step_ns
    steps = GRID_NS // step_ns
    for start in range(0, scenario.duration_ns - GRID_NS + 1, GRID_NS):
        seconds = start / NS
        rates = tuple(demand(seconds, node) for node in nodes)
        calls: dict[int, list[tuple[int, int]]] = {}
        for node, rate in enumerate(rates):
            if rate > 0.0:
                _draw(rate * step_ns / NS, steps, rngs[node], node, calls)
        yield Block(start, rates, [(start + k * step_ns, calls[k]) for k in sorted(calls)])


def _draw(
    mean: float, steps: int, rng: Random, node: int, calls: dict[int, list[tuple[int, int]]]
) -> None:
    if mean * steps < _FEW:
        # The same distribution with a single draw, since most such cells have no call.
        counts = [0] * steps
        for _ in range(poisson(mean * steps, rng)):
            counts[int(rng.random() * steps)] += 1
    else:
        counts = [poisson(mean, rng) for _ in range(steps)]
    for k, count in enumerate(counts):
        if count:
            calls.setdefault(k, []).append((node, count))
