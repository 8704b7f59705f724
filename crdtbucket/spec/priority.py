"""Priorities: how much of a bucket a call leaves to calls that are more important."""

from __future__ import annotations

import random
from math import ceil
from typing import Literal, TypeAlias

from crdtbucket.errors import InvalidSpec

Priority = Literal["critical", "normal", "batch", "smooth"]
Floor: TypeAlias = float | Priority
"""The share of the capacity that has to be left after a take, or a priority."""

PRIORITIES: dict[str, float] = {"critical": 0.0, "normal": 0.2, "batch": 0.5, "smooth": 0.2}
"""The floor of each: a call that names none is critical. That of a smooth one is anything up to
this, another one for each call."""


def share_of(name: str) -> float | None:
    """The floor of a call of this priority; None for what is no priority.

    That of a smooth call is drawn evenly from 0 up to a fifth of the capacity (`random.random`). So
    at a level below this fifth a call passes with the probability level / fifth. A bucket that is
    asked for more than it refills settles at the level at which just its refill is admitted.
    """
    floor = PRIORITIES.get(name)
    return floor * random.random() if name == "smooth" and floor else floor


def drawn(floor: Floor) -> float:
    """The share of the capacity that one call leaves, for a floor that `check_floor` accepts."""
    share = share_of(floor) if isinstance(floor, str) else floor
    assert share is not None, "it is a priority"
    return share


def floor_tokens(share: float, capacity: int) -> int:
    """The whole tokens of a share of the capacity, counted as the core counts them."""
    tokens = share * capacity
    return ceil(tokens - 1e-9 * tokens)


def check_floor(floor: Floor) -> None:
    """Raises `InvalidSpec` for what is neither a share from 0 up to 1 nor a priority."""
    share = PRIORITIES.get(floor) if isinstance(floor, str) else floor
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        fix = f"write a share of the capacity from 0 up to 1, or one of {', '.join(PRIORITIES)}"
        raise InvalidSpec(f"floor is {floor!r}", fix, "floor")
