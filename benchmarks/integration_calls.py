"""What the benchmarks of integrations share: a bucket from which every call takes, and timed
coroutines."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.peers import PLENTY
from benchmarks.surfaces import Loop, Run
from crdtbucket import Bucket, BucketSpec, Limiter

NAME = "bench"
Call = Callable[[Any], Awaitable[object]]


def limiter() -> Limiter:
    """A limiter with the bucket from which every call takes."""
    return Limiter([BucketSpec(NAME, PLENTY, 1_000_000)])


def bucket() -> Bucket:
    """The bucket of a limiter of its own."""
    return limiter().bucket(NAME)


async def spent(call: Call, items: list[Any], calls: int) -> float:
    """Does as `timed`, for a coroutine function."""
    for n in range(calls // 10):
        await call(items[n % len(items)])
    start = time.process_time_ns()
    for n in range(calls):
        await call(items[n % len(items)])
    return (time.process_time_ns() - start) / calls / 1e3


def awaited(loop: Loop, call: Call, items: list[Any]) -> Run:
    """Does as `spent`, in one task of a loop."""
    return lambda calls: loop.run_until_complete(spent(call, items, calls))
