"""Short histories about one rule each, on which the script and its model must agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import example

from crdtbucket.spec.bucket_spec import BucketSpec

HOUR_US = 3_600_000_000
PLAIN = (BucketSpec("b", 20, 1, max_debt=20), 3_600_000)
FAST = (BucketSpec("b", 20, 1_000, max_debt=20), 3_600_000)
LATER = ("time", 20_000)
TAKES = [("call", n, n, 3, 0, False) for n in range(3)]
"""A take in each region, by a process of its own."""
OLD_LEVEL = [TAKES[0], LATER, TAKES[0], ("torn", 0, 0, -2, 2), LATER]
SEEN = [TAKES[1], ("copy", 0, 1, -1), LATER, TAKES[0], ("time", 2_000_000)]
EXAMPLES: dict[str, list[Any]] = {
    "each copy is merged again, and once": [
        TAKES[0], ("copy", 1, 0, -1), *[LATER, ("call", 1, 1, 1, 0, False)] * 2,
    ] * 3,
    "a record of the caller that is newer than the level counts as missing": [
        *OLD_LEVEL, TAKES[0],
    ],
    "so does one of another process": [*OLD_LEVEL, ("call", 0, 1, 1, 0, True)],
    "a record of a key that was lost is removed when it has come back": [
        TAKES[0], ("generation", 0), ("flush", 0, False), LATER, ("call", 0, 1, 3, 0, False),
        ("torn", 0, 0, 1, 1), LATER, ("call", 0, 1, 1, 0, True),
    ],
    "a level of the same version and another time is another one": [
        TAKES[1], ("step", 1, -HOUR_US), TAKES[1], ("copy", 0, 1, -1), LATER, TAKES[0],
        ("copy", 1, 1, -2), LATER, ("call", 1, 1, 3, 0, True), ("copy", 0, 1, -1), LATER, TAKES[0],
    ],
    "no level is adopted where the own one was of another definition": [
        ("call", 0, 0, 10, 0, False), ("copy", 1, 0, -1), ("define", 1), LATER, TAKES[1],
        ("time", 200_000), TAKES[1], ("copy", 0, 1, -1), LATER, TAKES[0],
    ],
    "the fence of a newer generation is no lower": [
        ("fence", 0, 1), ("fence", 0, 1), TAKES[0], ("copy", 1, 0, -1), LATER, TAKES[1],
        ("generation", 0), ("fence", 0, -1), ("call", 2, 0, 1, 0, False), ("copy", 1, 2, -1), LATER,
        TAKES[1],
    ],
    "what is predicted keeps its tokens under another definition": [
        *SEEN, ("know", 0, 1, 0, 2_000_000), LATER, TAKES[0], ("define", 1), LATER, TAKES[0],
    ],
    "a caller without new beats makes nobody silent": [
        *SEEN, ("know", 0, 1, 0, 0), ("time", 5_000_000), TAKES[0],
    ],
    "a region of which no beat ever came is not silent": [
        TAKES[2], ("copy", 0, 2, -1), *SEEN, ("know", 0, 1, 0, 2_000_000), LATER, TAKES[0],
    ],
}  # fmt: skip


def on_examples(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test that takes definitions, clock offsets, forget_after and operations on all of
    these."""
    for ops in EXAMPLES.values():
        test = example([PLAIN, FAST], [0, 0, 0], 0, ops)(test)
    return test
