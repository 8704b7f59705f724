"""The scenarios that `crdtbucket simulate` knows, for any number of regions."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from crdtbucket.simulator import burst_scenarios
from crdtbucket.simulator.link_scenarios import (
    cut_links,
    joiner_beside_dead,
    joiner_beside_silent,
    late_frames,
)
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import (
    Demand,
    Event,
    Factory,
    NamedFactory,
    Scenario,
    ScenarioFault,
    burst,
    even,
    healed,
    hot_region,
    joining,
    moving,
    shared,
    skewed_regions,
    square_wave,
)
from crdtbucket.simulator.simulation_errors import SimulationError

_DOWN_SECONDS = 0.2


def _ns(seconds: float) -> int:
    return round(seconds * NS)


def _steady(
    name: str,
    title: str,
    shape: Callable[[Settings, float], Demand],
    seconds: float = 60.0,
    loss: float = 0.0,
) -> NamedFactory:
    """One demand from start to end, and no fault but loss. `shape` has the scale as an argument."""
    return name, lambda s, scale: Scenario(
        name, title, _ns(seconds * scale), shape(s, scale), loss=loss
    )


def _rare(name: str, share: float, seconds: float) -> NamedFactory:
    title = f"hot region (2x) beside callers at {share:.2%} of it"
    return _steady(
        name, title, lambda s, _: shared(s, 2.0, (1.0,) + (share,) * (s.regions - 1)), seconds
    )


def _shifting(s: Settings, scale: float) -> Demand:
    """One and a half times the limit in one region, then in another."""
    second = min(1, s.regions - 1)
    return moving(s, 1.5, lambda t: 0 if t < 30 * scale else second)


def _late(name: str, title: str, wait: float) -> NamedFactory:
    """A region joins a mesh that is offered twice the limit, and alone asks for the whole limit.

    Its first calls come `wait` seconds after its process started.
    """

    def make(s: Settings, scale: float) -> Scenario:
        joins, joiner, rate = 20 * scale, min(1, s.regions - 1), s.rate_per_second

        def demand(t: float, node: int) -> float:
            if node == 0:
                return 2 * rate
            return rate if node == joiner and t >= joins + wait else 0.0

        events = joining(joiner, joins) if joiner else ()
        return Scenario(name, title, _ns(60 * scale), demand, events)

    return name, make


def _wave(half: int) -> NamedFactory:
    title = f"square wave 4x, {half} s on and off"
    return _steady(f"square-{half}s", title, lambda s, _: square_wave(s, half))


def two_sides(regions: int) -> tuple[tuple[int, ...], ...]:
    """Two fifths of the regions, at least one, against the rest."""
    first = max(1, regions * 2 // 5)
    return tuple(range(first)), tuple(range(first, regions))


def one_alone(regions: int) -> tuple[tuple[int, ...], ...]:
    """The first region against the rest."""
    return (0,), tuple(range(1, regions))


def _partition(length: int, kind: str, load: float = 2.0, alone: bool = False) -> NamedFactory:
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
        end = (60 + length) * scale
        groups = one_alone(s.regions) if alone else two_sides(s.regions)
        cut = healed(60 * scale, end, ScenarioFault.PARTITION, groups=groups)
        events = cut if s.regions > 1 else ()
        after = (70 if length > 100 else 60) * scale
        return Scenario(name, title, _ns(end + after), shape, events, light=load < 1)

    return name, make


def _loss(percent: int) -> NamedFactory:
    title = f"{percent} % of messages lost"
    return _steady(f"loss-{percent}", title, lambda s, _: even(s, 2.0), loss=percent / 100)


def _five_deaths(
    every: float, again: ScenarioFault, node: Callable[[int], int]
) -> tuple[Event, ...]:
    """Five times, so many seconds apart, a process is killed, and one comes again soon after."""
    deaths = [(every * number, node(number)) for number in range(1, 6)]
    return tuple(
        event
        for at, dead in deaths
        for event in (
            Event(_ns(at), ScenarioFault.CRASH, dead),
            Event(_ns(at + _DOWN_SECONDS), again, dead),
        )
    )


def _restart(kind: str, shape: Callable[[Settings, float], Demand]) -> NamedFactory:
    def make(s: Settings, scale: float) -> Scenario:
        events = _five_deaths(10 * scale, ScenarioFault.RESTART, lambda _: 0)
        title = f"hot node restarts empty every {10 * scale:g} s, {kind} demand"
        return Scenario(f"restart-{kind}", title, _ns(60 * scale), shape(s, 2.0), events)

    return f"restart-{kind}", make


def killed_and_replaced(s: Settings, scale: float) -> Scenario:
    """Every 30 seconds another process is killed, and one under a new name takes its place."""
    events = _five_deaths(30 * scale, ScenarioFault.REPLACE, lambda number: number % s.regions)
    title = f"a process killed and replaced under a new name every {30 * scale:g} s"
    return Scenario("killed-and-replaced", title, _ns(180 * scale), even(s, 2.0), events)


def isolated_by_reset(s: Settings, scale: float) -> Scenario:
    """A device cuts one region off for five minutes, by resets and refusals instead of silence."""
    start, end = 60 * scale, 360 * scale
    severed = healed(start, end, ScenarioFault.SEVER, groups=one_alone(s.regions))
    events = severed if s.regions > 1 else ()
    title = f"one region behind a device that resets, {end - start:g} s"
    return Scenario("isolated-by-reset", title, _ns(430 * scale), even(s, 2.0), events)


def suspend_60s(s: Settings, scale: float) -> Scenario:
    """One region's process stands still for a minute, then goes on."""
    pause = Event(
        _ns(60 * scale), ScenarioFault.SUSPEND, min(2, s.regions - 1), duration_ns=_ns(60 * scale)
    )
    title = "one node suspended 60 s"
    return Scenario("suspend-60s", title, _ns(300 * scale), even(s, 2.0), (pause,))


def drifting(name: str, title: str, seconds: float) -> NamedFactory:
    """Clocks that run from 200 ppm slow to 200 ppm fast."""

    def make(s: Settings, scale: float) -> Scenario:
        middle = (s.regions - 1) / 2
        ppm = {node: 200 * (node - middle) / middle for node in range(s.regions)} if middle else {}
        # Calls in steps of 5 ms: an hour in steps of 1 ms takes minutes and shows the same.
        return Scenario(
            name, title, _ns(seconds * scale), even(s, 2.0), drift_ppm=ppm, step_ns=5_000_000
        )

    return name, make


def wall_clocks(s: Settings, scale: float) -> Scenario:
    """Wall clocks an hour ahead in one region and an hour behind in another."""
    offsets = {0: 3600 * NS, s.regions - 1: -3600 * NS}
    return Scenario(
        "wall-clocks", "wall clocks wrong by an hour", _ns(60 * scale), even(s, 2.0),
        clock_offsets_ns=offsets,
    )  # fmt: skip


_PAIR, _WAY = "a pair cut off from each other", "one way of one pair cut"

SCENARIOS: dict[str, Factory] = dict((
    _steady("balanced", "balanced, 2x overload", lambda s, _: even(s, 2.0)),
    _steady("hot", "one hot region, 2x", lambda s, _: hot_region(s, 2.0)),
    _steady("skewed", "skewed, 2x", lambda s, _: skewed_regions(s, 2.0)),
    _rare("rare-callers", 0.001, 120),
    _rare("rarest-callers", 0.0001, 600),
    _steady("burst-5x", "synchronised burst, 5x",
            lambda s, scale: burst(s, 0.5, 5.0, 10 * scale, 15 * scale)),
    _steady("cold-20x", "cold burst, 20x",
            lambda s, scale: burst(s, 0.0, 20.0, 10 * scale, 12 * scale)),
    _steady("shifting", "shifting hot spot, 1.5x", _shifting),
    _steady("roving", "roving hot spot, 1.5x",
            lambda s, _: moving(s, 1.5, lambda t: int(t / 5) % s.regions)),
    _late("late-joiner", "late joiner, called after a second", 1.0),
    _late("late-joiner-at-once", "late joiner, called at once", 0.0),
    _wave(1),
    _wave(5),
    ("retry-storm", burst_scenarios.storm),
    ("bursts-100ms", burst_scenarios.in_step),
    ("bursts-random", burst_scenarios.at_random),
    _partition(30, "balanced"),
    _partition(30, "balanced", alone=True),
    _partition(30, "skewed"),
    _partition(30, "balanced", 0.5),
    _partition(30, "balanced", 0.9),
    _partition(300, "balanced"),
    _partition(300, "balanced", alone=True),
    _partition(300, "skewed"),
    _partition(300, "square"),
    _partition(300, "balanced", 0.5),
    _partition(300, "balanced", 0.9),
    cut_links("cut-pair", _PAIR, 2.0, both=True),
    cut_links("cut-pair", _PAIR, 0.6, both=True),
    cut_links("cut-way", _WAY, 2.0, both=False),
    cut_links("cut-way", _WAY, 0.6, both=False),
    ("joiner-beside-dead", joiner_beside_dead),
    ("joiner-beside-silent", joiner_beside_silent),
    ("late-frames", late_frames),
    _loss(5),
    _loss(30),
    _restart("hot", hot_region),
    _restart("skewed", skewed_regions),
    ("killed-and-replaced", killed_and_replaced),
    ("isolated-by-reset", isolated_by_reset),
    ("suspend-60s", suspend_60s),
    drifting("drift", "clocks drift +-200 ppm, an hour", 3600),
    ("wall-clocks", wall_clocks),
))  # fmt: skip


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
