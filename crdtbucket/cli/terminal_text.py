"""Words for a terminal: text of nodes made harmless, and durations as people say them."""

from __future__ import annotations

import math


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
