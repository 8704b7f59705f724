"""What the benchmarks of integrations share: a bucket from which every call takes, and timed
coroutines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.peers import PLENTY
from benchmarks.surfaces import Loop, Run, spent
from crdtbucket import Bucket, BucketSpec, Limiter

NAME = "bench"


def limiter() -> Limiter:
    """A limiter with the bucket from which every call takes."""
    return Limiter([BucketSpec(NAME, PLENTY, 1_000_000)])


def bucket() -> Bucket:
    """The bucket of a limiter of its own."""
    return limiter().bucket(NAME)


def awaited(loop: Loop, call: Callable[[Any], Awaitable[object]], items: list[Any]) -> Run:
    """Does as `spent`, in one task of a loop."""
    return lambda calls: loop.run_until_complete(spent(call, items, calls))
