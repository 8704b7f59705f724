"""What does a decision cost when many are asked for in one call?"""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.measure import Case, Comparison, Scale, each_key
from benchmarks.peers import PLENTY
from crdtbucket import BucketSpec, Limiter

QUESTION = "what does one take of a `take_many` cost?"


def _comparison(scale: Scale, title: str, keys: list[str], sizes: tuple[int, ...]) -> Comparison:
    """`take` in a loop, and `take_many` of `sizes` keys a call, over the same keys."""
    spec = BucketSpec("bench", PLENTY, 1_000_000)
    bucket = Limiter([spec], max_keys=max(1000, len(keys))).bucket("bench")
    bucket.take_many(keys)
    turns = max(1, scale.pick(400_000, 200_000, 400) // len(keys))
    cases = [Case("take in a loop", each_key("take(key)", keys * turns, take=bucket.take))]
    for size in sizes:
        calls = [keys[i : i + size] for i in range(0, len(keys) - size + 1, size)] * turns
        if size == sizes[-1]:
            each = each_key("tuple(key)", calls, weight=size)
            cases.append(Case(f"floor: a tuple of {size:,} made", each))
        run = each_key("many(key)", calls, weight=size, many=bucket.take_many)
        cases.append(Case(f"take_many of {size:,}", run))
    return Comparison(title, ("ns a take",), cases)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields one hot key, a thousand keys, and 100,000."""
    sizes = (16, 100) if scale.name == "smoke" else (16, 64, 1000)
    yield _comparison(scale, "one hot key", ["tenant-42"] * 1000, sizes)
    for count in (1_000, scale.pick(100_000, 100_000, 2_000)):
        keys = [f"user:{i}" for i in range(count)]
        random.Random(1).shuffle(keys)
        yield _comparison(scale, f"{count:,} keys in random order", keys, sizes)
