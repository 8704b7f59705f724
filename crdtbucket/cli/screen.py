"""Prints for operators: tables that are never cut for a pipe, and text of nodes made harmless."""

from __future__ import annotations

import math
import os

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

PIPED = 1_000
"""Columns where nobody looks: names are whole for whatever searches them."""


def console() -> Console:
    """The console of standard output; words stand as they are."""
    made = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPED
    return made


def table(*heads: str) -> Table:
    """Without lines. A head that ends with `>` is of numbers: they stand to the right, whole."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for head in heads:
        is_number = head.endswith(">")
        side: JustifyMethod = "right" if is_number else "left"
        made.add_column(head.rstrip(">"), justify=side, no_wrap=is_number)
    return made


def name(text: str) -> Text:
    """A cell that is shortened where the terminal is too narrow for all of them."""
    return Text(text, no_wrap=True, overflow="ellipsis")


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
