"""Shows on stderr how far long work is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from crdtbucket.cli.screen import redraws

_QUIET_SECONDS = 10.0


class Advance(Protocol):
    """Receives the progress of the work."""

    def __call__(self, done: float, what: str = "") -> None:
        """`done` of the total is done; `what` is at work now."""


@contextmanager
def progress(what: str, total: float = 1.0) -> Iterator[Advance]:
    """A bar in a terminal; elsewhere a plain line now and then, none for short work."""
    console = Console(stderr=True)
    if not redraws(console):
        yield _Lines(console, what, total)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, now="": bar.update(task, completed=done, description=now or what)


class _Lines:
    def __init__(self, console: Console, what: str, total: float) -> None:
        self._console, self._what, self._total = console, what, total
        self._printed = time.monotonic()

    def __call__(self, done: float, what: str = "") -> None:
        now = time.monotonic()
        if now - self._printed >= _QUIET_SECONDS:
            self._printed = now
            text = f"{done / self._total:.0%} done ({what or self._what})"
            print(text, file=self._console.file, flush=True)
