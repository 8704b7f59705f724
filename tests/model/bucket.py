"""The ideal bucket, which sees every take at once, in exact arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Definition:
    """What a bucket may hold. `emission` is ns a token, exact; `max_debt` is in tokens."""

    capacity: int
    emission: int | Fraction
    max_debt: int

    @property
    def ceiling(self) -> int | Fraction:
        """The largest debt in ns: a full capacity and `max_debt` more."""
        return self.emission * (self.capacity + self.max_debt)

    def tokens(self, debt_ns: int | Fraction) -> Fraction:
        """The level that a debt in ns leaves, in tokens."""
        return self.capacity - Fraction(debt_ns) / self.emission


class IdealBucket:
    """A bucket of one definition on one clock; `now` is ns of that clock and never goes back."""

    def __init__(self, definition: Definition, now: int) -> None:
        self.definition = definition
        self.tat: int | Fraction = now

    def debt_ns(self, now: int) -> int | Fraction:
        return min(max(self.tat - now, 0), self.definition.ceiling)

    def tokens(self, now: int) -> Fraction:
        return self.definition.tokens(self.debt_ns(now))

    def charge(self, tokens: int, now: int) -> None:
        """Books consumption, negative for a refund; it saturates at both ends."""
        self.tat = now + self.debt_ns(now) + self.definition.emission * tokens
        self.tat = now + self.debt_ns(now)
