"""`crdtbucket top`: what a node is doing now, drawn anew every few seconds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import first_of
from crdtbucket.cli.answer_values import list_of
from crdtbucket.cli.node_load import SORTS, BucketLoad, KeyLoad, Load, Look, busiest
from crdtbucket.cli.node_options import NodeOptions, node_options
from crdtbucket.cli.options import FiniteRange
from crdtbucket.cli.screen import console, name, redraws, table

if TYPE_CHECKING:
    from crdtbucket.cli.node_client import NodeClient

BUSIEST = 20
"""Buckets whose heavy keys are asked for."""
LETTERS = {order[0]: order for order in SORTS}
HINT = "q quit, sort by: " + ", ".join(f"{letter} {order}" for letter, order in LETTERS.items())
BAR = 5
NARROW = 80
"""Fewer columns have no room for bars beside the names."""


@click.command(epilog="Example: crdtbucket top --sort allowed")
@click.option(
    "--sort", type=click.Choice(list(SORTS)), default="denied", show_default=True,
    help="What stands first; in the live view the first letter of each chooses it.",
)  # fmt: skip
@click.option(
    "--keys", type=click.IntRange(0, 500), default=10, show_default=True,
    help="How many of the heaviest keys are shown.",
)  # fmt: skip
@click.option(
    "--interval", type=FiniteRange(0.05, 3600), default=2.0, show_default=True,
    help="Seconds between two reads of the node; rates are those of this time.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print once, after one interval, and end.")
@node_options
def top(sort: str, keys: int, interval: float, once: bool, node: NodeOptions, json_: bool) -> None:
    """Watch a node: its buckets with calls a second, and the heaviest keys.

    Rates are this node's own calls; levels are those of the whole mesh. Live at a terminal (q
    ends it), a picture an interval elsewhere.
    """
    live = not json_ and not once and redraws(console())
    view = LiveLoadView(keys, sort) if live else LoadView(keys, sort, json_)
    asyncio.run(_watch(view, node.client(), interval, once))


async def _watch(view: LoadView, client: NodeClient, interval: float, once: bool) -> None:
    async with client as node:
        first = await _look(node, view.count)  # it has to succeed
        with view.open():
            await first_of(_show(view, node, first, interval, once), view.stop.wait())


async def _show(
    view: LoadView, node: NodeClient, before: Look, interval: float, once: bool
) -> None:
    from crdtbucket.cli.node_client import NodeError  # aiohttp: where it is used

    while True:
        await asyncio.sleep(interval)
        try:
            after = await _look(node, view.count)
        except NodeError as error:
            if once:
                raise
            view.fault(str(error))
            continue
        view.show(node.url, Load.between(before, after))
        before = after
        if once:
            return


async def _look(node: NodeClient, count: int) -> Look:
    answer = await node.buckets()
    at = now_ns()
    buckets = list_of(answer, "buckets")
    asked = busiest(buckets, BUSIEST) if count else []
    heavy = await asyncio.gather(*(node.keys(one, count) for one in asked))
    keys = {name: list_of(one, "keys") for name, one in zip(asked, heavy, strict=True)}
    return Look(at, buckets, keys)


class LoadView:
    """Pictures below each other: lines of JSON, or tables. `count`: how many keys are shown."""

    def __init__(self, count: int, sort: str, json_: bool) -> None:
        self.count, self.sort = count, sort
        self.stop = asyncio.Event()
        self._json = json_
        self._console = console()
        self._said = ""
        """Why the node did not answer last time; "" where it did."""

    def show(self, url: str, now: Load) -> None:
        """Draws one picture."""
        self._said, now = "", now.sorted(self.sort)
        if self._json:
            click.echo(json.dumps({"url": url, **asdict(now)}))
        else:
            self._console.print(picture(now, self.count, self._console.width))

    def fault(self, message: str) -> None:
        """Shows that the node did not answer this time, once while that lasts."""
        if message != self._said:
            click.echo(f"crdtbucket: {message}", err=True)
        self._said = message

    @contextmanager
    def open(self) -> Iterator[None]:
        """Sets the terminal up for as long as the view is shown."""
        yield


class LiveLoadView(LoadView):
    """One picture that changes, at a terminal; letters choose the order, and the end."""

    def __init__(self, count: int, sort: str) -> None:
        super().__init__(count, sort, json_=False)
        self._live = Live(console=self._console, auto_refresh=False, screen=True)
        self._url = ""
        self._load = Load((), ())

    def show(self, url: str, now: Load) -> None:
        """Draws one picture in place of the one before."""
        self._url, self._load, self._said = url, now, ""
        self._draw()

    def fault(self, message: str) -> None:
        """Shows a fault above the last picture."""
        self._said = message
        self._draw()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Reads letters as they are typed; the terminal is as before at the end."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop.set)
        with self._live:
            self._draw()
            if not sys.stdin.isatty():
                yield
                return
            terminal = sys.stdin.fileno()
            before = termios.tcgetattr(terminal)
            tty.setcbreak(terminal)
            asyncio.get_running_loop().add_reader(terminal, self._read, terminal)
            try:
                yield
            finally:
                asyncio.get_running_loop().remove_reader(terminal)
                termios.tcsetattr(terminal, termios.TCSADRAIN, before)

    def _read(self, terminal: int) -> None:
        for letter in os.read(terminal, 64).decode(errors="replace") or "q":
            if letter == "q":
                self.stop.set()
            self.sort = LETTERS.get(letter, self.sort)
        self._draw()

    def _draw(self) -> None:
        head = Text.assemble((self._url, "bold"), f"  by {self.sort}  ", (HINT, "dim"))
        said = Text(self._said, "bold red")
        now, width = self._load.sorted(self.sort), self._console.width
        self._live.update(Group(head, said, picture(now, self.count, width)))
        self._live.refresh()


def picture(now: Load, count: int, width: int) -> Group:
    """The buckets, and `count` of the heaviest keys, for so many columns."""
    bar = BAR if width >= NARROW else 0
    parts: list[RenderableType] = [_buckets(now.buckets, bar)]
    if now.keys and count:
        parts += [Text(), _heavy(now.keys[:count], bar)]
    return Group(*parts)


def _buckets(buckets: tuple[BucketLoad, ...], bar: int) -> Table:
    shown = table("bucket", "mode", "allowed/s>", "denied/s>", "denied>", "keys>", "fill")
    for one in buckets:
        shown.add_row(
            name(one.name),
            Text(one.mode, "bold red" if one.mode == "fallback" else ""),
            f"{one.allowed_per_second:,.1f}",
            Text(f"{one.denied_per_second:,.1f}", "yellow" if one.denied_per_second else "dim"),
            f"{one.denied:,}",
            f"{one.keys:,}",
            _level(one.fill, bar),
        )
    return shown


def _heavy(keys: tuple[KeyLoad, ...], bar: int) -> Table:
    shown = table("key", "bucket", "tokens>", "denied>", "left>", "fill")
    for one in keys:
        shown.add_row(
            name(one.key),
            name(one.bucket),
            f"{one.tokens:,}",
            Text(f"{one.denied:,}", "yellow" if one.denied else "dim"),
            f"{one.remaining:,}",
            _level(one.fill, bar),
        )
    return shown


def _level(fill: float | None, bar: int) -> Text:
    if fill is None:
        return Text("-", "dim")
    full = round(fill * bar)
    style = "red" if fill < 0.1 else "yellow" if fill < 0.5 else "green"
    if not bar:
        return Text(f"{fill:.0%}", style)
    return Text.assemble(("\u2588" * full + "\u2591" * (bar - full), style), f" {fill:4.0%}")
