"""Old epochs: a dead one whose final counts every live peer has is marked, and its columns go.

A mark says that the columns of an epoch count no more; levels do not move. Marks are told to the
peers, and their ids are used again after a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from crdtbucket._core import Table
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.link import Link

log = logging.getLogger("crdtbucket.mesh")

SETTLED_NS = 30_000_000_000
"""An epoch is not marked before it has been dead for so long; and, where it has a column on a key
that owes, for the longest time to full of such a bucket: a newcomer that hears a level without
the columns behind it would otherwise count less than is owed, and everybody would adopt that.
Where the keys are full, its columns are history."""
ROUNDS = 12
"""Nor before so many rounds: that it runs may come from relay to relay, where frames are lost."""
PASSES = 2
"""Full passes of anti-entropy that must have come since with every live peer of that time: they
spread its final counts. Who came later was sent them with all the rest."""
KEPT_NS = 900_000_000_000
"""A mark is remembered for so long."""
CROWDED = wire.MAX_ORIGINS * 7 // 8
"""From so many epochs on the oldest are marked and released early: new nodes must find room."""


@dataclass
class _Dead:
    """An epoch that nobody runs under any more. Times are local ns."""

    since: int
    passes: dict[int, int]
    """Passes that there had been with each live peer, by its epoch."""
    spread: int | None = None
    """When every live peer had its final counts."""
    settles: int | None = None
    """From when on it may be marked; None while the keys have not been looked at since."""


class Pruner:
    """Decides which epochs are marked, and when a mark is forgotten."""

    def __init__(self, table: Table, now: int, interval_ns: int = 0) -> None:
        """Goes on with the marks that are in the table. `interval_ns`: between two rounds."""
        self._table = table
        self._settled_ns = max(SETTLED_NS, ROUNDS * interval_ns)
        self._dead: dict[int, _Dead] = {}
        self._place = -1
        """Where the look at all keys under way goes on, -1 while none is."""
        self._begun = 0
        self._owing: dict[int, int] = {}
        """What it has found: the longest time to full of a bucket, by epoch."""
        self._crowded = False
        self._running = 0
        self.marks = {epoch: now for _, _, epoch, marked in table.origins() if marked}
        """Marked epochs, the oldest first, and when they were marked, as far as that is known."""

    @property
    def crowded(self) -> bool:
        """Whether there is hardly room for more epochs, although all dead ones go."""
        return self._running > CROWDED

    def step(self, links: Iterable[Link], running: set[int], now: int) -> tuple[int, ...]:
        """Marks what can be marked, releases what is old; returns the marks to tell."""
        live = {link.info.epoch: link for link in links if link.connected and not link.left}
        known = self._table.origins()
        dead = {epoch for _, _, epoch, marked in known if not marked} - running
        self._dead = {epoch: seen for epoch, seen in self._dead.items() if epoch in dead}
        for epoch in dead:
            if epoch not in self._dead:
                passes = {peer: link.passes for peer, link in live.items()}
                self._dead[epoch] = _Dead(now, passes)
            one = self._dead[epoch]
            settled = now - one.since >= self._settled_ns
            if one.spread is None and settled and _has_spread(one, live):
                one.spread = now
        self._look(now)
        for epoch, one in list(self._dead.items()):
            if one.settles is not None and now >= one.settles:
                self._mark(epoch, now)
        self._running = len(known) - len(self._dead) - len(self.marks)
        self._make_room(len(known), now)
        for epoch in [e for e, at in self.marks.items() if now - at > KEPT_NS]:
            self._release(epoch)
        return tuple(self.marks)[-wire.MAX_MARKS :]

    def _look(self, now: int) -> None:
        """Goes on with a look at all keys: in which of them does a dead epoch stand that owe?"""
        if self._place < 0:
            if not any(one.spread is not None for one in self._dead.values()):
                return
            self._place, self._begun, self._owing = 0, now, {}
        found, self._place = self._table.owing(self._place)
        for epoch, longest in found.items():
            self._owing[epoch] = max(longest, self._owing.get(epoch, 0))
        if self._place >= 0:
            return
        for epoch, one in self._dead.items():
            if one.spread is not None and one.spread <= self._begun:
                settles = one.since + self._settled_ns + self._owing.get(epoch, 0)
                one.settles = settles if one.settles is None else min(settles, one.settles)

    def told(self, epoch: int, running: set[int], now: int) -> None:
        """A peer says that this epoch is dead and counted everywhere; a running one is never
        believed dead."""
        if epoch not in running and epoch not in self.marks:
            self._mark(epoch, now)

    def returned(self, epoch: int) -> None:
        """A process that was taken for dead is heard: its columns count again."""
        if self.marks.pop(epoch, None) is not None:
            self._table.remove_tombstone(epoch)

    def _make_room(self, known: int, now: int) -> None:
        crowded = known > CROWDED
        if crowded and not self._crowded:
            log.warning("%d epochs are known: from here on old ones are dropped early", known)
        self._crowded = crowded
        for epoch in list(self.marks)[: max(0, known - CROWDED)]:
            self._release(epoch)
            known -= 1
        by_age = sorted(self._dead, key=lambda epoch: self._dead[epoch].since)
        settled = [epoch for epoch in by_age if now - self._dead[epoch].since >= self._settled_ns]
        for epoch in settled[: max(0, known - CROWDED)]:
            self._mark(epoch, now)

    def _mark(self, epoch: int, now: int) -> None:
        self._dead.pop(epoch, None)
        if self._table.add_tombstone(epoch):
            self.marks[epoch] = now

    def _release(self, epoch: int) -> None:
        del self.marks[epoch]
        self._table.release(epoch)


def _has_spread(dead: _Dead, live: dict[int, Link]) -> bool:
    """Whether each live peer has the final counts of an epoch."""
    return all(
        link.passes >= dead.passes[epoch] + PASSES if epoch in dead.passes else link.synced
        for epoch, link in live.items()
    )
