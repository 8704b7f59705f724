"""What really happened in a run: who took what, and the ideal bucket that saw it all."""

from __future__ import annotations

from collections import defaultdict

from crdtbucket.policy import BucketSpec

Place = tuple[str, str]
"""(bucket, key)."""
Owner = tuple[str, int]
"""(node, epoch)."""

PPM = 10**6


class IdealBucket:
    """One bucket on one clock that sees every take at once; whole numbers, nothing is rounded.

    Its refill may run fast, by `ppm` millionths. `part` makes another one of it: one with so much
    of the capacity and of the rate, in percent.
    """

    def __init__(
        self, spec: BucketSpec, max_debt: int = 0, *, ppm: int = 0, part: tuple[int, int] = (1, 1)
    ) -> None:
        self.ppm, self.part = ppm, part
        self._debt = self._at = 0
        self.token = spec.interval_ns * PPM * self.part[1]
        """Units of one token, so many that a nanosecond refills a whole number of them."""
        self._refill = spec.refill_rate * (PPM + self.ppm) * self.part[0]
        self.capacity = max(1, spec.capacity * self.part[0] // self.part[1])
        self._ceiling = (self.capacity + max_debt) * self.token

    def debt(self, now: int) -> int:
        """In units, at a time of the mesh (ns)."""
        self._debt = max(0, self._debt - (now - self._at) * self._refill)
        self._at = now
        return self._debt

    def level(self, now: int) -> float:
        """Tokens left, below zero in debt."""
        return self.capacity - self.debt(now) / self.token

    def charge(self, tokens: int, now: int) -> None:
        """So many were taken, or, below zero, given back; what is above the ceiling is forgiven."""
        self._debt = min(max(0, self.debt(now) + tokens * self.token), self._ceiling)

    def admits(self, calls: int, cost: int, now: int) -> int:
        """Takes what one bucket for all would have given to these calls: how many of them."""
        room = self.capacity * self.token - self.debt(now)
        given = max(0, min(calls, room // (cost * self.token)))
        self._debt += given * cost * self.token
        return given


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
