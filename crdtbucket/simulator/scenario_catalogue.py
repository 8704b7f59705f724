"""The scenarios that `crdtbucket simulate` knows, for any number of regions."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from crdtbucket.simulator import burst_scenarios
from crdtbucket.simulator.demand_shapes import (
    even,
    hot_region,
    shared,
    skewed_regions,
    square_wave,
)
from crdtbucket.simulator.link_scenarios import cut_links, joiner_beside_dead, late_frames
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Demand, Event, Factory, Scenario, ScenarioFault
from crdtbucket.simulator.simulation_errors import SimulationError

_DOWN_SECONDS = 0.2


def _ns(seconds: float) -> int:
    return round(seconds * NS)


def _steady(name: str, title: str, shape: Demand, seconds: float, loss: float = 0.0) -> Scenario:
    return Scenario(name, title, _ns(seconds), shape, loss=loss)


def balanced(s: Settings, scale: float) -> Scenario:
    """Every region offers the same, twice the limit together."""
    return _steady("balanced", "balanced, 2x overload", even(s, 2.0), 60 * scale)


def hot(s: Settings, scale: float) -> Scenario:
    """One region offers twice the limit, the others nothing."""
    return _steady("hot", "one hot region, 2x", hot_region(s, 2.0), 60 * scale)


def skewed(s: Settings, scale: float) -> Scenario:
    """Twice the limit, spread .7 .2 .05 .05 0."""
    return _steady("skewed", "skewed, 2x", skewed_regions(s, 2.0), 60 * scale)


def _rare(name: str, share: float, seconds: float) -> Factory:
    def make(s: Settings, scale: float) -> Scenario:
        shares = (1.0,) + (share,) * (s.regions - 1)
        title = f"hot region (2x) beside callers at {share:.2%} of it"
        return _steady(name, title, shared(s, 2.0, shares), seconds * scale)

    return make


def burst_5x(s: Settings, scale: float) -> Scenario:
    """Half the limit, and for five seconds five times the limit in all regions at once."""
    low, high = (load * s.rate_per_second / s.regions for load in (0.5, 5.0))

    def demand(t: float, _node: int) -> float:
        return high if 10 * scale <= t < 15 * scale else low

    return _steady("burst-5x", "synchronised burst, 5x", demand, 60 * scale)


def cold_20x(s: Settings, scale: float) -> Scenario:
    """Nothing at all, and for two seconds twenty times the limit in all regions at once."""
    high = 20 * s.rate_per_second / s.regions

    def demand(t: float, _node: int) -> float:
        return high if 10 * scale <= t < 12 * scale else 0.0

    return _steady("cold-20x", "cold burst, 20x", demand, 60 * scale)


def shifting(s: Settings, scale: float) -> Scenario:
    """One and a half times the limit in one region, then in another."""
    high, last = 1.5 * s.rate_per_second, s.regions - 1

    def demand(t: float, node: int) -> float:
        return high if node == (0 if t < 30 * scale else min(1, last)) else 0.0

    return _steady("shifting", "shifting hot spot, 1.5x", demand, 60 * scale)


def roving(s: Settings, scale: float) -> Scenario:
    """One and a half times the limit, every five seconds in the next region."""
    high = 1.5 * s.rate_per_second

    def demand(t: float, node: int) -> float:
        return high if node == int(t / 5) % s.regions else 0.0

    return _steady("roving", "roving hot spot, 1.5x", demand, 60 * scale)


def _late(name: str, title: str, wait: float) -> Factory:
    """A region joins a mesh under twofold overload, with the limit's worth of demand of its own.

    Its first calls come `wait` seconds after its process started.
    """

    def make(s: Settings, scale: float) -> Scenario:
        joins, joiner, rate = 20 * scale, min(1, s.regions - 1), s.rate_per_second

        def demand(t: float, node: int) -> float:
            if node == 0:
                return 2 * rate
            return rate if node == joiner and t >= joins + wait else 0.0

        events: tuple[Event, ...] = ()
        if joiner:
            events = (
                Event(0, ScenarioFault.CRASH, joiner),
                Event(_ns(joins), ScenarioFault.RESTART, joiner),
            )
        return Scenario(name, title, _ns(60 * scale), demand, events)

    return make


def _wave(half: int) -> Factory:
    def make(s: Settings, scale: float) -> Scenario:
        name, title = f"square-{half}s", f"square wave 4x, {half} s on and off"
        return _steady(name, title, square_wave(s, half), 60 * scale)

    return make


def two_sides(regions: int) -> tuple[tuple[int, ...], ...]:
    """Two fifths of the regions, at least one, against the rest."""
    first = max(1, regions * 2 // 5)
    return tuple(range(first)), tuple(range(first, regions))


def one_alone(regions: int) -> tuple[tuple[int, ...], ...]:
    """The first region against the rest."""
    return (0,), tuple(range(1, regions))


def _partition(length: int, kind: str, load: float = 2.0, alone: bool = False) -> Factory:
    name = f"partition-{length}s" + ("-alone" if alone else "")
    name += "" if kind == "balanced" else f"-{kind}"
    title = f"partition {length} s, " + ("one alone" if alone else "two sides")
    if load < 1:
        name, title = f"{name}-light-{round(load * 100)}", f"{title}, light load {load} r"
    elif kind != "balanced":
        title = f"{title}, {kind}"

    def make(s: Settings, scale: float) -> Scenario:
        shape = {
            "balanced": even(s, load),
            "skewed": skewed_regions(s, load),
            "square": square_wave(s, 5.0),
        }[kind]
        start, end = 60 * scale, (60 + length) * scale
        events: tuple[Event, ...] = ()
        if s.regions > 1:
            groups = one_alone(s.regions) if alone else two_sides(s.regions)
            events = (
                Event(_ns(start), ScenarioFault.PARTITION, groups=groups),
                Event(_ns(end), ScenarioFault.HEAL),
            )
        after = (70 if length > 100 else 60) * scale
        return Scenario(name, title, _ns(end + after), shape, events, light=load < 1)

    return make


def _loss(percent: int) -> Factory:
    def make(s: Settings, scale: float) -> Scenario:
        name, title = f"loss-{percent}", f"{percent} % of messages lost"
        return _steady(name, title, even(s, 2.0), 60 * scale, loss=percent / 100)

    return make


def _restart(kind: str) -> Factory:
    def make(s: Settings, scale: float) -> Scenario:
        shape = hot_region(s, 2.0) if kind == "hot" else skewed_regions(s, 2.0)
        events: list[Event] = []
        for number in range(1, 6):
            at = 10 * number * scale
            events.append(Event(_ns(at), ScenarioFault.CRASH, 0))
            events.append(Event(_ns(at + _DOWN_SECONDS), ScenarioFault.RESTART, 0))
        title = f"hot node restarts empty every {10 * scale:g} s, {kind} demand"
        return Scenario(f"restart-{kind}", title, _ns(60 * scale), shape, tuple(events))

    return make


def killed_and_replaced(s: Settings, scale: float) -> Scenario:
    """Every 30 seconds another process is killed, and one under a new name takes its place."""
    events: list[Event] = []
    for number in range(1, 6):
        at, node = 30 * number * scale, number % s.regions
        events.append(Event(_ns(at), ScenarioFault.CRASH, node))
        events.append(Event(_ns(at + _DOWN_SECONDS), ScenarioFault.REPLACE, node))
    title = f"a process killed and replaced under a new name every {30 * scale:g} s"
    return Scenario("killed-and-replaced", title, _ns(180 * scale), even(s, 2.0), tuple(events))


def isolated_by_reset(s: Settings, scale: float) -> Scenario:
    """A device cuts one region off for five minutes, by resets and refusals instead of silence."""
    start, end = 60 * scale, 360 * scale
    events: tuple[Event, ...] = ()
    if s.regions > 1:
        events = (
            Event(_ns(start), ScenarioFault.SEVER, groups=one_alone(s.regions)),
            Event(_ns(end), ScenarioFault.HEAL),
        )
    title = f"one region behind a device that resets, {end - start:g} s"
    return Scenario("isolated-by-reset", title, _ns(430 * scale), even(s, 2.0), events)


def suspend_60s(s: Settings, scale: float) -> Scenario:
    """One region's process stands still for a minute, then goes on."""
    pause = Event(
        _ns(60 * scale), ScenarioFault.SUSPEND, min(2, s.regions - 1), duration_ns=_ns(60 * scale)
    )
    title = "one node suspended 60 s"
    return Scenario("suspend-60s", title, _ns(300 * scale), even(s, 2.0), (pause,))


def drift(s: Settings, scale: float) -> Scenario:
    """Clocks that run from 200 ppm slow to 200 ppm fast, for an hour."""
    middle = (s.regions - 1) / 2
    ppm = {node: 200 * (node - middle) / middle for node in range(s.regions)} if middle else {}
    # Calls in steps of 5 ms: an hour in steps of 1 ms takes minutes and shows the same.
    return Scenario(
        "drift", "clocks drift +-200 ppm, an hour", _ns(3600 * scale), even(s, 2.0),
        drift_ppm=ppm, step_ns=5_000_000,
    )  # fmt: skip


def wall_clocks(s: Settings, scale: float) -> Scenario:
    """Wall clocks an hour ahead in one region and an hour behind in another."""
    offsets = {0: 3600 * NS, s.regions - 1: -3600 * NS}
    return Scenario(
        "wall-clocks", "wall clocks wrong by an hour", _ns(60 * scale), even(s, 2.0),
        clock_offsets_ns=offsets,
    )  # fmt: skip


SCENARIOS: dict[str, Factory] = {
    "balanced": balanced,
    "hot": hot,
    "skewed": skewed,
    "rare-callers": _rare("rare-callers", 0.001, 120),
    "rarest-callers": _rare("rarest-callers", 0.0001, 600),
    "burst-5x": burst_5x,
    "cold-20x": cold_20x,
    "shifting": shifting,
    "roving": roving,
    # A balancer sends calls once the process has answered it; the other is the hard case.
    "late-joiner": _late("late-joiner", "late joiner, called after a second", 1.0),
    "late-joiner-at-once": _late("late-joiner-at-once", "late joiner, called at once", 0.0),
    "square-1s": _wave(1),
    "square-5s": _wave(5),
    "retry-storm": burst_scenarios.storm,
    "bursts-100ms": burst_scenarios.in_step,
    "bursts-random": burst_scenarios.at_random,
    "partition-30s": _partition(30, "balanced"),
    "partition-30s-alone": _partition(30, "balanced", alone=True),
    "partition-30s-skewed": _partition(30, "skewed"),
    "partition-30s-light-50": _partition(30, "balanced", 0.5),
    "partition-30s-light-90": _partition(30, "balanced", 0.9),
    "partition-300s": _partition(300, "balanced"),
    "partition-300s-alone": _partition(300, "balanced", alone=True),
    "partition-300s-skewed": _partition(300, "skewed"),
    "partition-300s-square": _partition(300, "square"),
    "partition-300s-light-50": _partition(300, "balanced", 0.5),
    "partition-300s-light-90": _partition(300, "balanced", 0.9),
    "cut-pair": cut_links("cut-pair", "a pair cut off from each other", 2.0, both=True),
    "cut-pair-light-60": cut_links("cut-pair", "a pair cut off from each other", 0.6, both=True),
    "cut-way": cut_links("cut-way", "one way of one pair cut", 2.0, both=False),
    "cut-way-light-60": cut_links("cut-way", "one way of one pair cut", 0.6, both=False),
    "joiner-beside-dead": joiner_beside_dead,
    "late-frames": late_frames,
    "loss-5": _loss(5),
    "loss-30": _loss(30),
    "restart-hot": _restart("hot"),
    "restart-skewed": _restart("skewed"),
    "killed-and-replaced": killed_and_replaced,
    "isolated-by-reset": isolated_by_reset,
    "suspend-60s": suspend_60s,
    "drift": drift,
    "wall-clocks": wall_clocks,
}


def select(
    patterns: Sequence[str], catalogue: Mapping[str, Factory] = MappingProxyType(SCENARIOS)
) -> list[str]:
    """Names of the scenarios that match any of the patterns (`partition-*`), in their order.

    No pattern selects all. Raises SimulationError for a pattern that matches nothing.
    """
    if not patterns:
        return list(catalogue)
    for pattern in patterns:
        if not fnmatch.filter(catalogue, pattern):
            near = difflib.get_close_matches(pattern, catalogue, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise SimulationError(
                f"no scenario {pattern!r}{hint} (`crdtbucket simulate --list` names them all)"
            )
    return [n for n in catalogue if any(fnmatch.fnmatchcase(n, p) for p in patterns)]
