"""The compiled core as a `NodeUnderTest`: one key, through `Table`, `BucketCore` and the codec.

The credit for silent peers has no setter. So every entry has the rate of a phantom peer, which was
last seen long ago and advertised one token a second, and the time for which silence is trusted
makes the credit exactly what a history asks for. The phantom has no column of counts, so it affects
nothing else.

If the emission interval of a rate is no whole number of ns, levels are up to 1 ns low after each
operation: such a node returns `Close` fractions, which compare with that much slack. All others are
exact.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.model.bucket import Definition
from tests.model.node import NOBODY, Ledger, Ns
from tests.model.world import SECOND
from tests.tombstones import add_tombstone

KEY = "k"
PHANTOM, PHANTOM_EPOCH, LONG_AGO = 255, 2**64 - 1, -100_000 * SECOND
NEAR_NS = 1
"""The near horizon, so small that nothing is held back for the phantom within it."""
ONE_TOKEN_A_SECOND = 25 << 10
"""As rates are packed in frames: 6 bits of exponent from 2^-24, 10 of mantissa."""
NO_PLACE = 0xFFFF
SLACK_NS = 300


class Close(Fraction):
    """A fraction that equals others within a slack. Only assertions of this suite use it."""

    slack: Fraction

    def __new__(cls, value: Ns, slack: Fraction) -> Close:
        self = super().__new__(cls, value)
        self.slack = slack
        return self

    def __eq__(self, other: object) -> bool:
        return abs(Fraction(self) - Fraction(other)) <= self.slack  # type: ignore[arg-type]

    def __le__(self, other: object) -> bool:
        return Fraction.__le__(self, Fraction(other) + self.slack)  # type: ignore[arg-type]

    def __ge__(self, other: object) -> bool:
        return Fraction.__ge__(self, Fraction(other) - self.slack)  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return 0  # equal ones need the same hash


class Frame(NamedTuple):
    """What one node sends: the entry as bytes, and what its positions mean."""

    sender: str
    epoch: int
    origins: tuple[tuple[str, int], ...]
    definitions: tuple[tuple[int, int, int, int], ...]
    payload: bytes
    marks: frozenset[tuple[str, int]]


def spec_of(definition: Definition) -> BucketSpec:
    emission = Fraction(definition.emission)
    interval = emission.numerator / SECOND
    return BucketSpec(
        "b", definition.capacity, emission.denominator, interval, max_debt=definition.max_debt
    )


class CoreNode:
    """One key on one node of the compiled core; times are the node's own."""

    with_peers = True

    def __init__(self, name: str, definition: Definition, epochs: Iterator[int]) -> None:
        self.name, self.definition, self.epochs = name, definition, epochs
        self.exact = Fraction(definition.emission).denominator == 1
        self.ids: dict[str, int] = {name: 0}
        self.far: Ns = 0
        self.owners: set[str] = {NOBODY}
        self.marks: set[tuple[str, int]] = set()
        self.wasted: Ns = 0
        self.forgiven: Ns = 0
        self.last: Decision | None = None
        self.open()

    def open(self) -> None:
        """Starts a new process."""
        self.table = Table(
            max_keys=16, hash_key=bytes(16), virtual=True, grace=0.0, epoch=next(self.epochs)
        )
        spare = next(self.epochs, None)
        if spare is not None:
            self.table.epochs.spare(spare)
        self.table.nodes.configure(near_ns=NEAR_NS)
        self.bucket = self.defined()
        self.created: int | None = None
        self.phantom()
        self.set_far(self.far)
        for column in self.marks:
            self.strip(column)

    def defined(self) -> BucketCore:
        return BucketCore(self.table, spec_of(self.definition))

    def redefine(self) -> None:
        self.bucket.define(spec_of(self.definition))

    # --- the phantom peer ---
    def phantom(self) -> None:
        if self.with_peers:
            self.table.set_time(LONG_AGO)
            self.table.nodes.set_node(PHANTOM, PHANTOM_EPOCH, False)

    def haunt(self, now: int) -> None:
        """Gives the rates of the phantom to an entry that has just been made; its level stays."""
        if self.created is not None or not self.held:
            return
        self.created = now
        if self.with_peers:
            before = self.signed(now)
            self.state_rates(now, before)
            assert self.signed(now) == before

    def state_rates(
        self, now: int, debt: int = 0, owner: str = NOBODY, rate: int = ONE_TOKEN_A_SECOND
    ) -> None:
        """Merges an entry in which a silent peer advertises its rates; an entry that is made by
        this is full. There never was a link to that peer: else what was refilled in its silence
        would not be owed at the end, which tests/core/test_apart.py is about, and the model knows
        no such time."""
        node = PHANTOM if owner == NOBODY else self.id_of(owner)
        epoch = PHANTOM_EPOCH if owner == NOBODY else PHANTOM_EPOCH - node
        self.table.nodes.set_relayed(node, epoch, LONG_AGO)
        self.at(now)
        lo, hi = self.bucket.hash(KEY)
        rates = struct.pack("<HH", 0, rate)
        payload = struct.pack("<QQBB", lo, hi, 2, 0) + varint(max(1, debt)) + rates + b"\0"
        self.table.inbox.merge(
            payload,
            [self.slot()],
            array("H"),
            node=node,
            epoch=epoch,
            at=LONG_AGO,
        )

    def set_far(self, tokens: Ns, owners: Iterable[str] = (NOBODY,)) -> None:
        self.far = tokens
        if self.with_peers:
            self.table.nodes.configure(trust_ns=NEAR_NS + int(tokens) * SECOND)
        before, self.owners = self.owners, set(owners)
        if self.created is not None and before != self.owners:
            now = self.table.now()
            for owner in before - self.owners:
                self.state_rates(now, self.signed(now), owner, 0)
            for owner in self.owners - before:
                self.state_rates(now, self.signed(now), owner)

    def see(self, owner: str) -> None:
        self.table.nodes.set_node(self.id_of(owner), PHANTOM_EPOCH - self.id_of(owner), False)
        self.table.nodes.set_last_seen(self.id_of(owner), 2**60)

    def slot(self) -> tuple[int, int, int, int]:
        (slot, _, _, q, p) = self.table.definitions.current()[-1]
        return slot, True, q, p

    # --- the level ---
    @property
    def held(self) -> bool:
        return self.table.find(*self.bucket.hash(KEY)) >= 0

    @property
    def room(self) -> Ns:
        return self.definition.emission * self.far * len(self.owners)

    def at(self, now: int) -> None:
        self.table.set_time(now)

    def signed(self, now: int) -> int:
        """The debt as it is held, before any clamp."""
        self.at(now)
        return self.bucket.debt(KEY) or 0

    @property
    def rounding(self) -> Fraction:
        """Tokens by which a level in whole ns may be off; 0 where the emission interval is
        whole."""
        return Fraction(0 if self.exact else SLACK_NS) / Fraction(self.definition.emission)

    def ns(self, value: Ns) -> Ns:
        return value if self.exact else Close(value, Fraction(SLACK_NS))

    def debt_ns(self, now: int) -> Ns:
        self.at(now)
        answer = self.bucket.peek(KEY)
        return self.ns(answer.debt if self.exact else round(answer.reset_after * SECOND))

    def credit_ns(self, now: int) -> Ns:
        return self.ns(max(0, -max(self.signed(now), -self.room)))

    def peek(self, now: int) -> Fraction | int:
        self.at(now)
        answer = self.bucket.peek(KEY)
        level = self.definition.tokens(answer.debt)
        assert answer.remaining - max(0, level) <= 1e-6
        if self.exact:
            return level
        return Close(level, Fraction(SLACK_NS) / Fraction(self.definition.emission))

    def waste(self, now: int) -> None:
        """Counts as wasted what the advance of the next operation will throw away."""
        if self.held:
            self.wasted += max(0, -self.room - self.signed(now))

    # --- what is done here ---
    def take(self, tokens: int, now: int) -> bool:
        self.waste(now)
        if not self.held and self.far and not self.would_admit(tokens, now):
            return False
        self.at(now)
        decision = self.bucket.take(KEY, tokens)
        self.haunt(now)
        self.last = decision
        return decision.allowed

    def would_admit(self, tokens: int, now: int) -> bool:
        """Makes an entry first: without one a key keeps nothing free, and the rule is about
        entries."""
        probe = CoreNode(self.name, self.definition, iter([1]))
        probe.set_far(self.far)
        probe.state_rates(now)
        return bool(probe.bucket.take(KEY, tokens).allowed)

    def settle(self, tokens: int, now: int) -> None:
        self.waste(now)
        if not tokens:
            return
        self.at(now)
        before = self.signed(now)
        self.bucket.settle(KEY, tokens)
        due = max(before, -self.room) + self.definition.emission * tokens
        self.forgiven += max(0, due - self.definition.ceiling)
        self.haunt(now)

    def mark(self) -> object:
        return self.last

    def refund(self, tokens: int, now: int, mark: object) -> int:
        assert isinstance(mark, Decision)
        if mark.bucket is not self.bucket:
            return 0
        self.waste(now)
        before = max(self.signed(now), -self.room)
        worth = self.bucket.refund(mark, tokens)
        self.wasted += max(0, -self.room - (before - self.definition.emission * worth))
        return worth

    # --- what is said and heard ---
    def id_of(self, name: str) -> int:
        return self.ids.setdefault(name, len(self.ids))

    def announced(self) -> tuple[tuple[tuple[str, int], ...], array[int]]:
        names = {i: name for name, i in self.ids.items()} | {PHANTOM: "phantom"}
        rows = [(o, names[n], e) for o, n, e, marked in self.table.epochs.origins() if not marked]
        places = array("H", [NO_PLACE]) * 512
        for place, (origin, _, _) in enumerate(rows):
            places[origin] = place
        return tuple((name, epoch) for _, name, epoch in rows), places

    def message(self, now: int) -> object | None:
        if not self.held:
            return None
        self.at(now)
        origins, places = self.announced()
        entry = array("I", [self.table.find(*self.bucket.hash(KEY))])
        payload, _, _ = self.table.outbox.encode_entries(entry, 0, places, 65536)
        definitions = tuple(self.table.definitions.all())
        marks = frozenset(self.marks)
        return Frame(self.name, self.table.epochs.running, origins, definitions, payload, marks)

    def understood(self, frame: Frame) -> tuple[list[tuple[int, int, int, int]], array[int]]:
        origins = array("H")
        for name, epoch in frame.origins:
            node = PHANTOM if epoch == PHANTOM_EPOCH else self.id_of(name)
            origins.append(self.table.epochs.origin(node, epoch))
        mine = {row[1]: row for row in self.table.definitions.current()}
        slots = [(mine[n][0], mine[n][2] == h, q, p) for n, h, q, p in frame.definitions]
        return slots, origins

    def merge(self, message: object, now: int) -> bool:
        assert isinstance(message, Frame)
        for dead in message.marks:
            self.forget(dead)
        self.waste(now)
        self.at(now)
        slots, origins = self.understood(message)
        forgiven, known = self.counted_forgiven(), self.columns()
        heard = self.table.inbox.merge(
            message.payload,
            slots,
            origins,
            node=self.id_of(message.sender),
            epoch=message.epoch,
            at=now,
        )
        assert heard.dropped == heard.refused_columns == heard.unknown_bucket == 0
        self.forgiven += self.definition.emission * (self.counted_forgiven() - forgiven)
        self.forgiven += self.first_sight_forgiven(message, slots, known)
        if heard.duplicate_epoch:
            spare = next(self.epochs, None)
            if spare is not None:
                self.table.epochs.spare(spare)
        self.haunt(now)
        self.owners.discard(message.sender)  # a node that sends the key is not silent
        return len(heard.answers) > 0

    def first_sight_forgiven(
        self,
        frame: Frame,
        slots: list[tuple[int, int, int, int]],
        known: dict[tuple[str, int], tuple[int, int, int]],
    ) -> Ns:
        """The charge that is forgiven for columns of another definition: no more is charged for new
        ones than is stated."""
        place, at = take_varint(frame.payload, 17)
        stated, _ = take_varint(frame.payload, at)
        _, same, q, p = slots[place]
        if same:
            return 0
        tokens = sum(
            taken - refunded
            for column, (generation, taken, refunded) in self.columns().items()
            if column not in known or known[column][0] != generation
        )
        return self.definition.emission * max(Fraction(0), tokens - Fraction(stated * p, q))

    def counted_forgiven(self) -> int:
        return int(self.bucket.counters()["forgiven"])

    # --- lives ---
    def evict(self, now: int) -> bool:
        """Does what the sweep of a table does when the last peer that took has been forgotten."""
        if self.created is None:
            return False
        self.at(self.created)
        # No time has passed for the averages, so no rates are left behind.
        self.table.outbox.collect()
        self.at(now)
        self.table.outbox.trim(self.table.outbox.version)
        if self.signed(now) <= 0:
            self.lose_the_phantom()
            self.at(max(now, self.created + 1))
        gone = bool(self.table.sweep())
        if gone:
            self.created = None
        self.phantom()
        self.at(now)
        return gone

    def lose_the_phantom(self) -> None:
        if self.with_peers:
            self.table.nodes.configure(trust_ns=NEAR_NS)
            self.table.nodes.forget(PHANTOM)
            self.table.nodes.configure(trust_ns=NEAR_NS + int(self.far) * SECOND)

    def restart(self, now: int) -> None:
        self.open()

    def snapshot(self, now: int) -> object:
        self.at(now)
        origins, places = self.announced()
        payload, _, _ = self.table.outbox.encode_table(0, places, 65536)
        definitions = tuple(self.table.definitions.all())
        return Frame(
            self.name, self.table.epochs.running, origins, definitions, payload, frozenset()
        )

    def restore(self, snapshot: object, now: int) -> None:
        self.restart(now)
        assert isinstance(snapshot, Frame)
        self.at(now)
        slots, origins = self.understood(snapshot)
        self.table.inbox.restore(snapshot.payload, slots, origins)
        self.haunt(now)

    def forget(self, column: tuple[str, int]) -> None:
        self.marks.add(column)
        self.strip(column)

    def strip(self, column: tuple[str, int]) -> None:
        name, epoch = column
        self.table.epochs.origin(self.id_of(name), epoch)
        add_tombstone(self.table, epoch)

    def change_definition(self, definition: Definition, now: int) -> None:
        self.waste(now)
        before = Fraction(self.signed(now)) / self.definition.emission
        self.exact &= Fraction(definition.emission).denominator == 1
        self.definition = definition
        self.redefine()
        self.at(now)
        self.bucket.peek(KEY)
        after = Fraction(self.signed(now)) / definition.emission
        if self.held and after >= 0:
            self.forgiven += definition.emission * max(Fraction(0), before - after)

    # --- for the observer ---
    def columns(self) -> dict[tuple[str, int], tuple[int, int, int]]:
        names = {i: name for name, i in self.ids.items()}
        return {(names[n], e): c for (n, e), c in self.bucket.columns(KEY).items()}

    def ledger(self) -> Ledger:
        return Ledger(self.wasted, self.forgiven)


class StagedCoreNode(CoreNode):
    """A node whose definition is a candidate for all keys, beside one that decides on none."""

    def defined(self) -> BucketCore:
        bucket = BucketCore(self.table, BucketSpec("b", 7, 13, "3s"))
        bucket.stage(spec_of(self.definition), 1.0)
        self.changes = 0
        return bucket

    def redefine(self) -> None:
        self.changes += 1
        if self.changes % 2:
            self.bucket.unstage(keep=True)
        self.bucket.stage(spec_of(self.definition), 1.0)

    def slot(self) -> tuple[int, int, int, int]:
        slot, *_ = super().slot()
        return slot, 2, *spec_of(self.definition).emission

    def understood(self, frame: Frame) -> tuple[list[tuple[int, int, int, int]], array[int]]:
        slots, origins = super().understood(frame)
        mine = self.table.definitions.candidates()
        same = [2 * (mine[name] == digest) for name, digest, _, _ in frame.definitions]
        return [(slot, s, q, p) for (slot, _, q, p), s in zip(slots, same, strict=True)], origins


class LoneCoreNode(CoreNode):
    """A node without the rates of any peer, where a take needs no prediction; it can hold no
    credit."""

    with_peers = False

    def set_far(self, tokens: Ns, owners: Iterable[str] = (NOBODY,)) -> None:
        if tokens:
            raise ValueError("no peer, no credit")
        super().set_far(tokens, owners)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def take_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
