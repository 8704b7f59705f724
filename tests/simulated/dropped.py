"""Debt that nodes drop, so that they admit again what one bucket would deny."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from crdtbucket.testing import SimulatedNode
from tests.simulated.truth import Place
from tests.simulated.window import Window

SECOND = 10**9


class Shown(NamedTuple):
    """What a node shows of a key."""

    evicted: int
    """Keys with debt that its table has evicted so far."""
    generation: int
    """The generation of its own column; -1: it has none."""
    owed: float
    """The debt in tokens."""


class Dropped:
    """Looks at a key on all nodes before and after each step of time.

    If more keys are in debt than a table holds, those that are full first are evicted, even when
    they are asked for all the time: a bucket that fills within a second is evicted for one that
    fills for hours. A node that has evicted a key finds it full, and admits again what it owed,
    unless a peer sends it the debt. It owed what it showed last, and the takes of others that it
    merged since then: these were unknown here until then, so they were made shortly before.
    """

    def __init__(self, nodes: Sequence[SimulatedNode], place: Place, window: Window) -> None:
        self._nodes, self._place, self._window = nodes, place, window
        self._shown: dict[str, Shown] = {}
        self._forgiven = self._forgiven_so_far()
        self.evicted = 0.0
        """The most tokens of debt that were evicted with the key."""

    @property
    def forgiven(self) -> int:
        """Tokens that the nodes have forgiven at the ceiling of debt, as they report."""
        return self._forgiven_so_far() - self._forgiven

    def before(self) -> None:
        """A step of time begins."""
        for node in self._nodes:
            self._shown[node.name] = self._look(node)

    def after(self) -> None:
        """The step of time is over, and nothing has been taken in it."""
        for node in self._nodes:
            then, now = self._shown[node.name], self._look(node)
            kept = now.evicted == then.evicted or now.generation == then.generation >= 0
            if not kept and then.owed > 0:
                self.evicted += then.owed + self._window.lately

    def _look(self, node: SimulatedNode) -> Shown:
        bucket, own = node.bucket(self._place[0]), (0, node.table.epochs.running)
        column = bucket.columns(self._place[1]).get(own)
        owed = node.peek(*self._place).debt * bucket.spec.rate_per_second / SECOND
        evicted = node.table.stats()["evicted_indebted"]
        return Shown(evicted, -1 if column is None else column[0], owed)

    def _forgiven_so_far(self) -> int:
        buckets = [node.bucket(self._place[0]) for node in self._nodes]
        return sum(bucket.counters()["forgiven"] for bucket in buckets)
