"""Prints for operators: tables that are never cut for a pipe, and whose lines end with a word."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

PIPED = 1_000
"""Columns of output that is no terminal: names stay whole, so that they can be searched for."""


def console() -> Console:
    """The console of standard output; words stand as they are."""
    piped = not Console().file.isatty()  # FORCE_COLOR gives a pipe colours, and no width
    kind = PipedConsole if piped else Console
    made = kind(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if piped and "COLUMNS" not in os.environ:
        made.width = PIPED
    return made


def redraws(console: Console) -> bool:
    """Whether a picture can replace the one before: not in a pipe, whatever FORCE_COLOR says, nor
    in a terminal that has no codes for it (TERM=dumb)."""
    return console.file.isatty() and not console.is_dumb_terminal


class PipedConsole(Console):
    """Leaves out the blanks by which a table fills its last column."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints as `Console` does, but without blanks at the ends of lines."""
        with self.capture() as held:
            super().print(*objects, **options)
        self.file.write("\n".join(line.rstrip(" ") for line in held.get().split("\n")))


def table(*heads: str) -> Table:
    """A table without lines. A head that ends in `>` is that of a column of numbers, which stand to
    the right and are never shortened."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for head in heads:
        is_number = head.endswith(">")
        side: JustifyMethod = "right" if is_number else "left"
        made.add_column(head.rstrip(">"), justify=side, no_wrap=is_number)
    return made


def name(text: str) -> Text:
    """A cell that is shortened where the terminal is too narrow for all of them."""
    return Text(text, no_wrap=True, overflow="ellipsis")
