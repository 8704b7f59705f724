"""One key on one node, by the rules alone: what it counted, what it owes, what it sends.

The arithmetic is exact (ints and fractions) and the code is plain: the compiled core is compared
with it. Each rule is a method of its own, so that a test can break one and check that a property
notices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from .bucket import Definition

Ns: TypeAlias = "int | Fraction"
ColumnId = tuple[str, int]


NOBODY = ""
"""A silent peer of which nothing ever comes."""


class Column(NamedTuple):
    generation: int
    taken: int
    refunded: int


Columns = dict[ColumnId, Column]


class Ledger(NamedTuple):
    """The refill that was wasted at full, and the charges that were forgiven at the ceiling, in ns
    since the start."""

    wasted: Ns
    forgiven: Ns


@dataclass
class Entry:
    columns: Columns
    tat: Ns
    owned: bool = False  # the own column in it was made by this very entry


class Gains(NamedTuple):
    """What a message brings, in ns of debt."""

    gained: Ns
    """What its sender has counted and this node has not."""
    stated: Ns
    unseen: Ns
    """What this node has counted and its sender has not."""
    silent: Ns
    """The part of `gained` in columns of owners that are silent here."""
    rest: Ns
    """The credit that is kept for silent owners of which the message brings nothing."""


@dataclass(frozen=True)
class Message:
    columns: Columns
    stated: Ns
    definition: Definition
    marks: frozenset[ColumnId]
    sender: str


class ModelNode:
    """A node with one key. `now` is ns of the node's own clock; `epochs` yields unused numbers."""

    def __init__(self, name: str, definition: Definition, epochs: Iterator[int]) -> None:
        self.name = name
        self.definition = definition
        self.epochs = epochs
        self.epoch = next(epochs)
        self.generations = 0
        self.entry: Entry | None = None
        self.far: Ns = 0
        self.owners: set[str] = {NOBODY}
        self.live: set[str] = set()
        self.marks: set[ColumnId] = set()
        self.wasted: Ns = 0
        self.forgiven: Ns = 0

    # --- the level ---
    @property
    def room(self) -> Ns:
        """The credit that a full bucket may keep for silent peers, in ns."""
        return self.definition.emission * self.far * len(self.owners)

    def clamp(self, debt: Ns) -> Ns:
        return min(max(debt, -self.room), self.definition.ceiling)

    def store(self, entry: Entry, debt: Ns, now: int) -> Ns:
        kept = self.clamp(debt)
        self.wasted += max(0, kept - debt)
        self.forgiven += max(0, debt - kept)
        entry.tat = now + kept
        return kept

    def advance(self, now: int) -> Ns:
        """The signed debt, stored: every operation that changes something begins here."""
        return 0 if self.entry is None else self.store(self.entry, self.entry.tat - now, now)

    def debt_ns(self, now: int) -> Ns:
        return 0 if self.entry is None else max(0, self.clamp(self.entry.tat - now))

    def credit_ns(self, now: int) -> Ns:
        return 0 if self.entry is None else max(0, -self.clamp(self.entry.tat - now))

    def peek(self, now: int) -> Fraction:
        return self.definition.tokens(self.debt_ns(now))

    # --- what is done here ---
    def admits(self, tokens: int, debt: Ns) -> bool:
        charged = min(max(debt + self.room, 0), self.definition.ceiling)
        return (
            charged + self.definition.emission * tokens
            <= self.definition.emission * self.definition.capacity
        )

    def take(self, tokens: int, now: int) -> bool:
        if tokens > self.definition.capacity:
            raise ValueError(f"a cost of {tokens} is above the capacity {self.definition.capacity}")
        if not self.admits(tokens, self.advance(now)):
            return False
        self.settle(tokens, now)
        return True

    def settle(self, tokens: int, now: int) -> None:
        """Charges without a decision; the debt saturates at the ceiling."""
        debt = self.advance(now)
        entry = self.own_entry(now)
        self.book(entry, tokens, 0)
        self.store(entry, debt + self.definition.emission * tokens, now)

    def mark(self) -> object:
        """What a refund needs from the moment just after its take."""
        return (self.epoch, self.generations, self.wasted, self.forgiven)

    def refund(self, tokens: int, now: int, mark: object) -> int:
        """Gives back at most `tokens`; returns the tokens that came back."""
        debt = self.advance(now)
        worth = self.refund_worth(tokens, mark)
        if worth and self.entry is not None:
            self.book(self.entry, 0, worth)
            self.store(self.entry, debt - self.definition.emission * worth, now)
        return worth

    def refund_worth(self, tokens: int, mark: object) -> int:
        assert isinstance(mark, tuple)
        epoch, generation, wasted, forgiven = mark
        if (
            self.entry is None
            or not self.entry.owned
            or (epoch, generation) != (self.epoch, self.generations)
        ):
            return 0
        if self.wasted > wasted:  # full since: the refill has given it back already
            return 0
        never_charged = -((forgiven - self.forgiven) // self.definition.emission)
        return max(0, tokens - int(never_charged))

    def own_entry(self, now: int) -> Entry:
        if self.entry is None:
            self.entry = Entry({}, now)
        if not self.entry.owned:
            self.generations += 1
            self.entry.columns[self.name, self.epoch] = Column(self.generations, 0, 0)
            self.entry.owned = True
        return self.entry

    def book(self, entry: Entry, taken: int, refunded: int) -> None:
        own = entry.columns[self.name, self.epoch]
        entry.columns[self.name, self.epoch] = Column(
            own.generation, own.taken + taken, own.refunded + refunded
        )

    # --- what is said and seen ---
    def message(self, now: int) -> Message | None:
        if self.entry is None:
            return None
        stated = self.stated(now)
        marks = frozenset(self.marks)
        return Message(dict(self.entry.columns), stated, self.definition, marks, self.name)

    def stated(self, now: int) -> Ns:
        """The debt that decisions go by: what is owed, and what is kept for silent peers of it."""
        if self.entry is None:
            return 0
        return min(max(0, self.clamp(self.entry.tat - now) + self.room), self.definition.ceiling)

    def join(self, a: Column, b: Column) -> Column:
        if a.generation != b.generation:
            return max(a, b)
        return Column(a.generation, max(a.taken, b.taken), max(a.refunded, b.refunded))

    def gain(self, column: Column, known: Column | None) -> int:
        """Tokens in `column` that a holder of `known` has not counted."""
        if known is None or known.generation != column.generation:
            return column.taken - column.refunded
        return max(0, column.taken - known.taken) - max(0, column.refunded - known.refunded)

    def merge(self, message: object, now: int) -> bool:
        """Merges an entry. True when the sender should be answered with the own one."""
        assert isinstance(message, Message)
        for dead in message.marks:
            self.forget(dead)
        if self.entry is None:
            if self.ignores(message):
                return False
            self.entry = Entry({}, now)
        theirs = {k: c for k, c in message.columns.items() if k not in self.marks}
        debt = self.merged_debt(self.entry, theirs, message, self.advance(now))
        doubt = self.doubts(self.entry, theirs)
        for key, column in theirs.items():
            mine = self.entry.columns.get(key)
            self.entry.columns[key] = column if mine is None else self.join(mine, column)
        if doubt:
            self.open_epoch()
            self.entry.owned = False
        answered = self.store(self.entry, debt, now) <= 0 < message.stated
        self.owners.discard(message.sender)  # a node that sends the key is not silent
        return answered

    def ignores(self, message: Message) -> bool:
        return message.stated == 0

    def merged_debt(self, entry: Entry, theirs: Columns, message: Message, debt: Ns) -> Ns:
        """The debt after a merge with `theirs`: the lesser of two upper bounds; across definitions
        a count alone."""
        emission, mine = self.definition.emission, entry.columns
        joined = {k: c if k not in mine else self.join(mine[k], c) for k, c in theirs.items()}
        gains = {k: self.gain(c, mine.get(k)) for k, c in joined.items()}
        stated = message.stated * emission / Fraction(message.definition.emission)
        if message.definition != self.definition:
            held = {
                k for k, c in joined.items() if k in mine and mine[k].generation == c.generation
            }
            counted = emission * sum(g for k, g in gains.items() if k in held)
            first_sight: Ns = emission * sum(g for k, g in gains.items() if k not in held)
            beyond: Ns = first_sight - stated
            self.forgiven += max(0, beyond)
            return debt + counted + min(first_sight, stated)
        brought = emission * sum(gains.values())
        unseen = emission * sum(self.gain(c, theirs.get(k)) for k, c in mine.items())
        silent = emission * sum(g for (owner, _), g in gains.items() if self.is_silent(owner))
        raised = {owner for (owner, e), c in joined.items() if mine.get((owner, e)) != c}
        rest = emission * self.far * len(self.owners - raised)
        return self.least(debt, Gains(brought, stated, unseen, silent, rest))

    def is_silent(self, owner: str) -> bool:
        return owner not in (self.name, *self.live)

    def least(self, debt: Ns, gains: Gains) -> Ns:
        seen = min(debt + gains.gained, gains.stated + gains.unseen)
        if debt < 0 < gains.silent and gains.stated > 0:
            # The credit must not hide a burst of those that it was kept for.
            floor = min(gains.stated, gains.silent, gains.stated + gains.unseen) - gains.rest
            seen = max(seen, floor)
        return seen

    def doubts(self, entry: Entry, theirs: Columns) -> bool:
        """True when another node has larger counts of this process than it has itself."""
        seen = theirs.get((self.name, self.epoch))
        if seen is None or seen.generation < self.generations:
            return False
        own = entry.columns.get((self.name, self.epoch)) if entry.owned else None
        return seen.generation > self.generations or (
            own is not None and self.join(own, seen) != own
        )

    # --- lives ---
    def open_epoch(self) -> None:
        self.epoch, self.generations = next(self.epochs), 0

    def evict(self, now: int) -> bool:
        if self.entry is None or self.advance(now) > 0:
            return False
        self.entry = None
        return True

    def restart(self, now: int) -> None:
        self.entry, self.live = None, set()
        self.open_epoch()

    def snapshot(self, now: int) -> object:
        return None if self.entry is None else (dict(self.entry.columns), self.debt_ns(now))

    def restore(self, snapshot: object, now: int) -> None:
        """A new process with an old memory, as if it received the last message of the old one only
        now.

        That debt is not aged, so it is a bound of what the old process knew, and is adopted like
        any other.
        """
        self.restart(now)
        if isinstance(snapshot, tuple):
            columns, debt = snapshot
            self.entry = Entry(dict(columns), now + debt)

    def forget(self, column: ColumnId) -> None:
        """Strips the column of a dead epoch and ignores it from now on; the level stays."""
        self.marks.add(column)
        if self.entry is not None:
            self.entry.columns.pop(column, None)

    def change_definition(self, definition: Definition, now: int) -> None:
        """Keeps the debt in tokens over a change of rate, in time over one of capacity."""
        debt = self.advance(now)
        scale = Fraction(definition.emission) / self.definition.emission
        self.definition = definition
        if self.entry is not None:
            self.store(self.entry, debt * scale, now)

    # --- for the observer ---
    def set_far(self, tokens: Ns, owners: Iterable[str] = (NOBODY,)) -> None:
        """Keeps a credit of so many tokens for each of these silent peers, and for no others."""
        self.far, self.owners = tokens, set(owners)

    def see(self, owner: str) -> None:
        """This peer is seen from now on."""
        self.live.add(owner)

    def columns(self) -> dict[ColumnId, tuple[int, int, int]]:
        return (
            {}
            if self.entry is None
            else {k: (c[0], c[1], c[2]) for k, c in self.entry.columns.items()}
        )

    def ledger(self) -> Ledger:
        return Ledger(self.wasted, self.forgiven)
