"""Counts what was asked for and admitted in a time in which nothing happened."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import NamedTuple

from tests.simulated.truth import IdealBucket


class Wait(NamedTuple):
    """A time in which a node with demand admitted nothing."""

    ns: int
    ideal_shared: int
    """Tokens that one bucket admitted meanwhile while all nodes with demand asked for some."""


class Window:
    """A time in which nothing happens and the mesh is connected: what was asked for and admitted in
    it."""

    def __init__(
        self, since: int, ideal: IdealBucket, true: IdealBucket, capped: IdealBucket, late: int
    ) -> None:
        """`true` is charged with all that is admitted, `capped` with no more than a node may owe.
        `late` (ns): the time in which a take is known to all."""
        self.since = since
        self.ideal, self.true, self._capped = ideal, true, capped
        self._late = late
        self._unheard: deque[tuple[int, int]] = deque()
        self.lately = 0
        """Tokens that were admitted in the last `late` ns."""
        self.offered: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.waits: dict[str, dict[int, Wait]] = defaultdict(dict)
        """The waits of each node, by when they began (ns)."""
        self._waiting: dict[str, tuple[int, int]] = {}
        """Since when each node has only denied calls (ns), and what one bucket had admitted by
        then. A node whose last call was admitted is missing."""
        self.ideal_given = self.ideal_shared = 0
        """What one bucket admits; and what it admits of that while all nodes with demand ask for
        some."""
        self.beyond = 0.0
        """The most tokens that were admitted beyond what one bucket had."""
        self._beyond_capped = 0.0
        self.owed = 0
        """Tokens that had been admitted beyond the limit when the window began."""
        self.unseen = 0
        """The most tokens that were admitted in any `late` ns."""
        self.forgiven = 0
        """The tokens of debt that the nodes had dropped at the ceiling when the window began."""

    def charge(self, tokens: int, now: int) -> None:
        """So many tokens are owed already when the window begins."""
        self.true.charge(tokens, now)
        self._capped.charge(tokens, now)

    def give(self, tokens: int, now: int) -> None:
        """So many tokens are admitted."""
        self.charge(tokens, now)
        self.beyond = max(self.beyond, -self.true.level(now))
        self._beyond_capped = max(self._beyond_capped, -self._capped.level(now))
        self._unheard.append((now, tokens))
        self.lately += tokens
        while self._unheard[0][0] < now - self._late:
            self.lately -= self._unheard.popleft()[1]
        self.unseen = max(self.unseen, self.lately)

    def answered(self, name: str, now: int, allowed: int) -> None:
        """A node has answered its calls of this moment and admitted so many of them; the calls of
        `ideal` are counted already."""
        since, given = self._waiting.setdefault(name, (now, self.ideal_shared))
        self.waits[name][since] = Wait(now - since, self.ideal_shared - given)
        if allowed:
            del self._waiting[name]

    def explained(self, most: float, forgiven: float) -> bool:
        """Whether no more was admitted beyond the limit than `most` tokens, which nodes did not
        know of, and those that they have forgiven at the ceiling of debt.

        Their own count of what they have forgiven is believed as far as one bucket with that
        ceiling, which sees every take at once, would have forgiven it. A node owes at least as much
        as this bucket, except for what it does not know: with every take the bucket owes more,
        which is unknown to the node at first; when the node merges it, it owes as much more, or
        stands at the same ceiling. So where a node admits, that bucket owes no more than a capacity
        and what is unknown.
        """
        return self.beyond <= most + forgiven and self._beyond_capped <= most
