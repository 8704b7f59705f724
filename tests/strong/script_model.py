"""A Redis with the script, in memory and in fractions: the oracle of the script.

It follows the same rules and shares no arithmetic with the script, so that a comparison is
meaningful. Its clock is an argument, which may be set back as that of a real server may.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from crdtbucket.strong.redis.script import Arguments, Column, ScriptAnswer, ScriptCall, ScriptStatus

MANY_RECORDS = 64
LONGEST_NS = 2**62 // 10**9 * 10**9


@dataclass
class Record:
    """The stored column of one process. `fence`: that of its newest connection; `seen_s`: when it
    last rose."""

    generation: int
    taken: int
    refunded: int
    fence: int = 0
    seen_s: int = 0


@dataclass
class Entry:
    """One key: `debt` in ns as of `at_us`, in a bucket whose token takes `emission` ns. `most`: the
    ceiling of the call under way."""

    at_us: int
    debt: Fraction
    emission: Fraction
    records: dict[bytes, Record] = field(default_factory=dict)
    expires_ms: int = 0
    most: Fraction = Fraction(0)


class ScriptModel:
    """Does what `script.lua` does, on keys in memory. Calls run one after another, as there."""

    def __init__(self, clock_us: Callable[[], int]) -> None:
        """`clock_us` returns the time of this Redis in microseconds, which may go back."""
        self._clock_us = clock_us
        self.entries: dict[bytes, Entry] = {}

    def run(self, arguments: Arguments, call: ScriptCall) -> ScriptAnswer:
        """Runs one call and returns its answer."""
        now_us = self._clock_us()
        held = self.held(call.key)
        entry = _advanced(held, arguments, now_us)
        own = entry.records.get(call.owner)
        if own is not None and own.fence > call.fence:
            return _answer(ScriptStatus.FENCED, entry, call)
        if call.others is None and _must_compare(own, arguments, call):
            return _answer(ScriptStatus.UNKNOWN, entry, call)

        before = {owner: copy.copy(record) for owner, record in entry.records.items()}
        comparable = held is None or held.emission == entry.emission
        adopted = _merge(entry, arguments, call, comparable)
        status = _decide(entry, arguments, call)
        changed = {e: r for e, r in entry.records.items() if before.get(e) != r}
        for record in changed.values():
            record.seen_s = now_us // 1_000_000
        set_back = held is not None and now_us < held.at_us
        if changed or adopted or set_back or not comparable:
            if changed.keys() - before.keys():
                _forget_old(entry, arguments.retention_ms, now_us)
            entry.expires_ms = now_us // 1000 + ttl_ms(entry, arguments)
            self.entries[call.key] = entry
        return _answer(status, entry, call)

    def held(self, key: bytes) -> Entry | None:
        """The entry of a key; None when there is none or it has expired."""
        entry = self.entries.get(key)
        if entry is not None and entry.expires_ms <= self._clock_us() // 1000:
            del self.entries[key]
            return None
        return entry

    def snapshot(self) -> dict[bytes, Entry]:
        """All keys as they are now, for `restore`."""
        return copy.deepcopy(self.entries)

    def restore(self, entries: Mapping[bytes, Entry]) -> None:
        """Does what happens when a replica that was behind becomes the primary."""
        self.entries = copy.deepcopy(dict(entries))

    def flush(self) -> None:
        """FLUSHALL, or a server that came back empty."""
        self.entries.clear()


def ttl_ms(entry: Entry, arguments: Arguments) -> int:
    """How long the key lives after a change: until its bucket is full, and then the retention."""
    return math.floor(entry.debt / 1_000_000) + 1 + arguments.retention_ms


def _emission(arguments: Arguments) -> Fraction:
    return Fraction(arguments.q, arguments.p)


def _clamped(debt: Fraction, entry: Entry) -> Fraction:
    return min(max(debt, Fraction(0)), entry.most)


def rescaled(debt: Fraction, old: Fraction, new: Fraction) -> Fraction:
    """The same tokens of debt after the emission changed, in whole ns, rounded up. The script does
    this in doubles, and may come out higher by 2^-48 of it and a ns."""
    return Fraction(math.ceil(debt / old * new))


def _advanced(held: Entry | None, arguments: Arguments, now_us: int) -> Entry:
    """The key as of now, under this definition. A clock that was set back lets no time pass."""
    emission = _emission(arguments)
    ceiling = emission * (arguments.capacity + arguments.max_debt)
    if held is None:
        return Entry(now_us, Fraction(0), emission, most=ceiling)
    passed = max(0, now_us - held.at_us) * 1000
    debt = max(held.debt - passed, Fraction(0))
    if held.emission != emission:
        debt = rescaled(debt, held.emission, emission)
    records = {owner: copy.copy(record) for owner, record in held.records.items()}
    # What is owed under a higher ceiling stays owed, up to what the core can count.
    most = max(ceiling, debt) if debt < LONGEST_NS else ceiling
    return Entry(now_us, min(debt, most), emission, records, held.expires_ms, most)


def _gain(news: Record | Column, known: Record | Column | None) -> int:
    """Tokens in `news` that a holder of `known` has not counted."""
    if known is None or known.generation != news.generation:
        return news.taken - news.refunded
    return max(0, news.taken - known.taken) - max(0, news.refunded - known.refunded)


def _joined(column: Column, record: Record | None) -> Record | None:
    """The record merged with a column: the higher generation wins whole. None for no counts."""
    if record is None:
        counts = column.taken or column.refunded
        return Record(column.generation, column.taken, column.refunded) if counts else None
    if record.generation > column.generation:
        return copy.copy(record)
    taken, refunded = column.taken, column.refunded
    if record.generation == column.generation:
        taken, refunded = max(taken, record.taken), max(refunded, record.refunded)
    return Record(column.generation, taken, refunded, record.fence, record.seen_s)


def _must_compare(own: Record | None, arguments: Arguments, call: ScriptCall) -> bool:
    """Whether the column alone does not show what is owed, since refill has paid a part of older
    takes."""
    column = Column(call.owner, call.generation, call.taken, call.refunded)
    if own is None:
        return call.taken > call.refunded and call.debt_ns > 0
    brings = 0 if own.generation > call.generation else _gain(column, own)
    most = arguments.capacity + arguments.max_debt
    return brings > 0 and _emission(arguments) * min(brings, most) > call.debt_ns


def _merge(entry: Entry, arguments: Arguments, call: ScriptCall, comparable: bool) -> bool:
    """Raises the records and the debt by what the caller brings; returns whether the level of the
    caller was adopted."""
    own = Column(call.owner, call.generation, call.taken, call.refunded)
    columns = {column.owner: column for column in (own, *(call.others or ()))}
    before = dict(entry.records)
    brings = strange = 0
    for owner, column in columns.items():
        known = before.get(owner)
        joined = _joined(column, known)
        gain = _gain(joined, known) if joined else column.taken - column.refunded
        if known is not None and known.generation >= column.generation:
            brings += gain
        else:
            strange += gain
        if joined:
            joined.fence = max(joined.fence, call.fence if owner == call.owner else 0)
            entry.records[owner] = joined
    if call.others is None:
        if call.owner in before:
            entry.debt = _clamped(entry.debt + entry.emission * (brings + strange), entry)
        return False  # all that a new owner shows is that it states no debt
    stated = Fraction(call.debt_ns)
    debt = _clamped(entry.debt + entry.emission * brings, entry)
    debt = _clamped(debt + min(entry.emission * strange, stated), entry)
    adopted = debt
    if comparable:
        lacks = sum(_gain(record, columns.get(owner)) for owner, record in before.items())
        adopted = _clamped(_clamped(stated, entry) + entry.emission * lacks, entry)
    entry.debt = min(debt, adopted)
    return adopted < debt


def _decide(entry: Entry, arguments: Arguments, call: ScriptCall) -> ScriptStatus:
    if call.cost == 0:
        return ScriptStatus.ALLOWED
    after = entry.debt + entry.emission * call.cost
    if math.floor(after - entry.emission * arguments.capacity) > 0:
        return ScriptStatus.DENIED
    entry.debt = _clamped(after, entry)
    fresh = Record(call.generation, 0, 0, call.fence)
    entry.records.setdefault(call.owner, fresh).taken += call.cost
    return ScriptStatus.ALLOWED


def _forget_old(entry: Entry, retention_ms: int, now_us: int) -> None:
    """Drops records that have not changed for the retention, if there are more than a number of
    them."""
    if len(entry.records) > MANY_RECORDS:
        oldest = Fraction(now_us // 1_000_000) - Fraction(retention_ms, 1000)
        kept = {e: r for e, r in entry.records.items() if r.seen_s >= oldest}
        entry.records = kept


def _answer(status: ScriptStatus, entry: Entry, call: ScriptCall) -> ScriptAnswer:
    own = entry.records.get(call.owner, Record(0, 0, 0))
    whole = call.others is not None and status in (ScriptStatus.ALLOWED, ScriptStatus.DENIED)
    columns = tuple(Column(e, r.generation, r.taken, r.refunded) for e, r in entry.records.items())
    debt_ns = math.ceil(entry.debt)
    return ScriptAnswer(status, debt_ns, own.taken, own.refunded, columns if whole else ())
