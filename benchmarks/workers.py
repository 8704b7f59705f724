"""What does one limit for all worker processes of a host cost, and is it really one limit?"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.environment import CORES
from benchmarks.measure import Case, Comparison, Scale, failure
from benchmarks.peers import ALLOWED, Limit
from benchmarks.ways import OURS_SHARED, WAYS, Place, Way, has_shared
from tests.strong.redis_server import PROGRAMS, Server

QUESTION = "what do the worker processes of a host pay for one limit, and is it one?"
FEW = Limit(200, 0)
TRIES = 200
CHUNK = 20
"""Takes between two looks at the clock."""
BOUND = 60.0
"""Seconds within which all processes must be ready, else the run fails."""


@dataclass(frozen=True)
class Task:
    """The work of each process: so many takes, or as many as it can make in so many seconds."""

    way: Way
    limit: Limit
    tries: int = 0
    seconds: float = 0.0


def _work(take: Callable[[], Any], task: Task) -> tuple[int, float]:
    """(How many takes were admitted, how many seconds it took.)"""
    clock, passed = time.perf_counter, 0
    start = clock()
    if task.tries:
        passed = sum(bool(take()) for _ in range(task.tries))
        return passed, clock() - start
    end, now, tried = start + task.seconds, start, 0
    while now < end:
        for _ in repeat(None, CHUNK):
            if take():
                passed += 1
        tried += CHUNK
        now = clock()
    if passed < tried and not task.way.peer:
        raise AssertionError(f"{tried - passed} of {tried} were denied")
    return passed, now - start


def worker(cores: set[int], task: Task, given: Any, ready: Any, answer: Connection) -> None:
    """One process: joins, waits for the others, works."""
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        take = task.way.join(given, task.limit)
        ready.wait(BOUND)
        answer.send(_work(take, task))
    except Exception as error:  # noqa: BLE001 - the parent raises it
        ready.abort()
        answer.send(failure(error))


def together(task: Task, processes: int, server: Server | None) -> list[tuple[int, float]]:
    """What each of so many processes was admitted, and its seconds."""
    # Forkserver: processes begin quickly, and without the threads of this one.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.workers"])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if server is not None:
            server.call("FLUSHALL")
        place = Place(folder, context, server.url if server else "", stack)
        given, ready = task.way.prepare(place), context.Barrier(processes)
        running = []
        for number in range(processes):
            mine, theirs = context.Pipe(duplex=False)
            # The cores as this process knows them: the server that forks is pinned to one.
            cores = {CORES[number % len(CORES)]} if CORES else set()
            process = context.Process(target=worker, args=(cores, task, given, ready, theirs))
            process.start()
            theirs.close()
            running.append((process, mine))
        answers = [_answer(mine) for _, mine in running]
        for process, _ in running:
            process.join()
    failed = [answer for answer in answers if isinstance(answer, str)]
    if failed:
        raise RuntimeError(
            next((text for text in failed if "BrokenBarrier" not in text), failed[0])
        )
    return [answer for answer in answers if not isinstance(answer, str)]


def _answer(mine: Connection) -> tuple[int, float] | str:
    with mine:
        try:
            answer: tuple[int, float] | str = mine.recv()
        except EOFError:
            answer = "failed: the process ended without an answer"
    return answer


def speed(way: Way, counts: list[int], seconds: float, server: Server | None) -> tuple[float, ...]:
    """Takes a second that all processes together were admitted, for each number of processes."""
    task = Task(way, ALLOWED, seconds=seconds)
    return tuple(
        sum(passed / spent for passed, spent in together(task, count, server)) for count in counts
    )


def admitted(way: Way, counts: list[int], server: Server | None) -> tuple[float, ...]:
    """How many tokens of a limit of 200 all processes together got, for each number of
    processes."""
    task = Task(way, FEW, tries=TRIES)
    return tuple(
        float(sum(passed for passed, _ in together(task, count, server))) for count in counts
    )


def _rows(
    run: Callable[[Way], tuple[float, ...]], server: Server | None
) -> tuple[list[Case], list[tuple[str, str]]]:
    cases, missing = [], []
    for name, way in WAYS.items():
        if name == OURS_SHARED and not has_shared():
            missing.append((name, "this version has none"))
        elif name.endswith("Redis") and server is None:
            missing.append((name, "no redis-server is installed: make redis"))
        else:
            cases.append(Case(name, partial(run, way), peer=way.peer))
    return cases, missing


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields processes that take as fast as they can, and a limit that is too small for all of
    them."""
    counts = [2] if scale.name == "smoke" else [1, 2, 4]
    seconds = scale.pick(1000, 200, 10) / 1000
    units = tuple(f"{count} process{'es' * (count > 1)}" for count in counts)
    with ExitStack() as stack:
        server = stack.enter_context(Server(program=PROGRAMS[0])) if PROGRAMS else None
        if server is not None and server.process is not None and CORES:
            os.sched_setaffinity(server.process.pid, CORES)
        yield Comparison(
            "admitted takes a second of all processes, one key",
            units,
            *_rows(lambda way: speed(way, counts, seconds, server), server),
            note="wall time; processes on a core each as far as there are; the first row shares "
            "nothing, so that each process has the whole limit",
            repeats=scale.pick(5, 2, 1),
        )
        yield Comparison(
            f"admitted of a limit of {FEW.capacity} a day, {TRIES} tries in each process",
            units,
            *_rows(lambda way: admitted(way, counts, server), server),
            note=f"right: {FEW.capacity}. None of the calls waits",
            repeats=scale.pick(3, 1, 1),
            ratios=False,
        )
