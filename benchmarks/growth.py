"""How does the cost of each operation grow with the number of keys?"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator

from benchmarks.measure import Case, Comparison, Scale, each_key
from benchmarks.merge import Exchange
from benchmarks.peers import ALLOWED, spec
from crdtbucket import Limiter

QUESTION = "how does the cost of an operation grow from a thousand keys to ten millions?"
BATCH = 1_000
REGIONS = 2


def takes(count: int, calls: int) -> Callable[[], tuple[float, ...]]:
    """Measures a dictionary, `take` and `take_many` on random keys out of so many, and the bytes of
    a key."""
    keys = [f"user:{i}" for i in range(count)]
    limiter = Limiter([spec(ALLOWED)], max_keys=max(1000, count))
    bucket = limiter.bucket("bench")
    counts: defaultdict[str, int] = defaultdict(int)
    for first in range(0, count, BATCH):
        bucket.take_many(keys[first : first + BATCH])
    for key in keys:
        counts[key] += 1
    some = random.Random(1).choices(keys, k=calls)
    batches = [some[i : i + BATCH] for i in range(0, calls, BATCH)]
    runs = (
        each_key("counts[key] += 1", some, counts=counts),
        each_key("take(key)", some, take=bucket.take),
        each_key("many(key)", batches, weight=calls / len(batches), many=bucket.take_many),
    )
    size = limiter.stats()["table"]["bytes"] / count
    return lambda: (*(run()[0] for run in runs), size)


def merges(count: int, asked: int) -> Callable[[], tuple[float, ...]]:
    """Measures merges of entries of random keys out of so many, each with one column that rises."""
    mesh = Exchange([f"user:{i}" for i in range(count)], min(asked, count), REGIONS)
    # A small table is merged several times over, so that as many entries are timed.
    turns = max(1, min(20, asked // count))
    return lambda: (sum(mesh.merge(mesh.changed()) for _ in range(turns)) / turns,)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Takes, then merges."""
    counts = {
        "full": (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
        "quick": (1_000, 10_000, 100_000),
        "smoke": (1_000, 2_000),
    }[scale.name]
    calls, repeats = scale.pick(200_000, 100_000, 1_000), min(5, scale.repeats)
    yield Comparison(
        "takes of random keys",
        ("ns a dict[key] += 1", "ns a take", f"ns a take of take_many({BATCH:,})", "bytes a key"),
        [Case(f"{count:,} keys", takes(count, calls), at=count) for count in counts],
        note="the baseline is the first row. A dictionary of Python's grows dearer, too: what "
        "does not fit in the caches is fetched from memory",
        repeats=repeats,
    )
    yield Comparison(
        f"merged entries of random keys, {REGIONS} regions",
        ("ns an entry",),
        [Case(f"{count:,} keys", merges(count, calls), at=count) for count in counts],
        note="the whole call, parsing included",
        repeats=repeats,
    )
