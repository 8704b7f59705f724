"""What really happened in a run: who took what, and the ideal bucket that saw it all."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from crdtbucket.policy import BucketSpec

Place = tuple[str, str]
"""(bucket, key)."""


class IdealBucket:
    """One bucket on one clock that sees every take at once, exactly; its refill may run fast."""

    def __init__(self, spec: BucketSpec, max_debt: int, speed: Fraction) -> None:
        self.emission = Fraction(spec.interval_ns, spec.refill_rate)
        self.capacity, self.ceiling = spec.capacity, spec.capacity + max_debt
        self.speed = speed
        self.debt, self.at = Fraction(0), 0

    def level(self, now: int) -> Fraction:
        self.debt = max(Fraction(0), self.debt - (now - self.at) * self.speed / self.emission)
        self.at = now
        return self.capacity - self.debt

    def charge(self, tokens: int, now: int) -> None:
        self.level(now)
        self.debt = min(max(Fraction(0), self.debt + tokens), Fraction(self.ceiling))


class Ledger:
    """Tokens taken and refunded by (node, epoch) and place, as the callers saw them."""

    def __init__(self) -> None:
        self.taken: dict[tuple[str, int], dict[Place, int]] = defaultdict(lambda: defaultdict(int))
        self.refunded: dict[tuple[str, int], dict[Place, int]] = defaultdict(
            lambda: defaultdict(int)
        )
        self.total: dict[Place, int] = defaultdict(int)

    def book(self, owner: tuple[str, int], place: Place, taken: int, refunded: int) -> None:
        self.taken[owner][place] += taken
        self.refunded[owner][place] += refunded
        self.total[place] += taken - refunded
