"""Shows the demo as a live table, or as one line a second where stdout is no terminal."""

from __future__ import annotations

import os
import re
import sys
import threading
import webbrowser

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crdtbucket.demo.board import Board
from crdtbucket.demo.words import BANNERS

_STYLES = {
    "normal": "green", "burst": "bold yellow", "cut": "bold red", "healed": "bold cyan",
    "stalled": "bold yellow", "slow": "bold yellow", "gone": "bold red", "back": "bold cyan",
}  # fmt: skip
_MODE_STYLES = {"strong": "green", "eventual": "yellow", "fallback": "bold red"}
_BARS = " ▁▂▃▄▅▆▇█"


class SilentRunView:
    """Shows nothing: only the verdict is wanted, in another form. The other views show more."""

    frames_a_second = 1.0

    def say(self, text: str, holds: bool | None = None) -> None:
        """Shows a line before or after the traffic. `holds`: of a line about a check, whether it
        holds."""

    def open_page(self, url: str) -> None:
        """Shows the address of a page for those who watch."""

    def show(self, board: Board) -> None:
        """Shows the state of the run."""

    def close(self) -> None:
        """The traffic has ended, or the run was stopped."""


class PlainRunView(SilentRunView):
    """A line a second, of 80 columns, for pipes and files."""

    def __init__(self) -> None:
        self._phase = ""
        self._told = 0

    def say(self, text: str, holds: bool | None = None) -> None:
        """Prints a line."""
        print(text, flush=True)

    def show(self, board: Board) -> None:
        """Prints one line; others before it when a phase begins."""
        modes = board.switches is not None
        if not self._phase:
            names = "offer admit " + ("mode    " if modes else " left  lag")
            self._columns("\n       ", [f"{row.region:^{len(names)}}" for row in board.rows])
            self._columns("  time ", [names for _ in board.rows])
        if board.phase.name != self._phase:
            self._phase = board.phase.name
            self.say(f"-- {BANNERS[self._phase]}")
        for line in (board.switches or ())[self._told :]:
            self.say(f"   {line}")
        self._told = len(board.switches or ())
        regions = [
            f"{row.offered:5.0f} {row.admitted:5.0f} "
            + (f"{row.mode:8}" if modes else f"{row.remaining:5d} {row.lag_s:4.1f}")
            for row in board.rows
        ]
        self._columns(f"{board.elapsed_s:5.1f}s ", regions)

    def _columns(self, first: str, others: list[str]) -> None:
        self.say((first + " | ".join(others)).rstrip())


class LiveRunView(SilentRunView):
    """A table in the terminal, drawn anew some times a second."""

    frames_a_second = 5.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)

    def say(self, text: str, holds: bool | None = None) -> None:
        """Prints a line; that of a check has a colour."""
        style = "" if holds is None else "green" if holds else "bold red"
        self._console.print(Text(text, style), highlight=False)

    def open_page(self, url: str) -> None:
        """Open it in a browser, which the run does not wait for."""
        threading.Thread(target=open_page, args=(url,), daemon=True).start()

    def show(self, board: Board) -> None:
        """Draw the table."""
        self._live.start()
        self._live.update(picture(board), refresh=True)

    def close(self) -> None:
        """Leave the last picture on the screen and give the cursor back."""
        self._live.stop()


def picture(board: Board) -> Group:
    """The table with a banner above and what all regions did together below."""
    style = _STYLES[board.phase.name]
    banner = Text.assemble(
        (f" {board.phase.name.upper()} ", f"reverse {style}"),
        (f" {BANNERS[board.phase.name]}", style),
        (
            f"  {board.left_s:.0f} s more" if board.left_s else "  waiting for the last updates",
            "dim",
        ),
    )
    return Group(Text(), banner, _table(board), _together(board), *_switches(board))


def _table(board: Board) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("region")
    for name in ("offered/s", "admitted/s", "denied/s", "remaining", "lag", "peers"):
        table.add_column(name, justify="right")
    if board.switches is not None:
        table.add_column("mode")
    for row in board.rows:
        table.add_row(
            Text(row.region + (" (cut)" if row.is_cut else ""), "red" if row.is_cut else "bold"),
            f"{row.offered:,.0f}",
            Text(f"{row.admitted:,.0f}", "green"),
            Text(f"{row.denied:,.0f}", "yellow" if row.denied >= 1 else "dim"),
            f"{row.remaining:,}",
            Text(f"{row.lag_s:.1f} s", "red" if row.lag_s >= 1 else ""),
            Text(f"{row.alive} of {row.peers}", "" if row.alive == row.peers else "red"),
            *([] if board.switches is None else [Text(row.mode, _MODE_STYLES.get(row.mode, ""))]),
        )
    table.add_section()
    offered, admitted = (sum(getattr(r, n) for r in board.rows) for n in ("offered", "admitted"))
    table.add_row(
        "together", f"{offered:,.0f}", f"{admitted:,.0f}", f"{offered - admitted:,.0f}",
        style="dim",
    )  # fmt: skip
    return table


def _together(board: Board) -> Text:
    used = 100 * board.admitted / board.allowed
    return Text.assemble(
        ("admitted, each second  ", "dim"),
        *[(bar, "cyan") for bar in sparkline(board)],
        ("  ▄ is the refill\n", "dim"),
        f"so far {board.admitted:,} of {board.allowed:,.0f} tokens ",
        (f"({used:.0f} % of the limit: capacity + rate x time)", "dim"),
    )


def _switches(board: Board) -> list[Text]:
    # The reason is cut after the figures: the rest, which names the rule, is the same each time.
    short = [re.split(", for |; ", line)[0] for line in board.switches or ()]
    lines = [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in short]
    return [Text(), *lines] if lines else []


def sparkline(board: Board) -> str:
    """One bar a second; the refill is half the height."""
    highest = len(_BARS) - 1
    heights = [round(highest * tokens / (2 * board.refill)) for tokens in board.spark]
    least = [min(1, tokens) for tokens in board.spark]
    return "".join(_BARS[min(highest, max(one))] for one in zip(heights, least, strict=True))


def view_for(*, plain: bool, json: bool) -> SilentRunView:
    """The view that fits: silent for JSON; lines when asked for, in a pipe, and in a terminal where
    no picture can replace another."""
    if json:
        return SilentRunView()
    console = Console()
    live = console.file.isatty() and not console.is_dumb_terminal
    return LiveRunView(console) if live and not plain else PlainRunView()


def open_page(url: str) -> None:
    """Opens a page in the default browser where there is a desktop. May take some seconds."""
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform != "darwin" and not any(map(os.environ.get, displays)):
        return
    try:
        browser = webbrowser.get()
    except webbrowser.Error:  # there is none; the address is printed
        return
    # A browser of exactly this class is a text browser such as lynx, which would take the terminal
    # over.
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(url)
