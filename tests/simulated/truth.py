"""What really happened in a run: who took what, and the ideal bucket that saw it all."""

from __future__ import annotations

from collections import defaultdict, deque

from crdtbucket.spec.bucket_spec import BucketSpec

Place = tuple[str, str]
"""(bucket, key)."""
Owner = tuple[str, int]
"""(node, epoch)."""

PPM = 10**6
SECOND = 10**9


class IdealBucket:
    """One bucket on one clock that sees every take at once, in whole numbers without rounding.

    Its refill may run fast, by `ppm` millionths. `part`: the fraction of the capacity and of the
    rate that it has, as (numerator, denominator).
    """

    def __init__(
        self, spec: BucketSpec, max_debt: int = 0, *, ppm: int = 0, part: tuple[int, int] = (1, 1)
    ) -> None:
        self.ppm, self.part = ppm, part
        self._debt = self._at = 0
        self.token = spec.interval_ns * PPM * self.part[1]
        """The units in one token: so many that a nanosecond refills a whole number of units."""
        self._refill = spec.refill_rate * (PPM + self.ppm) * self.part[0]
        self.capacity = max(1, spec.capacity * self.part[0] // self.part[1])
        self._ceiling = (self.capacity + max_debt) * self.token

    def debt(self, now: int) -> int:
        """The debt in units, at a time of the mesh (ns)."""
        self._debt = max(0, self._debt - (now - self._at) * self._refill)
        self._at = now
        return self._debt

    def level(self, now: int) -> float:
        """Tokens left, below zero in debt."""
        return self.capacity - self.debt(now) / self.token

    def charge(self, tokens: int, now: int) -> None:
        """So many tokens were taken or, if negative, given back; what is above the ceiling is
        forgiven."""
        self._debt = min(max(0, self.debt(now) + tokens * self.token), self._ceiling)

    def admits(self, calls: int, cost: int, now: int) -> int:
        """Takes as many of these calls as the bucket has tokens for; returns their number."""
        room = self.capacity * self.token - self.debt(now)
        given = max(0, min(calls, room // (cost * self.token)))
        self._debt += given * cost * self.token
        return given


class LateBucket:
    """One bucket that sees every take at once, but refill only up to `late` ago. A node may merge
    the takes of others all at once, that late, when a part of them has already refilled. So no node
    has a reason to deny what this bucket admits."""

    def __init__(self, bucket: IdealBucket, late: int) -> None:
        self._before, self._late = bucket, late
        self._recent: deque[tuple[int, int]] = deque()
        self._tokens = 0
        """The tokens in `_recent`: (when, tokens) of what was taken since `late` ago."""

    def charge(self, tokens: int, now: int) -> None:
        """So many tokens were taken."""
        self._recent.append((now, tokens))
        self._tokens += tokens

    def admits(self, calls: int, cost: int, now: int) -> int:
        """Takes as many of these calls as it admits; returns their number."""
        while self._recent and self._recent[0][0] <= now - self._late:
            at, tokens = self._recent.popleft()
            self._before.charge(tokens, at)
            self._tokens -= tokens
        debt = self._before.debt(max(0, now - self._late))
        left = self._before.capacity * self._before.token - debt
        given = max(0, min(calls, (left // self._before.token - self._tokens) // cost))
        self.charge(given * cost, now)
        return given


class Missing:
    """A node that takes nothing any more, which its peers cannot know yet: they keep credit for
    it."""

    def __init__(self, rate: float, since: int, until: int) -> None:
        """`rate`: the tokens/s that it was asked for. Times are ns."""
        self._rate, self._at, self._until = rate, since, until
        self._owing = 0.0

    def offers(self, now: int) -> int:
        """The whole tokens that it would have been asked for since the last call of this."""
        self._owing += self._rate * max(0, min(now, self._until) - self._at) / SECOND
        self._at = max(self._at, min(now, self._until))
        tokens = int(self._owing)
        self._owing -= tokens
        return tokens


class Ledger:
    """Tokens taken and refunded by owner and place, as the callers saw them."""

    def __init__(self) -> None:
        self.taken: dict[Place, dict[Owner, int]] = defaultdict(lambda: defaultdict(int))
        self.refunded: dict[Place, dict[Owner, int]] = defaultdict(lambda: defaultdict(int))

    def book(self, owner: Owner, place: Place, taken: int, refunded: int) -> None:
        self.taken[place][owner] += taken
        self.refunded[place][owner] += refunded

    def of(self, owner: Owner, place: Place) -> tuple[int, int]:
        """(taken, refunded)."""
        return self.taken[place][owner], self.refunded[place][owner]
