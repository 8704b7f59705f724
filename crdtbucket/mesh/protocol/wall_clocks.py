"""Corrects the wall clock of this node by those of its peers. Calendar quotas begin by it, and
nothing else does."""

from __future__ import annotations

from collections.abc import Iterable

TOLERATED_NS = 1_000_000_000
"""Clocks that are nearer than this are right: how long a frame took is known less well."""


def wall_moved(ahead: Iterable[int]) -> int:
    """By how much (ns) the own wall clock has to be moved to the middle of all. `ahead`: how far
    that of each live peer is before the own one.

    Where two are in the middle, as with a single peer, nobody can tell which of them is wrong: then
    the own clock goes no further than to the nearer one. So as long as more than half of the nodes
    have clocks that are right, the result is among those.
    """
    clocks = sorted([0, *ahead])
    low, high = clocks[(len(clocks) - 1) // 2], clocks[len(clocks) // 2]
    by = min(max(0, low), high)
    return by if abs(by) > TOLERATED_NS else 0
