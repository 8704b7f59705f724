"""Planted bugs: each class breaks one rule of the model."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from .bucket import Definition
from .node import Column, Columns, Entry, Gains, Message, ModelNode, Ns
from .world import MILLISECOND


class ScalarMaximum(ModelNode):
    """One total for each key, merged by maximum."""

    def merged_debt(self, entry: Entry, theirs: Columns, message: Message, debt: Ns) -> Ns:
        mine = sum(c.taken for c in entry.columns.values())
        gains = max(0, sum(c.taken for c in theirs.values()) - mine)
        return debt + self.definition.emission * gains


class NoAdoption(ModelNode):
    def least(self, debt: Ns, gains: Gains) -> Ns:
        return debt + gains.gained


class BurstHidden(ModelNode):
    def least(self, debt: Ns, gains: Gains) -> Ns:
        return min(debt + gains.gained, gains.stated + gains.unseen)


class AnybodySpendsTheCredit(ModelNode):
    """Gains of nodes that were never silent, too, spend the credit at the end of a partition."""

    def is_silent(self, owner: str) -> bool:
        return owner != self.name


class OneSpendsTheCreditOfAll(ModelNode):
    """The first silent node that is seen again spends the credit of the others, too."""

    def least(self, debt: Ns, gains: Gains) -> Ns:
        return super().least(debt, gains._replace(rest=0))


class NoAdvance(ModelNode):
    """Debt may fall without end while nothing happens."""

    def advance(self, now: int) -> Ns:
        return 0 if self.entry is None else self.entry.tat - now


class StatementAged(ModelNode):
    def stated(self, now: int) -> Ns:
        return max(0, super().stated(now) - 50 * MILLISECOND)


class CreditStated(ModelNode):
    """A bucket that is full for as long as its credit lasts, whatever is taken from it."""

    def stated(self, now: int) -> Ns:
        return self.debt_ns(now)


class PredictionStated(ModelNode):
    """The stated debt includes all that is kept for silent peers, even in a full bucket."""

    def stated(self, now: int) -> Ns:
        return min(self.debt_ns(now) + self.room, self.definition.ceiling) if self.entry else 0


class NoCeiling(ModelNode):
    def clamp(self, debt: Ns) -> Ns:
        return max(debt, -self.room)


class EpochReused(ModelNode):
    def restart(self, now: int) -> None:
        self.entry, self.generations = None, 0


class GenerationNotCounted(ModelNode):
    def own_entry(self, now: int) -> Entry:
        self.generations = 0 if self.entry is None else self.generations
        return super().own_entry(now)


class GenerationsMixed(ModelNode):
    """Counts of two generations are merged as if they were one."""

    def join(self, a: Column, b: Column) -> Column:
        return Column(
            max(a.generation, b.generation), max(a.taken, b.taken), max(a.refunded, b.refunded)
        )


class NewGenerationCountsTheDifference(ModelNode):
    def gain(self, column: Column, known: Column | None) -> int:
        return super().gain(column, known._replace(generation=column.generation) if known else None)


class LastWriterWins(ModelNode):
    def join(self, a: Column, b: Column) -> Column:
        return b


class EarlyEviction(ModelNode):
    def evict(self, now: int) -> bool:
        had, self.entry = self.entry is not None, None
        return had


class RefundAfterFull(ModelNode):
    def mark(self) -> object:
        return (self.epoch, self.generations, float("inf"), self.forgiven)


class RefundOfTheForgiven(ModelNode):
    def refund_worth(self, tokens: int, mark: object) -> int:
        assert isinstance(mark, tuple)
        return super().refund_worth(tokens, (*mark[:3], self.forgiven))


class RefundNotBooked(ModelNode):
    def book(self, entry: Entry, taken: int, refunded: int) -> None:
        super().book(entry, taken, 0)


class LessForLessOrEqual(ModelNode):
    def admits(self, tokens: int, debt: Ns) -> bool:
        return super().admits(tokens, debt + Fraction(1, 10**9))


class CreditSpentTwice(ModelNode):
    def admits(self, tokens: int, debt: Ns) -> bool:
        return super().admits(tokens, debt - self.room)


class PeekStores(ModelNode):
    def debt_ns(self, now: int) -> Ns:
        return max(0, self.advance(now))


class FullNotSilent(ModelNode):
    def ignores(self, message: Message) -> bool:
        return False


class FullGivesNoAnswer(ModelNode):
    def merge(self, message: object, now: int) -> bool:
        super().merge(message, now)
        return False


class OnlyOwnColumnSent(ModelNode):
    """Columns of others are not sent back, so nobody sees what the sender knows."""

    def message(self, now: int) -> Message | None:
        whole = super().message(now)
        if whole is None:
            return None
        own = {k: c for k, c in whole.columns.items() if k[0] == self.name}
        return replace(whole, columns=own)


class AdoptsAcrossDefinitions(ModelNode):
    def merge(self, message: object, now: int) -> bool:
        assert isinstance(message, Message)
        scale = Fraction(self.definition.emission) / message.definition.emission
        stated = message.stated * scale
        return super().merge(replace(message, stated=stated, definition=self.definition), now)


class RateChangeKeepsTime(ModelNode):
    def change_definition(self, definition: Definition, now: int) -> None:
        self.advance(now)
        self.definition = definition


class SnapshotAdoptsOutright(ModelNode):
    """The restored debt is dropped for the first one that a peer states, so that history counts."""

    restored = False

    def restore(self, snapshot: object, now: int) -> None:
        super().restore(snapshot, now)
        self.restored = True

    def least(self, debt: Ns, gains: Gains) -> Ns:
        outright, self.restored = self.restored, False
        return gains.stated + gains.unseen if outright else super().least(debt, gains)


class SnapshotWithoutDebt(ModelNode):
    def restore(self, snapshot: object, now: int) -> None:
        super().restore(snapshot, now)
        if self.entry is not None:
            self.entry.tat = now


class PruneMovesTheLevel(ModelNode):
    def forget(self, column: tuple[str, int]) -> None:
        held = self.entry.columns.get(column) if self.entry is not None else None
        super().forget(column)
        if held is not None and self.entry is not None:
            self.entry.tat -= self.definition.emission * (held.taken - held.refunded)
