"""Measured rows as tables for people and as JSON for machines."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.measure import Comparison, Row


def _number(value: float) -> str:
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _ratio(value: float, baseline: float) -> float | None:
    return value / baseline if baseline else None


def table(comparison: Comparison, rows: list[Row]) -> Table:
    """Medians, least to most, and the first unit's ratio to the baseline and to `versus`."""
    spread = any(len(values) > 1 for row in rows for values in row.values)
    versus = next((row.medians[0] for row in rows if row.label == comparison.versus), None)
    out = Table(title=comparison.title, title_justify="left", caption=comparison.note or None)
    out.caption_justify = "left"
    out.add_column("")
    for unit in comparison.units:
        out.add_column(unit, justify="right")
        if spread:
            out.add_column("least to most", justify="right", style="dim")
    out.add_column("x baseline", justify="right")
    if versus is not None:
        out.add_column(f"x {comparison.versus}", justify="right")
    for row in rows:
        cells = [escape(row.label)]
        for middle, values in zip(row.medians, row.values, strict=True):
            cells.append(_number(middle))
            if spread:
                cells.append(f"{_number(min(values))} to {_number(max(values))}")
        for other in (rows[0].medians[0], versus):
            if other is not None:
                ratio = _ratio(row.medians[0], other)
                cells.append("" if ratio is None else _number(ratio))
        out.add_row(*cells)
    for label, reason in comparison.missing:
        out.add_row(escape(label), escape(reason), style="dim")
    return out


def show(console: Console, comparison: Comparison, rows: list[Row]) -> None:
    """Prints one comparison."""
    console.print(table(comparison, rows))
    console.print()


def as_json(comparison: Comparison, rows: list[Row]) -> dict[str, Any]:
    """One comparison with every value that was measured."""
    base = rows[0].medians if rows else ()
    return {
        "title": comparison.title,
        "note": comparison.note,
        "rows": [
            {
                "label": row.label,
                "values": [
                    {
                        "unit": unit,
                        "median": row.medians[i],
                        "least": min(row.values[i]),
                        "most": max(row.values[i]),
                        "ratio": _ratio(row.medians[i], base[i]),
                        "repeats": list(row.values[i]),
                    }
                    for i, unit in enumerate(comparison.units)
                ],
            }
            for row in rows
        ],
        "missing": [{"label": label, "reason": reason} for label, reason in comparison.missing],
    }
