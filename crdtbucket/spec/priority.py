"""Priorities: how much of a bucket a call leaves to those that are more important."""

from __future__ import annotations

import random
from typing import Literal, TypeAlias

from crdtbucket.errors import InvalidSpec

Priority = Literal["critical", "normal", "batch", "smooth"]
Floor: TypeAlias = "float | Priority"
"""The share of the capacity that has to be left after a take, or a priority."""

PRIORITIES: dict[str, float] = {"critical": 0.0, "normal": 0.2, "batch": 0.5, "smooth": 0.2}
"""The floor of each: a call that names none is critical. That of a smooth one is anything up to
this, another one for each call."""


def share_of(name: str) -> float | None:
    """The floor of a call of this priority; None for what is no priority.

    A smooth one is drawn by `random.random`. Below a fifth of its capacity a bucket then admits the
    part of the calls that its level is of this fifth. So where more is asked for than refills, the
    level stays where the part of the calls that pass is that of refill and demand.
    """
    floor = PRIORITIES.get(name)
    return floor * random.random() if name == "smooth" and floor else floor


def check_floor(floor: Floor) -> None:
    """Raises `InvalidSpec` for what is neither a share from 0 up to 1 nor a priority."""
    share = PRIORITIES.get(floor) if isinstance(floor, str) else floor
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        fix = f"write a share of the capacity from 0 up to 1, or one of {', '.join(PRIORITIES)}"
        raise InvalidSpec(f"floor is {floor!r}", fix, "floor")
