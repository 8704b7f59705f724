"""What does one decision cost, and what does it cost with other limiters?"""

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
    spec,
)
from crdtbucket.testing import SimulatedMesh

QUESTION = "what does one `take` of a hot key cost?"
OURS = "crdtbucket"
SLOWER = 20
"""Other limiters make so many times fewer calls: they take that much longer, and need no more."""
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


def _beside(others: int, *, silent: bool) -> Take:
    """A node's takes of a key that others took from before they died: all under one name, or
    silently and each under its own, so that each of them is still predicted."""
    names = [f"other-{i}" for i in range(others if silent else 1)]
    mesh = SimulatedMesh(["this", *names], [spec(ALLOWED)], down=names)
    mesh["this"].take("bench", KEY, PLENTY // 4)  # owed all the while, so that nobody evicts it
    for i in range(others):
        name = names[i % len(names)]
        mesh.restart(name)
        for _ in range(4):
            mesh.advance(0.1)
            mesh[name].take("bench", KEY, 1000)
        mesh.advance(0.3)
        if silent:
            mesh.suspend(name, 1e6)
    mesh.advance(2.0)
    bucket = mesh["this"].bucket("bench")
    if len(bucket.columns(KEY)) != others + 1 or (bucket.credit(KEY) > 0) != (
        silent and others > 0
    ):
        raise AssertionError("the others are not as the benchmark says")
    return bucket.take


def gone(scale: Scale) -> Comparison:
    """Takes of a key that has columns of nodes which are gone."""
    calls = scale.pick(100_000, 50_000, 2_000)
    many = scale.pick(100, 100, 5)  # each of them lives for a while first
    others = {
        OURS: (0, False),
        f"{many} dead lives of a peer": (many, False),
        "one silent peer": (1, True),
        "10 silent peers": (10, True),
        f"{many} silent peers": (many, True),
    }
    cases = [
        Case(name, one_key("take(key)", calls, take=_beside(number, silent=silent), key=KEY))
        for name, (number, silent) in others.items()
    ]
    return Comparison("a key of nodes that are gone", ("ns a take",), cases)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields takes that are allowed, denied, and of keys with columns of nodes that are gone."""
    yield hot_key(scale, ALLOWED, "one hot key, allowed")
    yield hot_key(scale, DENIED, "one hot key, denied")
    yield gone(scale)
