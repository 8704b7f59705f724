"""The answer of a node as a terminal shows it, though it may be malformed, or hold the codes of a
terminal; and durations as people say them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def printable(text: str) -> str:
    """The text with everything escaped that a terminal would not show as a character.

    Keys come from callers of the limiter: one may hold the codes that clear a screen.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )


def seconds(value: float) -> str:
    """A duration as people say it: `1.5 ms`, `0.25 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if not math.isfinite(value):
        return "for ever"
    if value < 0.1:
        return f"{round(value * 1_000, 1):g} ms"
    if value < 9.95:
        return f"{value:.2g} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7_200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"


def mapping_of(value: Any) -> Mapping[str, Any]:
    """The mapping that a node sent; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def list_of(answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects in the list that a node sent under this name; none in place of anything else."""
    value = answer.get(name)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def text_of(value: Any) -> str:
    """The text that a node sent, safe to show; "" in place of anything else."""
    return printable(value) if isinstance(value, str) else ""


def number_of(value: Any) -> float | None:
    """The number that a node sent; None in place of anything else."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
