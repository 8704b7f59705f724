"""A clock that jumps: noticed against the peers' clocks, and undone, so that no level moves.

Each frame shows the sender's clock, and its delay only ever makes that look late; so the largest
difference within a window is the truest. When it moves by more than `JUMP_NS` on most links at
once, it was this node's clock that jumped; a clock that runs off by 1000 ppm or more is corrected
in such steps too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_low

WINDOW_NS = 2_000_000_000
JUMP_NS = 1_000_000_000


@dataclass
class Offset:
    """How far a peer's clock is ahead of this one (ns): at first, and in the window now."""

    base: int | None = None
    best: int | None = None
    since: int = 0
    moved: int | None = None
    """What the last full window showed, less the base."""

    def sample(self, ahead: int, now: int) -> None:
        """Takes one frame's difference."""
        if self.best is None:
            self.best, self.since = ahead, now
        self.best = max(self.best, ahead)
        if now - self.since >= WINDOW_NS or now < self.since:
            if self.base is None:
                self.base = self.best
            self.moved = self.best - self.base
            self.best = None

    def settle(self, by: int) -> None:
        """The own clock's jump is undone: measure from there."""
        if self.base is not None:
            self.base += by
        self.moved = self.best = None


def jump(offsets: Iterable[Offset]) -> int:
    """By how much (ns) the own clock jumped forward, 0 for not at all.

    Judged by the median of the peers. Against a single one it cannot be told whose clock it was:
    then only what raises the debt is believed, since the other way would mint tokens.
    """
    moved = [offset.moved for offset in offsets if offset.moved is not None]
    if not moved:
        return 0
    by = -median_low(moved)
    if abs(by) <= JUMP_NS or (len(moved) == 1 and by < 0):
        return 0
    return by
