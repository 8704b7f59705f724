"""How much of a limit is admitted, and by how much is it exceeded, by this rule and by others?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

from benchmarks.fixed_window import FixedWindows
from benchmarks.measure import Case, Comparison, Scale
from crdtbucket.simulator.rule import SimulatedRule
from crdtbucket.simulator.rule_catalogue import make_rule
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.scenario_run import simulate

QUESTION = "how much of one limit over five regions is admitted, and how far is it exceeded?"
RULES: dict[str, Callable[[], SimulatedRule]] = {
    "a fixed share for each region": partial(make_rule, "static-split"),
    "fixed windows, the whole limit in each region": FixedWindows,
    "one total, merged by maximum": partial(make_rule, "max-of-totals"),
    "counts gossiped, no prediction": partial(make_rule, "no-prediction"),
    "crdtbucket": partial(make_rule, "crdtbucket"),
}
TOLD = ("balanced", "skewed", "cold-20x", "shifting", "square-1s", "partition-30s")
UNITS = (
    "admitted, % of one bucket",
    "worst over-admission, % of the capacity",
    "longest s without any",
)


def _case(
    name: str, make: Callable[[], SimulatedRule], shorter: float
) -> Callable[[], tuple[float, ...]]:
    seeds = count()

    def run() -> tuple[float, ...]:
        settings = Settings(seed=next(seeds))
        outcome = simulate(make(), SCENARIOS[name](settings, shorter), settings)
        if outcome.ratio is None:
            raise AssertionError(f"{name}: one bucket admits nothing")
        return (
            100 * outcome.ratio,
            max(0.0, outcome.over_admission_percent),
            outcome.starved_seconds,
        )

    return run


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """The same calls through every rule."""
    shorter = {"full": 1.0, "quick": 0.2, "smoke": 0.05}[scale.name]
    command = f"`--duration-scale {shorter:g}`" if shorter < 1 else "`crdtbucket simulate`"
    for name in TOLD if scale.name != "smoke" else TOLD[:2]:
        yield Comparison(
            SCENARIOS[name](Settings(), shorter).title,
            UNITS,
            [Case(rule, _case(name, make, shorter)) for rule, make in RULES.items()],
            note=f"simulated time, one seed a repeat; `{name}` of {command}",
            repeats=scale.pick(5, 1, 1),
            ratios=False,
        )
