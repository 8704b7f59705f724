"""What a benchmark is made of: cases that are compared, measured in turns.

A case's `run` measures once and returns one value for each unit of its comparison. The cases take
turns, so that a slow spell of the machine affects all of them; reported are the median, the least
and the most of the repeats. When another limiter fails, that is reported, and the others go on
without it.
"""

from __future__ import annotations

import asyncio
import gc
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

UNROLLED = 20


@dataclass(frozen=True)
class Scale:
    """How much is measured: `pick` chooses by the size of the run."""

    name: str
    repeats: int

    def pick(self, full: int, quick: int, smoke: int) -> int:
        """The count for a run of this size."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.name]


SCALES = {"full": Scale("full", 9), "quick": Scale("quick", 5), "smoke": Scale("smoke", 1)}


@dataclass(frozen=True)
class Case:
    """One row: what is measured, and how to measure it once.

    at: where the row stands on the axis of a curve, such as the number of keys. peer: it is not
    this project's, so that its failure is a result and no fault of the benchmark.
    """

    label: str
    run: Callable[[], tuple[float, ...]]
    at: float | None = None
    peer: bool = False


@dataclass
class Comparison:
    """Cases that answer one question together; the first is the baseline of the ratios.

    units: what each value of a case is, such as "ns a take". missing: rows that cannot be measured
    here, and why. note: what a reader must know to read the numbers. repeats: as the scale says
    unless given; 1 for what is the same every time. versus: label of a second row to divide by.
    ratios: whether dividing by the baseline means anything. at: as of a case, for all rows.
    """

    title: str
    units: tuple[str, ...]
    cases: list[Case]
    missing: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""
    repeats: int | None = None
    versus: str | None = None
    ratios: bool = True
    at: float | None = None


@dataclass(frozen=True)
class Row:
    """The values of one case over the repeats, for each unit."""

    label: str
    values: tuple[tuple[float, ...], ...]
    at: float | None = None

    @property
    def medians(self) -> tuple[float, ...]:
        """The median of each unit."""
        return tuple(median(column) for column in self.values)


def failure(error: Exception) -> str:
    """Why a peer failed, on one line."""
    return " ".join(f"failed: {type(error).__name__}: {error}".split())


def _once(case: Case) -> tuple[float, ...] | str:
    """What was measured, or why the peer failed."""
    try:
        return case.run()
    except Exception as error:
        if not case.peer:
            raise
        return failure(error)


def measure(comparison: Comparison, scale: Scale) -> tuple[list[Row], list[tuple[str, str]]]:
    """Measures every case in turns, `repeats` times. Returns the rows, and the peers that failed
    with the reason."""
    failed: dict[str, str] = {}
    seen: list[list[tuple[float, ...]]] = [[] for _ in comparison.cases]
    for _ in range(comparison.repeats or scale.repeats):
        for case, results in zip(comparison.cases, seen, strict=True):
            if case.label in failed:
                continue
            values = _once(case)
            if isinstance(values, str):
                failed[case.label] = values
            elif len(values) != len(comparison.units):
                raise ValueError(f"{case.label}: {len(values)} values for {comparison.units}")
            else:
                results.append(values)
    rows = [
        Row(case.label, tuple(zip(*results, strict=True)), case.at)
        for case, results in zip(comparison.cases, seen, strict=True)
        if case.label not in failed
    ]
    return rows, list(failed.items())


def one_key(statement: str, calls: int, **names: Any) -> Callable[[], tuple[float, ...]]:
    """Measures the ns of CPU time that one execution of `statement` takes, in an unrolled loop.

    A tenth as many calls come first, to warm up, and are not counted. Garbage collection is off.
    """
    loops = max(1, calls // UNROLLED)
    timer = timeit.Timer("\n".join([statement] * UNROLLED), timer=time.process_time, globals=names)

    def run() -> tuple[float, ...]:
        timer.timeit(max(1, loops // 10))
        return (timer.timeit(loops) / (loops * UNROLLED) * 1e9,)

    return run


def each_key(
    statement: str, keys: Sequence[Any], weight: float = 1, **names: Any
) -> Callable[[], tuple[float, ...]]:
    """Measures the ns of CPU time that `statement` takes for one `key` of `keys`, the loop
    included.

    weight: the mean number of keys in one item of `keys`, when each item is a list of them.
    """
    timer = timeit.Timer(
        f"for key in keys: {statement}", timer=time.process_time, globals={**names, "keys": keys}
    )
    return lambda: (timer.timeit(1) / (len(keys) * weight) * 1e9,)


def awaited(
    take: Callable[[Any], Awaitable[Any]], keys: Sequence[Any], loop: asyncio.AbstractEventLoop
) -> Callable[[], tuple[float, ...]]:
    """Measures the ns of CPU time for one `await take(key)` in a running task, the loop over `keys`
    included."""

    async def each() -> tuple[float, ...]:
        start = time.process_time_ns()
        for key in keys:
            await take(key)
        return ((time.process_time_ns() - start) / len(keys),)

    return lambda: loop.run_until_complete(each())


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Yields a function for the ns of CPU time of this process since the block began. Garbage
    collection is off in the block."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    start = time.process_time_ns()
    try:
        yield lambda: time.process_time_ns() - start
    finally:
        if enabled:
            gc.enable()


@asynccontextmanager
async def lateness(tick_s: float = 0.001) -> AsyncIterator[list[float]]:
    """Yields a list that grows by how late (s) a task was that wakes each tick."""
    late = [0.0]

    async def tick() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(tick_s)
            now = time.perf_counter()
            late.append(now - before - tick_s)
            before = now

    ticking = asyncio.create_task(tick())
    try:
        await asyncio.sleep(20 * tick_s)
        late[1:] = []
        yield late
    finally:
        ticking.cancel()


def copied(parts: Sequence[bytes]) -> float:
    """Ns to copy all parts into one piece of memory: nothing that reads or writes them is
    faster."""
    room = bytearray(sum(map(len, parts)))
    with stopwatch() as elapsed:
        at = 0
        for part in parts:
            room[at : at + len(part)] = part
            at += len(part)
        return elapsed()
