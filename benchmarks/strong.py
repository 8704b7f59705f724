"""What does a decision of a shared Redis cost, and how many can one process get?"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from benchmarks import shared
from benchmarks.environment import place
from benchmarks.measure import Case, Comparison, Scale
from benchmarks.peers import attempt, is_allowed, parted
from benchmarks.regions import by_regions
from benchmarks.shared import CALLERS, Ask
from benchmarks.strong_threads import by_threads
from crdtbucket.strong.redis import script
from tests.strong.redis_server import PROGRAMS, Server

QUESTION = "what does a decision of a shared Redis cost, and how many can one process get?"
KEYS = [f"user:{i}" for i in range(1_000)]
BATCH = 100
NOTE = "wall time, but where it says CPU; server and callers on a core each where there are two"
Run = Callable[[], tuple[float, ...]]


async def timed(ask: Ask, keys: list[str], spent: list[int]) -> None:
    """Asks for each key, one after the other; ns of each."""
    clock = time.perf_counter_ns
    for key in keys:
        start = clock()
        answer = await ask(key)
        spent.append(clock() - start)
        if not is_allowed(answer):
            raise AssertionError(f"{ask} denied {key}: {answer}")


def quantile(spent: list[int], share: float) -> float:
    """A quantile by the nearest rank."""
    return float(sorted(spent)[max(0, math.ceil(len(spent) * share) - 1)])


async def alone(ask: Ask, keys: list[str]) -> tuple[float, ...]:
    """One caller: the median time of a decision, and the time within which 99 of 100 are made."""
    spent: list[int] = []
    await timed(ask, keys[: len(keys) // 10], [])
    await timed(ask, keys, spent)
    return quantile(spent, 0.5) / 1e3, quantile(spent, 0.99) / 1e3


async def together(ask: Ask, keys: list[str]) -> tuple[float, ...]:
    """As many callers as are allowed: the decisions a second, and the CPU time of this process for
    each."""
    spent: list[int] = []
    await asyncio.gather(*(timed(ask, keys[i : i + 3], []) for i in range(CALLERS)))
    parts = [keys[i::CALLERS] for i in range(CALLERS)]
    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(timed(ask, part, spent) for part in parts))
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - start
    return len(spent) / seconds, quantile(spent, 0.99) / 1e6, cpu / len(spent) * 1e6


async def batches(
    many: Callable[[list[str]], Coroutine[Any, Any, None]], keys: list[str]
) -> tuple[float, ...]:
    """Us for a decision when a batch is asked for at a time."""
    await many(keys[:BATCH])
    start = time.perf_counter_ns()
    for first in range(0, len(keys), BATCH):
        await many(keys[first : first + BATCH])
    return ((time.perf_counter_ns() - start) / len(keys) / 1e3,)


class Bench:
    """One server, and one event loop on which all that is compared is open at once."""

    def __init__(self, url: str, loop: asyncio.AbstractEventLoop, stack: AsyncExitStack) -> None:
        self.url, self.loop, self.stack = url, loop, stack

    def open(self, context: Any) -> Any:
        """Opens what is measured; it is closed at the end."""
        return self.loop.run_until_complete(self.stack.enter_async_context(context))

    def opened(self, make: Callable[[str], shared.Opened]) -> Ask:
        """A limiter of the server."""
        ask: Ask = self.open(make(self.url))
        return ask

    def run(self, work: Callable[[], Coroutine[Any, Any, tuple[float, ...]]]) -> Run:
        """A measurement for a case; garbage is collected before it and not in it."""

        def once() -> tuple[float, ...]:
            gc.collect()
            gc.disable()
            try:
                return self.loop.run_until_complete(work())
            finally:
                gc.enable()

        return once

    def asks(self) -> tuple[dict[str, Ask], list[tuple[str, str]]]:
        """The baseline, this library, and the peers that are installed; the others, and why not."""
        asks = {
            "EVALSHA by redis-py": self.open(shared.evalsha(self.url)),
            "crdtbucket": self.open(shared.ours(self.url)),
        }
        made: dict[str, Ask | str] = {
            name: attempt(partial(self.opened, make)) for name, make in shared.PEERS.items()
        }
        peers, missing = parted(made)
        return {**asks, **peers}, missing


def by_callers(bench: Bench, scale: Scale) -> Iterator[Comparison]:
    """Yields one caller, and many at once."""
    asks, missing = bench.asks()
    for title, units, work, calls in (
        ("one caller", ("µs, median", "µs, p99"), alone, scale.pick(5_000, 1_000, 40)),
        (
            f"{CALLERS} callers in one process",
            ("decisions a second", "ms, p99", "µs of CPU each"),
            together,
            scale.pick(20_000, 10_000, 256),
        ),
    ):
        keys = random.Random(1).choices(KEYS, k=calls)
        cases = [
            Case(name, bench.run(partial(work, ask, keys)), peer=name in shared.PEERS)
            for name, ask in asks.items()
        ]
        yield Comparison(title, units, cases, missing, note=NOTE, versus="crdtbucket")


def by_batch(bench: Bench, scale: Scale) -> Comparison:
    """Many keys in one call."""
    client, bucket = bench.open(shared.client(bench.url)), bench.open(shared.our_bucket(bench.url))
    keys = random.Random(1).choices(KEYS, k=scale.pick(20_000, 5_000, 200))

    async def pipeline(some: list[str]) -> None:
        pipe = client.pipeline(transaction=False)
        for key in some:
            pipe.evalsha(script.SHA, *shared.arguments(key))
        answers = await pipe.execute()
        if not all(answer[0] == script.ScriptStatus.ALLOWED for answer in answers):
            raise AssertionError("not all were allowed")

    async def acquire_many(some: list[str]) -> None:
        answers = await bucket.acquire_many(some)
        if not all(answers.allowed):
            raise AssertionError("not all were allowed")

    async def gathered(some: list[str]) -> None:
        await asyncio.gather(*map(bucket.acquire, some))

    ways = {
        "EVALSHA in a pipeline by redis-py": pipeline,
        "crdtbucket, acquire_many": acquire_many,
        "crdtbucket, acquire gathered": gathered,
    }
    cases = [Case(name, bench.run(partial(batches, many, keys))) for name, many in ways.items()]
    return Comparison(f"{BATCH} keys in one call", ("µs a decision",), cases, note=NOTE)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields one caller, many callers, many keys in one call, threads, and regions; nothing without
    a server."""
    if not PROGRAMS:
        reason = "no redis-server is installed: make redis"
        yield Comparison("all of it", ("us",), [], [("skipped", reason)])
        return
    loop = asyncio.new_event_loop()
    with Server(program=PROGRAMS[0]) as server:
        assert server.process is not None
        place(server.process.pid, beside=True)
        stack = AsyncExitStack()
        try:
            bench = Bench(server.url, loop, stack)
            yield from by_callers(bench, scale)
            yield by_batch(bench, scale)
            yield from by_threads(server, scale)
            yield from by_regions(server, scale)
        finally:
            loop.run_until_complete(stack.aclose())
            loop.close()
