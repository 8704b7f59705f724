"""What does one decision cost, and what do others pay for it?"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

from benchmarks.measure import Case, Comparison, Scale, each_key, one_key
from benchmarks.peers import ALLOWED, DENIED, PLENTY, Limit, Take, installed, is_allowed, ours

QUESTION = "what does one `take` cost, on one hot key and on many?"
OURS = "crdtbucket"
SLOWER = 20
"""Peers make so many times fewer calls: they take that much longer, and need no more."""


def _takes(limit: Limit, max_keys: int = 1000) -> tuple[dict[str, Take], list[tuple[str, str]]]:
    takes, missing = installed(limit, max_keys)
    return {OURS: ours(limit, max_keys), **takes}, missing


def hot_key(scale: Scale, limit: Limit, title: str) -> Comparison:
    """All calls take from the same key."""
    calls = scale.pick(400_000, 200_000, 2_000)
    takes, missing = _takes(limit)
    key, counts = "tenant-42", {"tenant-42": 0}
    cases = [
        Case("dict[key] += 1, no limit", one_key("counts[key] += 1", calls, counts=counts, key=key))
    ]
    for name, take in takes.items():
        first, then = is_allowed(take(key)), is_allowed(take(key))
        if (first, then) != (True, limit.capacity == PLENTY):
            raise AssertionError(f"{name} does not decide as the benchmark says: {first}, {then}")
        count = calls if name == OURS else calls // SLOWER
        cases.append(Case(name, one_key("take(key)", count, take=take, key=key)))
    return Comparison(title, ("ns a take",), cases, missing, versus=OURS)


def many_keys(scale: Scale, count: int, calls: int) -> Comparison:
    """The calls go to keys that are all held, in random order."""
    keys = [f"user:{i}" for i in range(count)]
    takes, missing = _takes(ALLOWED, count)
    counts: defaultdict[str, int] = defaultdict(int)
    for key in keys:
        counts[key] += 1
    shuffle = random.Random(1)
    some = shuffle.choices(keys, k=calls)
    fewer = some[: max(1, calls // 4)]
    cases = [Case("dict[key] += 1, no limit", each_key("counts[key] += 1", some, counts=counts))]
    for name, take in takes.items():
        for key in keys:
            take(key)
        asked = some if name == OURS else fewer
        cases.append(Case(name, each_key("take(key)", asked, take=take)))
    title = f"{count:,} keys in random order"
    repeats = min(5, scale.repeats)
    return Comparison(title, ("ns a take",), cases, missing, repeats=repeats, versus=OURS)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """One hot key allowed and denied, 100,000 and 1,000,000 keys."""
    yield hot_key(scale, ALLOWED, "one hot key, allowed")
    yield hot_key(scale, DENIED, "one hot key, denied")
    calls = scale.pick(200_000, 100_000, 500)
    yield many_keys(scale, scale.pick(100_000, 100_000, 200), calls)
    if scale.name != "quick":
        yield many_keys(scale, scale.pick(1_000_000, 0, 400), calls)
