"""What one key must be, in exact arithmetic: on one node alone, and on nodes that merge each
other's entries.

The rules are plain, on ints and fractions. Nothing here comes from the compiled core.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from tests.model.bucket import Definition

Ns = Fraction


@dataclass
class Oracle:
    """One key on one node. `tat`: when it will be full. The ledger is in ns, except for tokens."""

    rate: Definition
    tat: Ns
    taken: int = 0
    refunded: int = 0
    wasted: Ns = Fraction(0)
    fills: int = 0
    """How often refill was thrown away: a refund of a take before the last time is worth
    nothing."""

    def debt(self, now: int) -> Ns:
        return min(max(self.tat - now, Fraction(0)), self.rate.ceiling)

    def tokens(self, now: int) -> Fraction:
        return self.rate.capacity - self.debt(now) / self.rate.emission

    def advance(self, now: int) -> None:
        if self.tat < now:
            self.wasted += now - self.tat
            self.tat = Fraction(now)
            self.fills += 1

    def over(self, cost: int, now: int) -> Ns:
        """The time until `cost` tokens are there; 0 or below: they are."""
        return self.debt(now) - self.rate.emission * (self.rate.capacity - cost)

    def charge(self, tokens: int, now: int) -> None:
        self.advance(now)
        self.tat += self.rate.emission * tokens
        self.taken += tokens

    def settle(self, tokens: int, now: int) -> int:
        """Charges the whole tokens that fit above the floor, and forgives the others."""
        self.advance(now)
        room = math.floor((self.rate.ceiling - self.debt(now)) / self.rate.emission)
        charged = min(tokens, room)
        self.charge(charged, now)
        return charged

    def refund(self, tokens: int, fills: int, now: int) -> int:
        """Refunds `tokens` of a take that was made when `fills` was this; returns what they are
        worth."""
        self.advance(now)
        if self.fills != fills:
            return 0
        self.tat -= self.rate.emission * tokens
        self.refunded += tokens
        self.advance(now)
        return tokens

    def change(self, rate: Definition, now: int) -> None:
        """Changes the rate; the debt in tokens stays."""
        self.advance(now)
        debt = self.debt(now) / self.rate.emission * rate.emission
        self.tat = now + min(debt, rate.ceiling)
        self.rate = rate


class Column(NamedTuple):
    generation: int
    taken: int
    refunded: int

    @property
    def net(self) -> int:
        return self.taken - self.refunded


def gain(stated: Column, known: Column | None) -> int:
    """Tokens in `stated` that a holder of `known` has not counted."""
    if known is None or known.generation != stated.generation:
        return stated.net
    taken = max(0, stated.taken - known.taken)
    return taken - max(0, stated.refunded - known.refunded)


def joined(a: Column, b: Column | None) -> Column:
    if b is None or a.generation > b.generation:
        return a
    if b.generation > a.generation:
        return b
    return Column(a.generation, max(a.taken, b.taken), max(a.refunded, b.refunded))


class Statement(NamedTuple):
    columns: dict[int, Column]
    debt: Ns


@dataclass
class Member:
    """One key on one node of a mesh: columns by epoch, and the level by the merge rules."""

    rate: Definition
    epoch: int
    columns: dict[int, Column] = field(default_factory=dict)
    tat: Ns = Fraction(0)
    held: bool = False
    generations: int = 0

    def debt(self, now: int) -> Ns:
        debt = max(self.tat - now, Fraction(0)) if self.held else Fraction(0)
        return min(debt, self.rate.ceiling)

    def create(self, now: int) -> None:
        if not self.held:
            self.held, self.tat, self.generations = True, Fraction(now), self.generations + 1
            self.columns = {self.epoch: Column(self.generations, 0, 0)}

    def evict(self) -> None:
        self.held, self.columns = False, {}

    def charge(self, tokens: int, now: int) -> None:
        """Charges tokens; negative ones are a refund."""
        self.create(now)
        own = self.columns[self.epoch]
        self.tat = now + self.debt(now) + self.rate.emission * tokens
        self.tat = now + self.debt(now)
        more = Column(own.generation, own.taken + max(tokens, 0), own.refunded + max(-tokens, 0))
        self.columns[self.epoch] = more

    def statement(self, now: int, places: set[int] | None = None) -> Statement:
        """The entry that it sends; debts are in whole ns, rounded up."""
        known = {k: c for k, c in self.columns.items() if places is None or k in places}
        return Statement(known, Fraction(math.ceil(self.debt(now))))

    def merge(self, stated: Statement, now: int) -> None:
        if not self.held and not stated.debt:
            return
        self.create(now)
        mine, theirs = self.columns, stated.columns
        both = {k: joined(c, mine.get(k)) for k, c in theirs.items()}
        brings = sum(gain(c, mine.get(k)) for k, c in both.items())
        lacks = sum(gain(c, theirs.get(k)) for k, c in mine.items())
        count = self.debt(now) + self.rate.emission * brings
        adopt = stated.debt + self.rate.emission * lacks
        self.columns = {**mine, **both}
        self.tat = now + min(count, adopt)
        self.tat = now + self.debt(now)
