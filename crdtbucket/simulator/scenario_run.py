"""Runs one scenario through one rule, and measures what was admitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crdtbucket.simulator.arrivals import Block, arrivals
from crdtbucket.simulator.bound import Undelivered
from crdtbucket.simulator.measure import Ideal, OverAdmission, Starvation, share_range
from crdtbucket.simulator.rule import SimulatedRule, WatchedRule
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import GRID_NS, Event, Scenario, ScenarioFault


@dataclass(frozen=True)
class Outcome:
    """The results of one run. Amounts are tokens; a figure that does not exist is None.

    `ratio` is what was admitted / what one bucket that sees every call at once admits of the same
    calls. `curve` has (seconds, tokens offered, admitted, ideal) so far, when it was asked for.
    """

    scenario: str
    rule: str
    seed: int
    offered: int
    admitted: int
    ratio: float | None
    over_admission_percent: float
    bound_percent: float | None
    starved_seconds: float
    denied_light: int
    share_min: float | None
    share_max: float | None
    curve: tuple[tuple[float, int, int, int], ...] = field(default=(), repr=False)


class MeasuredRun:
    """Measures a rule while it is asked for calls, one cell of the time grid after the other."""

    def __init__(self, rule: SimulatedRule, scenario: Scenario, settings: Settings) -> None:
        nodes = settings.regions
        self.rule, self.scenario, self.settings = rule, scenario, settings
        self.over_admission, self.ideal = OverAdmission(settings), Ideal(settings)
        self.starvation = Starvation(nodes)
        self.offered, self.admitted = [0] * nodes, [0] * nodes
        self._up = [True] * nodes
        self._before = [0] * nodes
        rule.start(scenario, settings)
        self._watch = Undelivered(scenario, settings) if isinstance(rule, WatchedRule) else None

    def open_cell(self, now: int) -> None:
        """Begins a cell."""
        if self._watch is not None:
            self.rule.advance(now)
            assert isinstance(self.rule, WatchedRule)
            self._watch.arrived(now, self.rule, self._up, self.over_admission.debt(now))

    def close_cell(self) -> None:
        """Ends a cell, after all of its calls."""
        if self._watch is not None:
            assert isinstance(self.rule, WatchedRule)
            pairs = zip(self.admitted, self._before, strict=True)
            guaranteed = [self.rule.guaranteed(node) for node in range(len(self._up))]
            self._watch.admitted([after - so_far for after, so_far in pairs], guaranteed)
            self._before = list(self.admitted)

    def figures(self) -> dict[str, Any]:
        """Ends the run; the fields of its `Outcome`, without a curve."""
        scenario, settings, end = self.scenario, self.settings, self.scenario.duration_ns
        self.starvation.finish(end)
        offered, admitted = sum(self.offered), sum(self.admitted)
        least, most = share_range(self.offered, self.admitted)
        return {
            "scenario": scenario.name,
            "rule": self.rule.name,
            "seed": settings.seed,
            "offered": offered,
            "admitted": admitted,
            "ratio": admitted / self.ideal.admitted if self.ideal.admitted else None,
            "over_admission_percent": self.over_admission.percent(),
            "bound_percent": self._bound_percent(end),
            "starved_seconds": max(self.starvation.worst_ns) / NS,
            "denied_light": offered - admitted if scenario.light else 0,
            "share_min": least,
            "share_max": most,
        }

    def _bound_percent(self, until_ns: int) -> float | None:
        """The bound in % of the capacity: computed from what was delivered where the rule can be
        watched, else that of the rule itself; None without either."""
        if self._watch is not None:
            return self._watch.percent()
        own = self.rule.own_bound(until_ns)
        return None if own is None else 100.0 * own / self.settings.capacity


class Run(MeasuredRun):
    """The state of one run: `step` through the blocks of calls, then `outcome`."""

    def __init__(self, rule: SimulatedRule, scenario: Scenario, settings: Settings) -> None:
        super().__init__(rule, scenario, settings)
        self._events = list(scenario.events)
        self._wakes: list[int | None] = [0] * settings.regions

    def step(self, block: Block) -> None:
        """Plays one cell of the grid: events first, then its calls."""
        self._apply_events(block.start_ns)
        now, up = block.start_ns, self._up
        for node, wakes in enumerate(self._wakes):
            up[node] = wakes is not None and wakes <= now
            self.starvation.demand(node, up[node] and block.rates[node] > 0.0, now)
        self.open_cell(now)
        for at, calls in block.steps:
            self._calls(at, calls)
        self.close_cell()

    def _calls(self, now: int, calls: list[tuple[int, int]]) -> None:
        rule, up = self.rule, self._up
        rule.advance(now)
        wanted = passed = 0
        for node, count in calls:
            if up[node]:
                wanted += count
                self.offered[node] += count
                got = rule.offer(node, count, 1)
                if got:
                    passed += got
                    self.admitted[node] += got
                    self.starvation.admitted(node, now)
        self.ideal.offer(now, wanted, 1)
        self.over_admission.add(now, passed)

    def _apply_events(self, now: int) -> None:
        while self._events and self._events[0].at_ns < now + GRID_NS:
            event = self._events.pop(0)
            self.rule.advance(now)
            self._apply(event, now)

    def _apply(self, event: Event, now: int) -> None:
        if event.fault is ScenarioFault.PARTITION:
            self.rule.partition(event.groups)
        elif event.fault is ScenarioFault.SEVER:
            self.rule.sever(event.groups)
        elif event.fault is ScenarioFault.CUT:
            self.rule.cut(event.ways)
        elif event.fault is ScenarioFault.STALL:
            self.rule.stall(event.duration_ns, event.drain_ns)
        elif event.fault is ScenarioFault.HEAL:
            self.rule.heal()
        elif event.fault is ScenarioFault.CRASH:
            self.rule.crash(event.node)
            self._wakes[event.node] = None
        elif event.fault is ScenarioFault.RESTART:
            self.rule.restart(event.node)
            self._wakes[event.node] = now
        elif event.fault is ScenarioFault.REPLACE:
            self.rule.replace(event.node)
            self._wakes[event.node] = now
        else:
            self.rule.suspend(event.node, event.duration_ns)
            self._wakes[event.node] = now + event.duration_ns

    def outcome(self, curve: tuple[tuple[float, int, int, int], ...] = ()) -> Outcome:
        """End the run and say what it showed."""
        return Outcome(**self.figures(), curve=curve)


def simulate(
    rule: SimulatedRule,
    scenario: Scenario,
    settings: Settings,
    *,
    curve_every_ns: int = 0,
) -> Outcome:
    """Run the scenario through the rule. The same arguments give the same outcome.

    With `curve_every_ns` (a multiple of the grid) the outcome has a curve.
    """
    run = Run(rule, scenario, settings)
    curve: list[tuple[float, int, int, int]] = []
    for block in arrivals(scenario, settings):
        run.step(block)
        if curve_every_ns and block.start_ns % curve_every_ns == 0:
            seconds = block.start_ns / NS
            totals = sum(run.offered), sum(run.admitted), run.ideal.admitted
            curve.append((seconds, *totals))
    return run.outcome(tuple(curve))
