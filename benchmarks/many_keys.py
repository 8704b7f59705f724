"""What does one decision cost when it is about any of many keys?"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from benchmarks.measure import Case, Comparison, Scale, each_key
from benchmarks.peers import ALLOWED, AWAITING, PEERS, Awaiting, attempt, installed, ours

QUESTION = "what does one `take` cost when the keys are many, and come in random order?"
OURS = "crdtbucket"
FEWER = 4
"""Other limiters make so many times fewer calls."""
MOST_FOR_PEERS = 1_000_000
TOO_MANY = "not asked: filling it takes minutes, and several GB"


def many_keys(scale: Scale, count: int, calls: int) -> Comparison:
    """Calls on random keys out of so many, all of which are held."""
    keys = [f"user:{i}" for i in range(count)]
    counts: defaultdict[str, int] = defaultdict(int)
    take = ours(ALLOWED, count)
    for key in keys:
        counts[key] += 1
        take(key)
    some = random.Random(1).choices(keys, k=calls)
    cases = [
        Case("dict[key] += 1, no limit", each_key("counts[key] += 1", some, counts=counts)),
        Case(OURS, each_key("take(key)", some, take=take)),
    ]
    if count <= MOST_FOR_PEERS:
        others, missing = _others(keys, some[: max(1, calls // FEWER)])
        cases += others
    else:
        missing = [(name, TOO_MANY) for name in (*PEERS, AWAITING)]
    repeats, title = min(5, scale.repeats), f"{count:,} keys"
    return Comparison(title, ("ns a take",), cases, missing, repeats=repeats, versus=OURS, at=count)


def _others(keys: list[str], asked: list[str]) -> tuple[list[Case], list[tuple[str, str]]]:
    peers, missing = installed(ALLOWED, len(keys))
    cases = []
    for name, take in peers.items():
        for key in keys:
            take(key)
        cases.append(Case(name, each_key("take(key)", asked, take=take), peer=True))
    waiting = attempt(partial(Awaiting, ALLOWED))
    if isinstance(waiting, str):
        return cases, [*missing, (AWAITING, waiting)]
    waiting.case(keys).run()
    return [*cases, waiting.case(asked)], missing


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields calls with 100,000, a million and ten million keys."""
    calls = scale.pick(200_000, 100_000, 500)
    counts = {"full": (100_000, 1_000_000, 10_000_000), "quick": (100_000,), "smoke": (200, 400)}
    for count in counts[scale.name]:
        yield many_keys(scale, count, calls)
