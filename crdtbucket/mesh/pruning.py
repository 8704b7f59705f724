"""Old epochs: a dead one whose final counts every live peer has is marked, and its columns are dropped everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from crdtbucket._core import Table
from crdtbucket.mesh import wire
from crdtbucket.mesh.link import Link

SETTLED_NS = 30_000_000_000
"""An epoch is not marked before it has been dead for so long, and for the longest time to full of any bucket: a newcomer
that hears a level without the columns behind it would otherwise count less than is owed, and everybody would adopt that."""
PASSES = 2
"""Full passes of anti-entropy with every live peer that must have come since: they spread its final counts."""


class Pruner:
    """Decides which epochs are marked; the list of marks is bounded, the oldest is released first."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._dead: dict[int, tuple[int, dict[str, int]]] = {}
        self.marks: dict[int, None] = {}

    def step(self, links: Iterable[Link], running: set[int], now: int) -> tuple[int, ...]:
        """Marks what can be marked; returns the marks to tell."""
        live = {link.info.name: link.passes for link in links if link.connected and not link.left}
        epochs = {epoch for _, _, epoch, marked in self._table.origins() if not marked} - running
        for epoch in list(self._dead):
            if epoch not in epochs:
                del self._dead[epoch]
        settled = SETTLED_NS + self._table.longest_debt
        for epoch in epochs:
            since, passes = self._dead.setdefault(epoch, (now, live))
            if now - since >= settled and all(
                n >= passes.get(name, 0) + PASSES for name, n in live.items()
            ):
                self._mark(epoch)
        return tuple(self.marks)

    def told(self, epoch: int, running: set[int]) -> None:
        """A peer says that this epoch is dead and counted everywhere; a running one is never believed dead."""
        if epoch not in running and epoch not in self.marks:
            self._mark(epoch)

    def _mark(self, epoch: int) -> None:
        self._dead.pop(epoch, None)
        self._table.mark(epoch)
        self.marks[epoch] = None
        while len(self.marks) > wire.MAX_MARKS:
            oldest = next(iter(self.marks))
            del self.marks[oldest]
            self._table.release(oldest)
