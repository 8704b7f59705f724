"""For `docs/scaling.py`: what it keeps of measured growth, how it looks values up, and fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression
from typing import Any


def reduced(results: dict[str, Any]) -> dict[str, Any]:
    """The part of the benchmarks' results that the page is made of."""
    about = results["environment"]
    kept = ("date", "commit", "processor", "cores", "python")
    comparisons = [found for answer in results["answers"] for found in answer["comparisons"]]
    return {
        "environment": {name: about[name] for name in kept},
        "comparisons": {
            one["title"]: {
                row["label"]: {
                    unit: float(f"{value['median']:.6g}")
                    for unit, value in zip(one["units"], row["values"], strict=True)
                }
                for row in one["rows"]
            }
            for one in comparisons
        },
    }


class Rows:
    """Measured medians, by comparison, row and unit."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.environment = data["environment"]
        self.note = data.get("note", "")
        self._comparisons: dict[str, dict[str, dict[str, float]]] = data["comparisons"]

    def of(self, start: str) -> dict[str, dict[str, float]]:
        """The comparison whose title begins with `start`."""
        (found,) = [rows for title, rows in self._comparisons.items() if title.startswith(start)]
        return found

    def value(self, start: str, label: str, unit: str) -> float:
        """One median; `unit` is its name, or the beginning of it."""
        row = self.of(start)[label]
        if unit in row:
            return row[unit]
        (found,) = [value for name, value in row.items() if name.startswith(unit)]
        return found

    def line(self, start: str, unit: str, suffix: str = "") -> list[tuple[float, float]]:
        """(size, value) of the rows whose labels begin with a number and end with `suffix`."""
        labels = [label for label in self.of(start) if label.endswith(suffix)]
        sizes = {float(one.split()[0].replace(",", "")): one for one in labels if one[0].isdigit()}
        return [(size, self.value(start, label, unit)) for size, label in sizes.items()]


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """b of the best fit of value = a * size ** b, by least squares of the logarithms."""
    x = [math.log(size) for size, _ in points]
    y = [math.log(value) for _, value in points]
    return linear_regression(x, y).slope


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with numbers aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).rstrip()


def number(value: float) -> str:
    """A number with three digits at most after the first, and no trailing zeros."""
    if value >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
