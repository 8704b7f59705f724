"""Tables for operators: as wide as the terminal, and never cut where a pipe reads them."""

from __future__ import annotations

import os

from rich.console import Console, JustifyMethod
from rich.table import Table

PIPED = 1_000
"""Columns where nobody looks: names are whole for whatever searches them."""


def console() -> Console:
    """Of standard output; words stand as they are."""
    made = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPED
    return made


def table(*heads: str) -> Table:
    """Without lines. A head that ends with `>` is of numbers, which stand to the right."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        side: JustifyMethod = "right" if head.endswith(">") else "left"
        made.add_column(head.rstrip(">"), justify=side, no_wrap=True, overflow="ellipsis")
    return made


__all__ = ["console", "table"]
