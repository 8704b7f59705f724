"""Writes measured rows as JSON, and the same table from it for terminals and for documents."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.measure import Comparison, Row

Told = dict[str, Any]
"""A comparison as it is written in JSON."""


def number(value: float) -> str:
    """A number with three digits, or all of those before the point up to a million."""
    if value == 0:
        return "0"
    if abs(value) >= 999_999.5:
        return f"{value / 1e6:.3g} M" if abs(value) < 1e9 else f"{value / 1e6:,.0f} M"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def measured(value: dict[str, Any]) -> str:
    """The median, and how far the repeats are from it at most."""
    text, middle = number(value["median"]), value["median"]
    if not middle or value["least"] == value["most"]:
        return text
    off = max(value["most"] - middle, middle - value["least"]) / abs(middle)
    return f"{text} ±{math.ceil(100 * off)} %"


def _ratio(value: float, baseline: float) -> float | None:
    return value / baseline if baseline else None


def _exact_enough(value: float) -> float:
    """A number with six digits: more are noise, and make the files long."""
    return float(f"{value:.6g}")


def as_json(comparison: Comparison, rows: list[Row], failed: list[tuple[str, str]]) -> Told:
    """One comparison with every value that was measured, and what could not be."""
    base = rows[0].medians if rows else ()
    return {
        "title": comparison.title,
        "units": list(comparison.units),
        "note": comparison.note,
        "versus": comparison.versus,
        "ratios": comparison.ratios,
        "at": comparison.at,
        "rows": [
            {
                "label": row.label,
                "at": row.at,
                "values": [
                    {
                        "median": _exact_enough(row.medians[i]),
                        "least": _exact_enough(min(row.values[i])),
                        "most": _exact_enough(max(row.values[i])),
                        "ratio": _ratio(row.medians[i], base[i]),
                        "repeats": [_exact_enough(value) for value in row.values[i]],
                    }
                    for i in range(len(comparison.units))
                ],
            }
            for row in rows
        ],
        "missing": [
            {"label": label, "reason": reason} for label, reason in [*comparison.missing, *failed]
        ],
    }


def cells(told: Told) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of its table: each unit, then the ratios of the first unit."""
    rows = told["rows"]
    bases = {"x baseline": rows[0]["values"][0]["median"]} if rows and told["ratios"] else {}
    for row in rows:
        if row["label"] == told["versus"]:
            bases[f"x {row['label']}"] = row["values"][0]["median"]
    head = ["", *told["units"], *bases]
    return head, [_row(row, list(bases.values())) for row in rows]


def _row(row: dict[str, Any], bases: list[float]) -> list[str]:
    ratios = [_ratio(row["values"][0]["median"], base) for base in bases]
    return [
        row["label"],
        *(measured(value) for value in row["values"]),
        *("" if ratio is None else number(ratio) for ratio in ratios),
    ]


def table(told: Told) -> Table:
    """The table for a terminal."""
    head, rows = cells(told)
    out = Table(title=told["title"], title_justify="left", caption=told["note"] or None)
    out.caption_justify = "left"
    for name in head:
        out.add_column(name, justify="right" if name else "left", no_wrap=not name)
    for row in rows:
        out.add_row(*map(escape, row))
    return out


def markdown(all_told: list[Told]) -> str:
    """The tables for a document. Where two tables in a row have the same note, it stands below the
    last."""
    lines = []
    for told, after in zip(all_told, [*all_told[1:], None], strict=True):
        head, rows = cells(told)
        lines += [f"**{told['title']}**", ""]
        if rows:
            lines += [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
            lines += [*map(_line, rows), ""]
        said = told["note"] and not (after and after["note"] == told["note"])
        words = [told["note"] + "."] if said else []
        words += _absent(told)
        lines += [" ".join(words), ""] if words else []
    return "\n".join(lines).rstrip()


def _absent(told: Told) -> list[str]:
    """A sentence for each reason why rows are missing."""
    reasons: dict[str, list[str]] = {}
    for missing in told["missing"]:
        reasons.setdefault(missing["reason"], []).append(missing["label"])
    return [f"{'; '.join(labels)}: {reason}." for reason, labels in reasons.items()]


def _line(row: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def show(console: Console, told: Told) -> None:
    """Prints one comparison."""
    console.print(table(told))
    for missing in told["missing"]:
        console.print(f"  {missing['label']}: {missing['reason']}", markup=False)
    console.print()
