"""Draws what was admitted against the limit, over time. Needs the extra `plot`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario, ScenarioFault
from crdtbucket.simulator.scenario_run import Outcome
from crdtbucket.simulator.simulation_errors import SimulationError

_COLOURS = {
    "crdtbucket": "#0b6e4f", "no-prediction": "#e09f3e",
    "static-split": "#5b7db1", "max-of-totals": "#b23a48",
}  # fmt: skip
_ENDINGS = (".png", ".svg", ".pdf")


def _matplotlib(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        fix = "pip install 'crdtbucket[plot]'"
        raise SimulationError(f"a picture needs matplotlib: {fix}") from error


def check_plot(path: str | Path) -> None:
    """Raises `SimulationError` if a picture could not be written: to be called before the long
    work."""
    if Path(path).suffix.lower() not in _ENDINGS:
        raise SimulationError(f"{path}: a picture ends in {', '.join(_ENDINGS)}")
    if not Path(path).absolute().parent.is_dir():
        raise SimulationError(f"{path}: there is no such folder")
    _matplotlib("matplotlib")


def draw(
    outcomes: Sequence[Outcome], scenarios: Sequence[Scenario], settings: Settings, path: str | Path
) -> None:
    """Writes a picture with one panel for each scenario; outcomes need a curve (`curve_every_ns`).

    The upper part of a panel shows tokens a second: offered, and admitted by each rule. The lower
    one shows how much more, or less, each rule has admitted than one bucket that sees every call.
    """
    check_plot(path)
    figure_class = _matplotlib("matplotlib.figure").Figure
    count = len(scenarios)
    figure = figure_class(figsize=(10, 5.2 * count), dpi=150, layout="constrained")
    grid = figure.subplots(2 * count, 1, squeeze=False, height_ratios=[3, 2] * count)
    for k, scenario in enumerate(scenarios):
        shown = _first_seed([o for o in outcomes if o.scenario == scenario.name])
        upper, lower = grid[2 * k][0], grid[2 * k + 1][0]
        lower.sharex(upper)
        _rates(upper, shown, scenario, settings)
        _surplus(lower, shown, scenario, settings)
    text = (
        f"{settings.regions} regions, {settings.lag_ns / 1e6:g} ms one way, gossip every "
        f"{settings.gossip_ns / 1e6:g} ms, capacity {settings.capacity:,}, "
        f"{settings.rate_per_second:,.6g} tokens/s"
    )
    figure.suptitle(text, fontsize=11, color="#333333")
    try:
        figure.savefig(path)
    except OSError as error:
        raise SimulationError(f"{path} cannot be written: {error.strerror}") from error


def _first_seed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [o for o in outcomes if o.curve and o.seed == outcomes[0].seed]


def _rates(axes: Any, outcomes: Sequence[Outcome], scenario: Scenario, settings: Settings) -> None:
    limit = settings.rate_per_second
    axes.set_title(scenario.title, loc="left", fontsize=12, fontweight="bold", pad=24)
    if outcomes:
        x, y = _speed(outcomes[0], 1)
        axes.fill_between(x, y, color="#d9dde2", linewidth=0, label="offered", step="mid")
    for outcome in reversed(outcomes):
        x, y = _speed(outcome, 2)
        width = 2.0 if outcome.rule == "crdtbucket" else 1.3
        axes.plot(x, y, color=_colour(outcome), linewidth=width, label=outcome.rule)
    axes.axhline(limit, color="black", linewidth=1, linestyle="--", label="refill rate")
    axes.set_ylabel("tokens/s")
    axes.set_ylim(bottom=0)
    _dress(axes, scenario)
    axes.tick_params(labelbottom=False)
    _legend(axes, (0.0, 1.0), "lower left", 6)


def _surplus(
    axes: Any, outcomes: Sequence[Outcome], scenario: Scenario, settings: Settings
) -> None:
    for outcome in reversed(outcomes):
        x = [point[0] for point in outcome.curve]
        y = [100 * (point[2] - point[3]) / settings.capacity for point in outcome.curve]
        axes.plot(x, y, color=_colour(outcome), linewidth=1.6)
        note = (
            f"{outcome.rule}: worst window {round(outcome.over_admission_percent, 1) + 0.0:+.1f} %"
        )
        axes.plot([], [], color=_colour(outcome), label=note)
    axes.axhline(0, color="black", linewidth=1, linestyle="--")
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylabel("beyond the ideal,\n% of capacity")
    axes.set_xlabel("seconds")
    _dress(axes, scenario)
    _legend(axes, (0.0, -0.3), "upper left", 2)


def _legend(axes: Any, place: tuple[float, float], corner: str, columns: int) -> None:
    """Puts the legend outside of the curves."""
    axes.legend(
        loc=corner, bbox_to_anchor=place, borderaxespad=0.2, fontsize=9, frameon=False,
        ncols=columns,
    )  # fmt: skip


def _speed(outcome: Outcome, column: int) -> tuple[list[float], list[float]]:
    """Tokens a second, averaged over about a hundredth of the run, at least four points of the
    curve."""
    curve = outcome.curve
    width = max(4, len(curve) // 100)
    x, y = [], []
    for before, after in zip(curve, curve[width:], strict=False):
        x.append((before[0] + after[0]) / 2)
        y.append((after[column] - before[column]) / (after[0] - before[0]))
    return x, y


def _colour(outcome: Outcome) -> str:
    return _COLOURS.get(outcome.rule, "#555555")


def _dress(axes: Any, scenario: Scenario) -> None:
    axes.set_xlim(0, scenario.duration_ns / NS)
    axes.grid(True, color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    start: float | None = None
    for event in scenario.events:
        if event.fault in (ScenarioFault.PARTITION, ScenarioFault.SEVER, ScenarioFault.CUT):
            start = event.at_ns / NS
        elif event.fault is ScenarioFault.HEAL and start is not None:
            axes.axvspan(start, event.at_ns / NS, color="#f3e9d2", zorder=0)
        elif event.fault is ScenarioFault.SUSPEND:
            end = (event.at_ns + event.duration_ns) / NS
            axes.axvspan(event.at_ns / NS, end, color="#f3e9d2", zorder=0)
        elif event.fault is ScenarioFault.RESTART:
            axes.axvline(event.at_ns / NS, color="#cbb994", linewidth=0.8, zorder=0)
