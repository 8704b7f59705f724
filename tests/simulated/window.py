"""What was asked for and given in a time in which nothing happened."""

from __future__ import annotations

from collections import deque

from tests.simulated.truth import IdealBucket


class Window:
    """A time in which nothing happens and the mesh is connected: what was asked for and given."""

    def __init__(self, since: int, ideal: IdealBucket, true: IdealBucket, late: int) -> None:
        """`late` (ns): within it, all know of a take."""
        self.since = since
        self.ideal, self.true = ideal, true
        self._late = late
        self._unheard: deque[tuple[int, int]] = deque()
        self.offered: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.waiting: dict[str, int] = {}
        """Since when each node has only denied calls, ns; not there when the last was admitted."""
        self.starved: dict[str, int] = {}
        """The longest time that a node with demand admitted nothing, ns."""
        self.ideal_given = self.ideal_shared = 0
        """What one bucket gives; and of that, what it gives while all that want some ask for it."""
        self.beyond = 0.0
        """Tokens given out beyond what one bucket would have had, at most."""
        self.owed = 0
        """Tokens that had been given out beyond the limit when it began."""
        self.unseen = 0
        """Tokens given out within `late`, at most."""
        self.forgiven = 0
        """What the nodes had dropped at the ceiling of debt when it began."""

    def give(self, tokens: int, now: int) -> None:
        """So many are given out."""
        self.true.charge(tokens, now)
        self.beyond = max(self.beyond, -self.true.level(now))
        self._unheard.append((now, tokens))
        while self._unheard[0][0] < now - self._late:
            self._unheard.popleft()
        self.unseen = max(self.unseen, sum(tokens for _, tokens in self._unheard))
