"""Corrects the wall clock of this node by those of its peers. It decides when periods of calendar
quotas begin, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

TOLERATED_NS = 1_000_000_000
"""Clocks that differ by less than this count as equal: the travel time of a frame is not known more
precisely."""


def wall_moved(ahead: Iterable[int]) -> int:
    """By how much (ns) the own wall clock has to be moved to the middle of all. `ahead`: how far
    that of each live peer is before the own one.

    If two are in the middle, as with a single peer, nobody can tell which of them is wrong: then
    the own clock moves only to the nearer one. So as long as more than half of the nodes have
    correct clocks, the result lies among those.
    """
    clocks = sorted([0, *ahead])
    low, high = clocks[(len(clocks) - 1) // 2], clocks[len(clocks) // 2]
    by = min(max(0, low), high)
    return by if abs(by) > TOLERATED_NS else 0
