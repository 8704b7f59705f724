"""Replays a trace of real calls through one rule, and measures what was admitted."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from crdtbucket.simulator.bound import Undelivered
from crdtbucket.simulator.measure import Ideal, OverAdmission, Starvation, share_range
from crdtbucket.simulator.rule import SimulatedRule, WatchedRule
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import GRID_NS, Scenario
from crdtbucket.simulator.scenario_run import Outcome, bound_percent
from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.simulator.trace import Trace


@dataclass(frozen=True)
class Replayed(Outcome):
    """The outcome of a replay: amounts are tokens, and the calls are counted beside them.

    `too_large` calls cost more than the capacity: no rule could ever admit them, so they are in
    none of the other figures. `free` calls cost nothing and are not limited.
    """

    calls_offered: int = 0
    calls_admitted: int = 0
    too_large: int = 0
    too_large_tokens: int = 0
    free: int = 0


class Replay:
    """The state of one replay: `call` through the trace, then `outcome`."""

    def __init__(self, rule: SimulatedRule, trace: Trace, settings: Settings, speed: float) -> None:
        nodes, duration = settings.regions, round(trace.duration_ns / speed)
        self.rule, self.settings = rule, settings
        self.scenario = Scenario("replay", "replay", max(GRID_NS, duration), lambda _t, _n: 0.0)
        self.over_admission, self.ideal = OverAdmission(settings), Ideal(settings)
        self.starvation = Starvation(nodes)
        self.offered, self.admitted = [0] * nodes, [0] * nodes
        self.calls = [0, 0]
        rule.start(self.scenario, settings)
        self._up = [True] * nodes
        self._watch = (
            Undelivered(self.scenario, settings) if isinstance(rule, WatchedRule) else None
        )
        self._cell = -1
        self._before = [0] * nodes

    def call(self, now: int, node: int, cost: int) -> None:
        """One call, at a time not before the last one's."""
        if self._watch is not None and now // GRID_NS != self._cell:
            self._close_cell()
            self._cell = now // GRID_NS
            self.rule.advance(now)
            assert isinstance(self.rule, WatchedRule)
            self._watch.arrived(now, self.rule, self._up, self.over_admission.debt(now))
        self.rule.advance(now)
        self.starvation.demand(node, True, now)
        self.offered[node] += cost
        passed = self.rule.offer(node, 1, cost)
        if passed:
            self.admitted[node] += cost
            self.starvation.admitted(node, now)
        self.calls[0] += 1
        self.calls[1] += passed
        self.ideal.offer(now, 1, cost)
        self.over_admission.add(now, passed * cost)

    def _close_cell(self) -> None:
        if self._watch is not None:
            pairs = zip(self.admitted, self._before, strict=True)
            self._watch.admitted([after - so_far for after, so_far in pairs])
            self._before = list(self.admitted)

    def outcome(self, too_large: list[int], free: int) -> Replayed:
        """End the replay and say what it showed."""
        settings, end = self.settings, self.scenario.duration_ns
        self._close_cell()
        self.starvation.finish(end)
        offered, admitted = sum(self.offered), sum(self.admitted)
        least, most = share_range(self.offered, self.admitted)
        return Replayed(
            scenario="replay",
            rule=self.rule.name,
            seed=settings.seed,
            offered=offered,
            admitted=admitted,
            ratio=admitted / self.ideal.admitted if self.ideal.admitted else None,
            over_admission_percent=self.over_admission.percent(),
            bound_percent=bound_percent(self.rule, self._watch, end, settings),
            starved_seconds=max(self.starvation.worst_ns) / NS,
            denied_light=0,
            share_min=least,
            share_max=most,
            calls_offered=self.calls[0],
            calls_admitted=self.calls[1],
            too_large=len(too_large),
            too_large_tokens=sum(too_large),
            free=free,
        )


def replay(
    rule: SimulatedRule, trace: Trace, settings: Settings, *, speed: float = 1.0
) -> Replayed:
    """Replay a trace, `speed` times as fast as it happened, its calls spread over the regions.

    A call goes to a region drawn from the seed, whatever the rule: every rule sees the same calls.
    The time for which a node may be starved begins with its first call.
    """
    if not speed > 0:
        raise SimulationError(f"speed must be above 0, not {speed}")
    rng = Random(f"{settings.seed}/replay")
    run = Replay(rule, trace, settings, speed)
    too_large: list[int] = []
    free = 0
    for when, cost in zip(trace.times_ns, trace.costs, strict=True):
        now = when if speed == 1.0 else round(when / speed)
        node = int(rng.random() * settings.regions)
        if cost > settings.capacity:
            too_large.append(cost)
        elif cost == 0:
            free += 1
        else:
            run.call(now, node, cost)
    return run.outcome(too_large, free)
