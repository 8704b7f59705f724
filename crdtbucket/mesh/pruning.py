"""Old epochs: a dead one whose final counts every live peer has is marked, and its columns go.

A mark says that the columns of an epoch count no more; levels do not move. Marks are told to the
peers, and their ids are used again after a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from crdtbucket._core import Table
from crdtbucket.mesh import wire
from crdtbucket.mesh.link import Link

log = logging.getLogger("crdtbucket.mesh")

SETTLED_NS = 30_000_000_000
"""An epoch is not marked before it has been dead for so long, and for the longest time to full of
any bucket: a newcomer that hears a level without the columns behind it would otherwise count less
than is owed, and everybody would adopt that."""
PASSES = 2
"""Full passes of anti-entropy with every live peer that must have come since: they spread its final
counts."""
KEPT_NS = 900_000_000_000
"""A mark is remembered for so long."""
CROWDED = wire.MAX_ORIGINS * 7 // 8
"""From so many epochs on the oldest are marked and released early: new nodes must find room."""


class Pruner:
    """Decides which epochs are marked, and when a mark is forgotten."""

    def __init__(self, table: Table, now: int) -> None:
        """Goes on with the marks that are in the table."""
        self._table = table
        self._dead: dict[int, tuple[int, dict[str, int]]] = {}
        self.marks = {epoch: now for _, _, epoch, marked in table.origins() if marked}
        """Marked epochs, the oldest first, and when they were marked, as far as that is known."""

    def step(self, links: Iterable[Link], running: set[int], now: int) -> tuple[int, ...]:
        """Marks what can be marked, releases what is old; returns the marks to tell."""
        live = {link.info.name: link.passes for link in links if link.connected and not link.left}
        known = self._table.origins()
        dead = {epoch for _, _, epoch, marked in known if not marked} - running
        self._dead = {epoch: seen for epoch, seen in self._dead.items() if epoch in dead}
        settled = SETTLED_NS + self._table.longest_debt
        for epoch in dead:
            since, passes = self._dead.setdefault(epoch, (now, live))
            spread = all(n >= passes.get(name, 0) + PASSES for name, n in live.items())
            if spread and now - since >= settled:
                self._mark(epoch, now)
        self._make_room(len(known), now)
        for epoch in [e for e, at in self.marks.items() if now - at > KEPT_NS]:
            self._release(epoch)
        return tuple(self.marks)[-wire.MAX_MARKS :]

    def told(self, epoch: int, running: set[int], now: int) -> None:
        """A peer says that this epoch is dead and counted everywhere; a running one is never
        believed dead."""
        if epoch not in running and epoch not in self.marks:
            self._mark(epoch, now)

    def returned(self, epoch: int) -> None:
        """A process that was taken for dead is heard: its columns count again."""
        if self.marks.pop(epoch, None) is not None:
            self._table.unmark(epoch)

    def _make_room(self, known: int, now: int) -> None:
        for epoch in list(self.marks)[: max(0, known - CROWDED)]:
            self._release(epoch)
            known -= 1
        by_age = sorted(self._dead, key=lambda epoch: self._dead[epoch][0])
        settled = [epoch for epoch in by_age if now - self._dead[epoch][0] >= SETTLED_NS]
        early = settled[: max(0, known - CROWDED)]
        if early:
            log.warning("%d epochs are known: %d old ones are dropped early", known, len(early))
        for epoch in early:
            self._mark(epoch, now)

    def _mark(self, epoch: int, now: int) -> None:
        self._dead.pop(epoch, None)
        if self._table.mark(epoch):
            self.marks[epoch] = now

    def _release(self, epoch: int) -> None:
        del self.marks[epoch]
        self._table.release(epoch)
