"""What does one decision cost, and what do others pay for it?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Case, Comparison, Scale, one_key
from benchmarks.peers import (
    ALLOWED,
    AWAITING,
    DENIED,
    PLENTY,
    Awaiting,
    Limit,
    Take,
    attempt,
    installed,
    is_allowed,
    ours,
)

QUESTION = "what does one `take` of a hot key cost?"
OURS = "crdtbucket"
SLOWER = 20
"""Peers make so many times fewer calls: they take that much longer, and need no more."""
KEY = "tenant-42"


def _check(name: str, take: Take, limit: Limit) -> None:
    first, then = is_allowed(take(KEY)), is_allowed(take(KEY))
    if (first, then) != (True, limit.capacity == PLENTY):
        raise AssertionError(f"{name} does not decide as the benchmark says: {first}, {then}")


def hot_key(scale: Scale, limit: Limit, title: str) -> Comparison:
    """All calls take from the same key."""
    calls = scale.pick(400_000, 200_000, 2_000)
    peers, missing = installed(limit, 1000)
    counts, take = {KEY: 0}, ours(limit, 1000)
    _check(OURS, take, limit)
    cases = [
        Case(
            "dict[key] += 1, no limit", one_key("counts[key] += 1", calls, counts=counts, key=KEY)
        ),
        Case(OURS, one_key("take(key)", calls, take=take, key=KEY)),
    ]
    for name, take in peers.items():
        _check(name, take, limit)
        run = one_key("take(key)", calls // SLOWER, take=take, key=KEY)
        cases.append(Case(name, run, peer=True))
    if limit is DENIED:
        missing.append((AWAITING, "it waits, and does not deny"))
    else:
        waiting = attempt(partial(Awaiting, limit))
        if isinstance(waiting, str):
            missing.append((AWAITING, waiting))
        else:
            cases.append(waiting.case([KEY] * (calls // SLOWER)))
    return Comparison(title, ("ns a take",), cases, missing, versus=OURS)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Allowed and denied."""
    yield hot_key(scale, ALLOWED, "one hot key, allowed")
    yield hot_key(scale, DENIED, "one hot key, denied")
