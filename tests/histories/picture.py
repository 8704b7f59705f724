"""Draws one run: the processes of each node, what its callers got, and what was counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tests.histories.history import ADMITTED, DENIED, INDETERMINATE, KILLED, WIDE, History

_COLOURS = {ADMITTED: "#0b6e4f", DENIED: "#9aa0a6", INDETERMINATE: "#c0392b"}
_LIFE, _FAULT, _PAUSE = "#dfe7f1", "#f3e3ba", "#e3f1e3"
_HALF = 0.32


def draw(history: History, title: str, path: Path) -> None:
    """Writes the picture as a PNG. Raises `ImportError` without matplotlib, which the extra `plot`
    installs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.6), dpi=120, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    end = max([one.at for pause in history.pauses for one in pause.reads], default=1.0)
    for axes in (upper, lower):
        for fault in history.faults:
            axes.axvspan(fault.begin, fault.end or end, color=_FAULT, linewidth=0, zorder=0)
        for pause in history.pauses:
            axes.axvspan(pause.healed, pause.resumed or end, color=_PAUSE, linewidth=0, zorder=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    _draw_lives(upper, history, end)
    _draw_knowledge(lower, history)
    upper.set_title(title, loc="left", fontsize=11)
    lower.set_xlabel("seconds")
    lower.set_xlim(0, end)
    figure.savefig(path)


def _draw_lives(axes: Any, history: History, end: float) -> None:
    for life in history.lives:
        until = end if life.end is None else life.end
        axes.barh(life.node, until - life.begin, left=life.begin, height=2 * _HALF, color=_LIFE)
        if life.how == KILLED:
            axes.plot(until, life.node, "x", color=_COLOURS[INDETERMINATE], markersize=9)
    for lift, outcome in ((-0.1, DENIED), (0.1, ADMITTED), (0.0, INDETERMINATE)):
        calls = [call for call in history.calls if call.outcome == outcome]
        axes.plot(
            [call.begin for call in calls], [call.node + lift for call in calls],
            "|", color=_COLOURS[outcome], markersize=6, label=f"{outcome} ({len(calls)})",
        )  # fmt: skip
    for number, fault in enumerate(history.faults):
        height = history.nodes - 0.4 + 0.28 * (number % 3)
        axes.text(fault.begin, height, fault.what, fontsize=7)
    axes.set_yticks(range(history.nodes), [f"node {one}" for one in range(history.nodes)])
    axes.set_ylim(-0.6, history.nodes + 0.5)
    axes.legend(loc="lower left", bbox_to_anchor=(0, -0.16), ncols=3, frameon=False, fontsize=9)


def _draw_knowledge(axes: Any, history: History) -> None:
    """Draws how many tokens of the wide keys the callers were granted, and how many each node
    counts."""
    calls = sorted(
        (call.end, call.cost)
        for call in history.calls
        if call.bucket == WIDE and call.outcome == ADMITTED and call.end is not None
    )
    taken: Counter[float] = Counter()
    total = 0
    for at, cost in calls:
        total += cost
        taken[at] = total
    axes.plot(list(taken), list(taken.values()), color="black", linewidth=2, label="admitted")
    reads = history.reads + [one for pause in history.pauses for one in pause.reads]
    for node in range(history.nodes):
        known = sorted(
            (one.at, sum(sum(row.values()) for row in one.columns.values()))
            for one in reads
            if one.node == node
        )
        axes.plot(
            *zip(*known, strict=True), ".-", linewidth=0.8, markersize=3, label=f"node {node}"
        )
    axes.set_ylabel("tokens of the wide keys")
    axes.legend(loc="upper left", ncols=6, frameon=False, fontsize=9)
