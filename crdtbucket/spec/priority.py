"""Priorities: how much of a bucket a call leaves to those that are more important."""

from __future__ import annotations

from typing import Literal, TypeAlias

from crdtbucket.errors import InvalidSpec

Priority = Literal["critical", "normal", "batch"]
Floor: TypeAlias = "float | Priority"
"""The share of the capacity that has to be left after a take, or a priority."""

PRIORITIES: dict[str, float] = {"critical": 0.0, "normal": 0.2, "batch": 0.5}
"""The floor of each: a call that names none is critical."""


def check_floor(floor: Floor) -> None:
    """Raises `InvalidSpec` for what is neither a share from 0 up to 1 nor a priority."""
    share = PRIORITIES.get(floor) if isinstance(floor, str) else floor
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
        fix = f"write a share of the capacity from 0 up to 1, or one of {', '.join(PRIORITIES)}"
        raise InvalidSpec(f"floor is {floor!r}", fix, "floor")


__all__ = ["PRIORITIES", "Floor", "Priority", "check_floor"]
