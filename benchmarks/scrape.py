"""What does a scrape cost, and what does the event loop notice of it?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.measure import Case, Comparison, Scale, lateness
from crdtbucket import BucketSpec, Limiter
from crdtbucket.metrics.collector import register

QUESTION = "what does a scrape cost, and how long does the event loop stand still?"
SPEC = BucketSpec("api", 1_000, 1, "1h")


def _registry(keys: int) -> CollectorRegistry:
    """A registry that shows a limiter with so many keys in debt."""
    limiter = Limiter([SPEC], max_keys=max(16, keys))
    for first in range(0, keys, 10_000):
        names = [f"key {number}" for number in range(first, min(keys, first + 10_000))]
        limiter.bucket("api").take_many(names, 10)
    registry = CollectorRegistry()
    register(limiter, registry)
    return registry


async def _longest_stall(work: Callable[[], object], threaded: bool) -> tuple[float, float]:
    """(ms that the work took, ms that a task which wakes each ms was late at most.)"""
    async with lateness() as late:
        start = time.perf_counter()
        if threaded:
            await asyncio.to_thread(work)
        else:
            work()
        took = time.perf_counter() - start
        await asyncio.sleep(0.005)
        return took * 1e3, max(late) * 1e3


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields scrapes of few keys and of many, in the event loop and in a thread."""
    keys = scale.pick(1_000_000, 200_000, 20_000)
    few, many = _registry(1_000), _registry(keys)

    def case(label: str, registry: CollectorRegistry, threaded: bool) -> Case:
        return Case(
            label,
            lambda: asyncio.run(_longest_stall(lambda: generate_latest(registry), threaded)),
        )

    yield Comparison(
        "one scrape of a limiter with a bucket",
        ("ms a scrape", "ms that the event loop was late at most"),
        [
            case("1,000 keys, on the event loop", few, False),
            case(f"{keys:,} keys, on the event loop", many, False),
            case(f"{keys:,} keys, in a thread", many, True),
        ],
        note="wall time; a sleep of 1 ms is late by some 0.1 ms without any scrape",
    )
