"""Merges what all holders know of one key, and says what each of them lacks. Pure, and exact.

A holder is a node or Redis. Columns merge by maximum, as everywhere (docs/model.md): nothing is
lowered, and the order of the holders does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

Owner = tuple[str, int]
"""A process: the name of its node, and its epoch."""
Column = tuple[int, int, int]
"""The generation, the tokens taken, and the tokens refunded."""
Columns = Mapping[Owner, Column]


@dataclass(frozen=True)
class HeldKey:
    """A key as one holder has it: its columns, and the tokens that it says are owed."""

    columns: Columns
    debt: Fraction
    comparable: bool = True
    """Whether the debt is in the bucket's definition of the file, so that others may adopt it."""


@dataclass(frozen=True)
class Lack:
    """The tokens of a key that one holder has not counted: `taken` ones, and `refunded` ones."""

    taken: int = 0
    refunded: int = 0

    def __bool__(self) -> bool:
        return bool(self.taken or self.refunded)


@dataclass(frozen=True)
class MergedKey:
    """All that is known of a key.

    `owed`: tokens below full, at most, were there no ceiling: the least, over the holders, of the
    debt that a holder states and what it has not counted. `debt`: the same up to the ceiling.
    """

    columns: Columns
    owed: Fraction
    capacity: int
    ceiling: int
    """capacity + max_debt, in tokens."""

    @property
    def debt(self) -> Fraction:
        """Tokens that are owed after the merge."""
        return min(self.owed, Fraction(self.ceiling))

    @property
    def over(self) -> int:
        """Tokens admitted beyond the limit, at most: what is owed below an empty bucket."""
        return max(0, math.ceil(self.owed - self.capacity))

    @property
    def forgiven(self) -> int:
        """Tokens of those that lie beyond the ceiling of debt, and are never charged."""
        return max(0, math.ceil(self.owed - self.ceiling))

    def lack(self, held: HeldKey | None) -> Lack:
        """What a holder lacks. One that does not have the key lacks no more than is owed: it was
        full there, and history costs nothing."""
        if held is None:
            return Lack(math.ceil(self.debt))
        taken = refunded = 0
        for owner, column in self.columns.items():
            more, back = _uncounted(column, held.columns.get(owner))
            taken, refunded = taken + more, refunded + back
        return Lack(taken, refunded)

    def charge(self, held: HeldKey | None) -> int:
        """Tokens by which a holder's debt rises when it learns the rest, to the nearest."""
        return max(0, round(self.debt - (held.debt if held is not None else 0)))


def merge_key(holders: Iterable[HeldKey], capacity: int, ceiling: int) -> MergedKey:
    """Merges what all holders of a key know; there is one holder at least."""
    held = list(holders)
    columns: dict[Owner, Column] = {}
    for one in held:
        for owner, column in one.columns.items():
            columns[owner] = highest(column, columns.get(owner))
    stating = [one for one in held if one.comparable] or held
    owed = min(one.debt + _gain(columns, one.columns) for one in stating)
    return MergedKey(columns, max(owed, Fraction(0)), capacity, ceiling)


def highest(one: Column, other: Column | None) -> Column:
    """Merges two columns of an owner: the higher generation wins whole."""
    if other is None or one[0] != other[0]:
        return one if other is None else max(one, other)
    return one[0], max(one[1], other[1]), max(one[2], other[2])


def _uncounted(column: Column, held: Column | None) -> tuple[int, int]:
    """Tokens taken and refunded in the merged column that the holder has not counted."""
    generation, taken, refunded = column
    if held is None or held[0] != generation:
        return taken, refunded
    return taken - held[1], refunded - held[2]


def _gain(merged: Columns, held: Columns) -> int:
    uncounted = (_uncounted(column, held.get(owner)) for owner, column in merged.items())
    return sum(taken - refunded for taken, refunded in uncounted)
