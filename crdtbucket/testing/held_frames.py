"""Links that stall: what is sent on them is held for a while, and then arrives late."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class HeldLinks(NamedTuple):
    """Some links that stall once. Times are ns."""

    ways: frozenset[tuple[str, str]] | None
    """(source, target) of each; None for all."""
    since: int
    held: int
    """From `since` on nothing comes out for so long."""
    drain: int
    """In so much time after that, all comes out that is due until then, in its order and evenly
    spread; 0: what was held comes out at once."""

    @property
    def until(self) -> int:
        """From then on frames take as long as ever."""
        return self.since + self.held + self.drain

    def holds(self, way: tuple[str, str], at: int) -> bool:
        """Whether a frame that would arrive at `at` comes late."""
        return self.since <= at < self.until and (self.ways is None or way in self.ways)


class HeldFrames:
    """All stalls of a simulated network that are not over."""

    def __init__(self) -> None:
        self._stalls: list[HeldLinks] = []

    def add(
        self, ways: Collection[tuple[str, str]] | None, since: int, held: int, drain: int
    ) -> None:
        """These links, or all, stall: see `HeldLinks`."""
        self._stalls = [stall for stall in self._stalls if stall.until > since]
        self._stalls.append(
            HeldLinks(None if ways is None else frozenset(ways), since, held, drain)
        )

    def arrival(self, way: tuple[str, str], at: int) -> int:
        """When (ns) a frame arrives that would arrive at `at` if nothing were held."""
        for stall in self._stalls:
            if stall.holds(way, at):
                passed = (at - stall.since) * stall.drain // (stall.held + stall.drain)
                at = stall.since + stall.held + passed
        return at

    def holds(self, way: tuple[str, str], now: int) -> bool:
        """Whether what would arrive now comes late."""
        return any(stall.holds(way, now) for stall in self._stalls)
