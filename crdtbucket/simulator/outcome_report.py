"""Prints outcomes as a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from crdtbucket.simulator.replay import Replayed
from crdtbucket.simulator.scenario_run import Outcome

_DIGITS = {
    "ratio": 6, "over_admission_percent": 4, "bound_percent": 4, "starved_seconds": 3,
    "share_min": 4, "share_max": 4,
}  # fmt: skip

WIDTH = 80
COLUMNS = (
    ("offered", "offered"),
    ("admitted", "admitted"),
    ("of ideal", "admitted / what one bucket that sees every call at once admits"),
    ("over %", "worst over-admission, beyond capacity + rate x t in any window, % of the capacity"),
    ("bound %", "what this run may exceed by at most, from what was delivered when"),
    ("starved s", "longest time in which a node with demand admitted nothing"),
    ("share", "least and greatest share admitted / share of the demand, over the nodes"),
    ("denied light", "calls denied although less than the refill was offered"),
)


def as_json(outcomes: Sequence[Outcome]) -> str:
    """A JSON list with one object for each outcome; a figure that does not exist is null."""
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        row = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
        del row["curve"]
        for name, digits in _DIGITS.items():
            if row[name] is not None:  # adding 0.0 turns a negative zero into a plain one
                row[name] = round(row[name], digits) + 0.0
        rows.append(row)
    return json.dumps(rows, indent=2)


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Prints the table and the notes about it on standard output."""
    for line in (*table_lines(outcomes), *_notes(outcomes)):
        print(line)


def table_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each scenario, and below it one for each rule; over several seeds the worst of
    each figure. Heads of two words take two lines, so that all of it fits in 80 columns."""
    groups = _groups(outcomes)
    heads = [title.rpartition(" ") for title, _ in COLUMNS]
    rows = [
        ["scenario", *(over for over, _, _ in heads)],
        ["  rule", *(under for _, _, under in heads)],
        *([f"  {rule}", *_cells(group)] for (_, rule), group in groups.items()),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = "  " if sum(widths) + 2 * len(COLUMNS) <= WIDTH else " "
    aligned = []
    for first, *cells in rows:
        right = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        aligned.append(gap.join((first.ljust(widths[0]), *right)).rstrip())
    lines, last = aligned[:2], ""
    for (scenario, _), line in zip(groups, aligned[2:], strict=True):
        lines += [line] if scenario == last else [scenario, line]
        last = scenario
    return lines


def _groups(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.scenario, outcome.rule), []).append(outcome)
    return groups


def _cells(group: Sequence[Outcome]) -> list[str]:
    bounds = [o.bound_percent for o in group if o.bound_percent is not None]
    return [
        _span([o.offered for o in group], "{:,}"),
        _span([o.admitted for o in group], "{:,}"),
        _span([o.ratio for o in group], "{:.3f}"),
        _signed(max(o.over_admission_percent for o in group)),
        f"{max(bounds):.1f}" if bounds else "-",
        f"{max(o.starved_seconds for o in group):.2f}",
        _span([s for o in group for s in (o.share_min, o.share_max)], "{:.2f}"),
        f"{max(o.denied_light for o in group):,}",
    ]


def _signed(percent: float) -> str:
    """A number with one decimal; a tiny negative over-admission is a plain zero, not a negative
    one."""
    return f"{round(percent, 1) + 0.0:.1f}"


def _span(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, high = form.format(min(known)), form.format(max(known))
    return low if low == high else f"{low}..{high}"


def _notes(outcomes: Sequence[Outcome]) -> list[str]:
    notes = []
    seeds = sorted({outcome.seed for outcome in outcomes})
    if len(seeds) > 1:
        notes.append(f"{len(seeds)} seeds: the worst of each figure.")
    replayed = [outcome for outcome in outcomes if isinstance(outcome, Replayed)]
    if replayed:
        first = replayed[0]
        admitted: dict[str, list[int]] = {}
        for one in replayed:
            admitted.setdefault(one.rule, []).append(one.calls_admitted)
        calls = ", ".join(f"{rule} {_span(each, '{:,}')}" for rule, each in admitted.items())
        notes.append(
            f"Amounts are tokens. {first.calls_offered:,} calls were offered; admitted: {calls}."
        )
        if first.too_large:
            notes.append(
                f"{first.too_large:,} calls ({first.too_large_tokens:,} tokens) cost more than the "
                "capacity: no bucket could admit them, and they are in no other figure."
            )
        if first.free:
            notes.append(f"{first.free:,} calls cost nothing and were not limited.")
    return notes
