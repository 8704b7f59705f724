"""Replays a trace of real calls through one rule, and measures what was admitted."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from crdtbucket.simulator.rule import SimulatedRule
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import GRID_NS, Scenario
from crdtbucket.simulator.scenario_run import MeasuredRun, Outcome
from crdtbucket.simulator.simulation_errors import SimulationError
from crdtbucket.simulator.trace import Trace

LONGEST_NS = 100 * 366 * 86_400 * NS


@dataclass(frozen=True)
class Replayed(Outcome):
    """The outcome of a replay. Amounts are tokens; the calls are counted separately.

    `too_large` calls cost more than the capacity: no rule could ever admit them, so they are in
    none of the other figures. `free` calls cost nothing and are not limited.
    """

    calls_offered: int = 0
    calls_admitted: int = 0
    too_large: int = 0
    too_large_tokens: int = 0
    free: int = 0


class Replay(MeasuredRun):
    """The state of one replay: `call` through the trace, then `outcome`."""

    def __init__(self, rule: SimulatedRule, trace: Trace, settings: Settings, speed: float) -> None:
        duration = max(GRID_NS, round(trace.duration_ns / speed))
        super().__init__(rule, Scenario("replay", "replay", duration, lambda _t, _n: 0.0), settings)
        self.calls = [0, 0]
        self._cell = -1

    def call(self, now: int, node: int, cost: int) -> None:
        """Makes one call, at a time not before the last one."""
        if now // GRID_NS != self._cell:
            self.close_cell()
            self._cell = now // GRID_NS
            self.open_cell(now)
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

    def outcome(self, too_large: list[int], free: int) -> Replayed:
        """End the replay and say what it showed."""
        self.close_cell()
        return Replayed(
            **self.figures(),
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

    The region of a call is drawn from the seed, so that every rule gets the same calls. The time
    for which a node may be starved begins with its first call.
    """
    if not speed > 0:
        raise SimulationError(f"speed must be above 0, not {speed}")
    if trace.duration_ns / speed > LONGEST_NS:
        raise SimulationError(f"at speed {speed:g} the replay takes over a century: raise it")
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
