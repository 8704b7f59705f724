"""Demand over the regions of a scenario: even, skewed, from one region alone, or in waves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Demand

_SKEW = (0.7, 0.2, 0.05, 0.05, 0.0)


def skewed_shares(regions: int) -> tuple[float, ...]:
    """Shares of the demand by region; what few regions leave over goes to the last of them."""
    if regions >= len(_SKEW):
        return _SKEW + (0.0,) * (regions - len(_SKEW))
    return (*_SKEW[: regions - 1], sum(_SKEW[regions - 1 :]))


def even(settings: Settings, load: float) -> Demand:
    """Every region offers the same; together `load` times the refill."""
    each = load * settings.rate_per_second / settings.regions
    return lambda _t, _node: each


def shared(settings: Settings, load: float, shares: Sequence[float]) -> Demand:
    """The regions offer these shares of `load` times the refill."""
    rates = [load * settings.rate_per_second * share for share in shares]
    return lambda _t, node: rates[node]


def hot_region(settings: Settings, load: float) -> Demand:
    """The first region offers all of it."""
    return shared(settings, load, (1.0,) + (0.0,) * (settings.regions - 1))


def skewed_regions(settings: Settings, load: float) -> Demand:
    """A few regions offer most of it."""
    return shared(settings, load, skewed_shares(settings.regions))


def square_wave(settings: Settings, half: float) -> Demand:
    """Every region offers four times its part of the refill, or nothing, for `half` s in turns."""
    high = 4 * settings.rate_per_second / settings.regions
    return lambda t, _node: high if t % (2 * half) < half else 0.0


def burst(settings: Settings, low: float, high: float, start: float, end: float) -> Demand:
    """All regions together offer `low` times the refill, and `high` times from `start` to `end`."""
    quiet, loud = (load * settings.rate_per_second / settings.regions for load in (low, high))
    return lambda t, _node: loud if start <= t < end else quiet


def moving(settings: Settings, load: float, region: Callable[[float], int]) -> Demand:
    """One region at a time offers `load` times the refill: that which `region` says for a time."""
    high = load * settings.rate_per_second
    return lambda t, node: high if node == region(t) else 0.0
