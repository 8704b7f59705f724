"""What a benchmark is made of: cases that are compared, measured in turns.

A case's `run` measures once and returns one value for each unit of its comparison. The cases take
turns, so that a slow spell of the machine falls on all of them; what is told is the median and the
least and most of the repeats.
"""

from __future__ import annotations

import gc
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

UNROLLED = 20


@dataclass(frozen=True)
class Scale:
    """How much is measured: `pick` chooses by the size of the pass."""

    name: str
    repeats: int

    def pick(self, full: int, quick: int, smoke: int) -> int:
        """The count for this pass."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.name]


SCALES = {"full": Scale("full", 9), "quick": Scale("quick", 5), "smoke": Scale("smoke", 2)}


@dataclass(frozen=True)
class Case:
    """One row: what is measured, and how to measure it once."""

    label: str
    run: Callable[[], tuple[float, ...]]


@dataclass
class Comparison:
    """Cases that answer one question together; the first is the baseline of the ratios.

    units: what each value of a case is, such as "ns a take". missing: rows that cannot be measured
    here, and why. note: what a reader must know to read the numbers. repeats: as the scale says
    unless given; 1 for what is the same every time. versus: label of a second row to divide by.
    """

    title: str
    units: tuple[str, ...]
    cases: list[Case]
    missing: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""
    repeats: int | None = None
    versus: str | None = None


@dataclass(frozen=True)
class Row:
    """The values of one case over the repeats, for each unit."""

    label: str
    values: tuple[tuple[float, ...], ...]

    @property
    def medians(self) -> tuple[float, ...]:
        """The median of each unit."""
        return tuple(median(column) for column in self.values)


def measure(comparison: Comparison, scale: Scale) -> list[Row]:
    """Every case in turns, `repeats` times."""
    repeats = comparison.repeats or scale.repeats
    seen: list[list[tuple[float, ...]]] = [[] for _ in comparison.cases]
    for _ in range(repeats):
        for case, results in zip(comparison.cases, seen, strict=True):
            values = case.run()
            if len(values) != len(comparison.units):
                raise ValueError(f"{case.label}: {len(values)} values for {comparison.units}")
            results.append(values)
    return [
        Row(case.label, tuple(zip(*results, strict=True)))
        for case, results in zip(comparison.cases, seen, strict=True)
    ]


def one_key(statement: str, calls: int, **names: Any) -> Callable[[], tuple[float, ...]]:
    """Ns of CPU time that one execution of `statement` takes, in an unrolled loop.

    A tenth as many calls come first, to warm up, and are not counted. Garbage collection is off.
    """
    loops = max(1, calls // UNROLLED)
    timer = timeit.Timer("\n".join([statement] * UNROLLED), timer=time.process_time, globals=names)

    def run() -> tuple[float, ...]:
        timer.timeit(max(1, loops // 10))
        return (timer.timeit(loops) / (loops * UNROLLED) * 1e9,)

    return run


def each_key(
    statement: str, keys: Sequence[Any], weight: int = 1, **names: Any
) -> Callable[[], tuple[float, ...]]:
    """Ns of CPU time that `statement` takes for one `key` of `keys`, the loop included.

    weight: how many keys one item of `keys` is, when each is a list of them.
    """
    timer = timeit.Timer(
        f"for key in keys: {statement}", timer=time.process_time, globals={**names, "keys": keys}
    )
    return lambda: (timer.timeit(1) / (len(keys) * weight) * 1e9,)


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Ns of this process's CPU time since the block began; garbage collection is off in it."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    start = time.process_time_ns()
    try:
        yield lambda: time.process_time_ns() - start
    finally:
        if enabled:
            gc.enable()
