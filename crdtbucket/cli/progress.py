"""How far long work has come, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_QUIET_SECONDS = 10.0


class Done(Protocol):
    """Told of each piece of work that ended."""

    def __call__(self, what: str) -> None:
        """`what` ended."""


@contextmanager
def progress(total: int) -> Iterator[Done]:
    """A bar in a terminal; elsewhere a plain line now and then, none for short work."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("simulating", total=total)
            yield lambda what: bar.update(task, advance=1, description=what)
    else:
        yield _Lines(console, total)


class _Lines:
    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._count, self._then = 0, time.monotonic()

    def __call__(self, what: str) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._then >= _QUIET_SECONDS:
            self._then = now
            text = f"{self._count} of {self._total} runs done ({what})"
            print(text, file=self._console.file, flush=True)
