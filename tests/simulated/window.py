"""What was asked for and given in a time in which nothing happened."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import NamedTuple

from tests.simulated.truth import IdealBucket


class Wait(NamedTuple):
    """A time in which a node with demand admitted nothing."""

    ns: int
    ideal_shared: int
    """Tokens that one bucket gave meanwhile to all that want some."""


class Window:
    """A time in which nothing happens and the mesh is connected: what was asked for and given."""

    def __init__(
        self, since: int, ideal: IdealBucket, true: IdealBucket, capped: IdealBucket, late: int
    ) -> None:
        """`true` is owed all that is given out, `capped` no more than a node may owe; `late` (ns):
        within it, all know of a take."""
        self.since = since
        self.ideal, self.true, self._capped = ideal, true, capped
        self._late = late
        self._unheard: deque[tuple[int, int]] = deque()
        self.lately = 0
        """Tokens that were given out within `late` before the last ones were."""
        self.offered: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.waits: dict[str, dict[int, Wait]] = defaultdict(dict)
        """Of each node, by when they began, ns."""
        self._waiting: dict[str, tuple[int, int]] = {}
        """Since when each node has only denied calls, ns, and what one bucket had given by then;
        not there when the last was admitted."""
        self.ideal_given = self.ideal_shared = 0
        """What one bucket gives; and of that, what it gives while all that want some ask for it."""
        self.beyond = 0.0
        """Tokens given out beyond what one bucket would have had, at most."""
        self._beyond_capped = 0.0
        self.owed = 0
        """Tokens that had been given out beyond the limit when it began."""
        self.unseen = 0
        """Tokens given out within `late`, at most."""
        self.forgiven = 0
        """What the nodes had dropped at the ceiling of debt when it began."""

    def charge(self, tokens: int, now: int) -> None:
        """So many are owed already when it begins."""
        self.true.charge(tokens, now)
        self._capped.charge(tokens, now)

    def give(self, tokens: int, now: int) -> None:
        """So many are given out."""
        self.charge(tokens, now)
        self.beyond = max(self.beyond, -self.true.level(now))
        self._beyond_capped = max(self._beyond_capped, -self._capped.level(now))
        self._unheard.append((now, tokens))
        self.lately += tokens
        while self._unheard[0][0] < now - self._late:
            self.lately -= self._unheard.popleft()[1]
        self.unseen = max(self.unseen, self.lately)

    def answered(self, name: str, now: int, allowed: int) -> None:
        """So many calls of those that came were admitted; what one bucket gives is counted."""
        since, given = self._waiting.setdefault(name, (now, self.ideal_shared))
        self.waits[name][since] = Wait(now - since, self.ideal_shared - given)
        if allowed:
            del self._waiting[name]

    def explained(self, most: float, forgiven: float) -> bool:
        """Whether no more was given out beyond the limit than `most` tokens, which nodes did not
        know of, and those that they have forgiven at the ceiling of debt.

        What they say that they have forgiven is believed as far as one bucket with that ceiling,
        which sees every take at once, would have forgiven it. A node never owes less than this
        bucket, but for what the node does not know: with every take the bucket owes more, which
        then is unknown, and when the node hears of it, it owes as much more, or stands at the same
        ceiling. So where it admits, that bucket owes no more than a capacity and what is unknown.
        """
        return self.beyond <= most + forgiven and self._beyond_capped <= most
