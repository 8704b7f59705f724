"""A scenario: demand over time (even, skewed, from one region alone, or in waves), and the faults
that happen meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.simulation_errors import SimulationError

Demand = Callable[[float, int], float]
"""(seconds since the start, node number) -> calls per second."""

GRID_NS = 10_000_000
"""Demand is constant, and events take effect, on this grid."""
_SKEW = (0.7, 0.2, 0.05, 0.05, 0.0)


class ScenarioFault(str, Enum):
    """The faults that a scenario can inject into nodes and links."""

    PARTITION = "partition"
    SEVER = "sever"
    CUT = "cut"
    HEAL = "heal"
    CRASH = "crash"
    RESTART = "restart"
    REPLACE = "replace"
    SUSPEND = "suspend"
    STALL = "stall"


@dataclass(frozen=True)
class Event:
    """One fault at one time. A partition has `groups`; a cut has `ways` (source, target) on which
    messages are lost; a fault of one process has its `node`.

    `SEVER` is a partition by a device that resets connections and refuses calls in place of the
    other side. `REPLACE` starts a process under a new name where `node` has crashed. `STALL` holds
    all messages for `duration_ns`; within `drain_ns` after that they come, late and in their order.
    """

    at_ns: int
    fault: ScenarioFault
    node: int = 0
    groups: tuple[tuple[int, ...], ...] = ()
    ways: tuple[tuple[int, int], ...] = ()
    duration_ns: int = 0
    drain_ns: int = 0


def healed(start: float, end: float, fault: ScenarioFault, **where: Any) -> tuple[Event, ...]:
    """A fault of links that begins and ends at these times, in seconds. `where`: further fields of
    the first event."""
    return (
        Event(round(start * NS), fault, **where),
        Event(round(end * NS), ScenarioFault.HEAL),
    )


def joining(node: int, seconds: float) -> tuple[Event, Event]:
    """The events of a node that is absent at the start, and joins after so many seconds."""
    joins = Event(round(seconds * NS), ScenarioFault.RESTART, node)
    return Event(0, ScenarioFault.CRASH, node), joins


@dataclass(frozen=True)
class Scenario:
    """One experiment. `light` says that the demand is below the refill rate at every time.

    `loss` is the fraction of messages lost, `drift_ppm` and `clock_offsets_ns` are by node number.
    `step_ns` is the spacing of the instants at which calls arrive. `keys_late_ns`: how much later
    than its beats the keys of a replicated store arrive when its replication is healed.
    """

    name: str
    title: str
    duration_ns: int
    demand: Demand
    events: tuple[Event, ...] = ()
    light: bool = False
    loss: float = 0.0
    drift_ppm: Mapping[int, float] = field(default_factory=dict)
    clock_offsets_ns: Mapping[int, int] = field(default_factory=dict)
    step_ns: int = 1_000_000
    keys_late_ns: int = 0

    def __post_init__(self) -> None:
        if self.duration_ns < GRID_NS:
            raise SimulationError(f"{self.name}: a scenario lasts at least {GRID_NS / NS} s")
        if self.step_ns < 1 or GRID_NS % self.step_ns:
            raise SimulationError(f"{self.name}: step_ns must divide {GRID_NS}")
        if any(a.at_ns > b.at_ns for a, b in zip(self.events, self.events[1:], strict=False)):
            raise SimulationError(f"{self.name}: events must be in the order of time")


Factory = Callable[[Settings, float], Scenario]
"""(settings, scale of all durations but periods) -> scenario."""
NamedFactory = tuple[str, Factory]
"""The name of a scenario, and what makes it."""


def skewed_shares(regions: int) -> tuple[float, ...]:
    """The shares of the demand by region. With few regions the last one gets the remainder."""
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
    """One region at a time offers `load` times the refill; `region` gives its number at a time
    (s)."""
    high = load * settings.rate_per_second
    return lambda t, node: high if node == region(t) else 0.0
