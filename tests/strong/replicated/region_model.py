"""What the script for a replicated Redis does, in fractions: the oracle of `replicated.lua`.

The hash of a key is a dict of values that never change, so that a copy of it, whole or of some
fields, is another dict. Only rates and reserves are computed in doubles, step by step as the script
does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from crdtbucket.strong.redis.replicated import ReplicatedArguments
from crdtbucket.strong.redis.script import Column, ScriptAnswer, ScriptCall, ScriptStatus

NS = 10**9
MANY = 64
LONGEST_NS = 2**62 // NS * NS
NEAR_US, SLACK_US, SLOT_US, TAU_US = 500_000, 1_000_000, 10_000, 30_000_000
GRACE_US, UNMERGED_US = 1_000_000, 10_000_000
FARTHEST_NS = 2**48
FIRST_MS = 1_577_836_800_000
LEVEL, PEERS = b"level", b"peers"


class Record(NamedTuple):
    generation: int
    taken: int
    refunded: int
    base: int = 0
    version: int = 0
    made: int = 0
    home: bytes = b"-"
    fence: int = 0
    seen_s: int = 0


class Level(NamedTuple):
    at_us: int
    debt: int | Fraction
    q: int
    p: int
    made: int
    version: int
    sum: int
    offered: int
    """Thousandths of tokens."""
    reserve: float
    born: int
    far: tuple[tuple[bytes, int, int], ...] = ()
    """Region, ns, when."""


class Peers(NamedTuple):
    made: int
    merged: tuple[tuple[bytes, int, int], ...] = ()
    """Region, version, at."""


Hash = dict[bytes, Any]


class Known(NamedTuple):
    """What the beats of the caller contain about one other region; 0 and 0 for nothing."""

    base_us: int = 0
    stamp_us: int = 0


@dataclass(frozen=True)
class Rules:
    """Rules that can be switched off, to see what each is needed for."""

    adopts: bool = True
    ages: bool = True
    ages_by_own_clock: bool = False
    keeps_order: bool = True
    looks_for_torn_copies: bool = True
    notes_torn_copies: bool = False
    looks_at_generations: bool = True
    adopts_refunds: bool = False
    writes_bases: bool = True
    predicts: bool = True
    adds_up: bool = True
    keeps_bursts: bool = True
    has_reserve: bool = True
    counts_relayed: bool = True
    keeps_credit: bool = True
    starts_with_credit: bool = True
    ends_credit: bool = True
    tells_first_sight: bool = True
    bounds_other_definitions: bool = True


def decay(time: float) -> float:
    left = max(0.0, 1 - time / (64 * TAU_US))
    for _ in range(6):
        left = left * left
    return left


def rate(tokens: float, born: int, at: int) -> float:
    return tokens / (TAU_US / 1000000 * (1 - decay(max(at - born, 500000))))


def rescaled(debt: int | Fraction, old: tuple[int, int], new: tuple[int, int]) -> int:
    """The same tokens of debt at another rate, in the doubles of the script."""
    s, left = divmod(debt, NS)
    ns = left.__floor__()
    rest = (left - ns) * old[1]
    tokens = (float(s) * NS + ns + float(rest) / old[1]) / (old[0] / old[1])
    up = 1 if tokens < 0 else 1 + 2.0**-49
    return math.ceil(tokens * (new[0] / new[1]) * up)


def exact(q: int, p: int) -> int | Fraction:
    """The time of a token in ns; whole numbers are much quicker than fractions."""
    return q if p == 1 else Fraction(q, p)


def value(x: Record | Column) -> int:
    return max(0, x.taken - x.refunded - getattr(x, "base", 0))


def gain(x: Record | Column, y: Record | Column | None) -> int:
    """Tokens in `x` that a holder of `y` has not counted."""
    if y is None or x.generation != y.generation:
        return value(x)
    return max(0, x.taken - y.taken) - max(0, x.refunded - y.refunded)


@dataclass
class Run:
    """One call on one region's member."""

    arguments: ReplicatedArguments
    call: ScriptCall
    now_us: int
    copies: Mapping[bytes, Hash]
    """By region, the copy of its key that replication has brought."""
    own_stamp_us: int = 0
    known: Mapping[bytes, Known] = field(default_factory=dict)
    forget_us: int = 0
    rules: Rules = field(default_factory=Rules)
    forgiven: int | Fraction = 0
    """The time of tokens that a caller brought and that were not charged."""
    credit: int = 0
    """The most that the debt was allowed to be below 0."""

    def of(self, held: Hash) -> tuple[ScriptAnswer, Hash | None]:
        """The answer, and the hash afterwards, None when nothing was written."""
        self._read(held)
        self._predict()
        self._look(held)
        status = self._merge_call()
        if status is None:
            status = self._decide()
            written = self._written(held)
        else:
            written = None
        return self._answer(status), written

    # ---- what is held ----

    def _read(self, held: Hash) -> None:
        made = self.arguments
        self.region, self.others = made.regions.own, made.regions.others
        self.emission = exact(made.q, made.p)
        self.unit = float(made.q) / float(made.p)
        self.most = self.emission * (made.capacity + made.max_debt)
        self.level: Level | None = held.get(LEVEL)
        level = self.level
        self.made = level.made if level else self.now_us
        self.records: dict[bytes, Record] = {}
        self.stale: list[bytes] = []
        for owner, record in held.items():
            if owner in (LEVEL, PEERS):
                continue
            current = level is not None and record.made == level.made
            current = current and record.version <= level.version
            if current or (level is not None and not self.rules.looks_at_generations):
                self.records[owner] = record
            else:
                self.stale.append(owner)
        self.all = self.call.others is not None or (
            self.call.owner not in self.records and len(held) > (MANY if level else 0)
        )
        self.raised: set[bytes] = set()
        self.created = self.changed = False
        self.comparable = True
        self.elapsed, self.offered = 0, 0.0
        self.debt = 0
        if level:
            self.elapsed = max(0, self.now_us - level.at_us)
            self.changed = self.now_us < level.at_us
            self.debt = level.debt - self.elapsed * 1000
            if (level.q, level.p) != (made.q, made.p):
                self.comparable, self.changed = False, True
                self.debt = rescaled(self.debt, (level.q, level.p), (made.q, made.p))
            self.offered = level.offered / 1000 * decay(self.elapsed)

    def _clamped(self, debt: int | Fraction) -> int | Fraction:
        return min(max(debt, -self.floor), self.most)

    # ---- prediction ----

    def _predict(self) -> None:
        level, now = self.level, self.now_us
        self.far: dict[bytes, list[int]] = {}
        for name, used, when in level.far if level else ():
            self.far[name] = [self._converted(used), min(now, when)]
        self.silent: dict[bytes, int] = {}
        self.share = 1.0
        forgotten = self._late_regions() if self.rules.predicts else set()
        if self.silent:
            self._grow()
        for name in list(self.far):
            if name not in self.others or name in forgotten:
                self.debt += self.far.pop(name)[0]
            elif name in self.silent and not (
                UNMERGED_US - GRACE_US <= now - self.far[name][1] <= UNMERGED_US
            ):
                self.far[name][1] = now
        self._set_floor()
        if level is None:
            self.debt = -self.floor
        if self.most < self.debt < LONGEST_NS:
            self.most = self.debt
        self.debt = self._clamped(self.debt)

    def _converted(self, used: int) -> int:
        if self.comparable or self.level is None:
            return used
        return math.floor(used * (self.unit / (float(self.level.q) / float(self.level.p))))

    def _late_regions(self) -> set[bytes]:
        """Finds the silent regions; returns those that have been silent for too long."""
        forgotten = set()
        for name in self.others:
            base, stamp = self.known.get(name, Known())
            late = self._beaten() - base - stamp - NEAR_US if stamp else 0
            if late > 0 and 0 < self.forget_us < late:
                forgotten.add(name)
            elif late > 0:
                self.silent[name] = late
        return forgotten

    def _beaten(self) -> int:
        return max(self.own_stamp_us, min(self.now_us, self.own_stamp_us + NEAR_US))

    def _grow(self) -> None:
        level, now = self.level, self.now_us
        own = rate(self.offered + self.call.cost, level.born if level else now, now)
        total, rates = own, {}
        for name in self.others:
            copy = self.copies.get(name, {}).get(LEVEL)
            if copy:
                stamp = self.known.get(name, Known()).stamp_us
                left = copy.offered / 1000 * decay(max(0, stamp - copy.at_us))
                rates[name] = rate(left, copy.born, copy.at_us)
                total = total + rates[name]
        self.share = own / total if total > 0 else 1.0
        for name, late in self.silent.items():
            one = rates.get(name, 0.0)
            if one > 0:
                before, when = self.far.get(name, [0, now])
                time = min(self.elapsed, late) if level else late
                if not self.rules.adds_up:
                    before, time = 0, late
                more = min(
                    one * float(self.arguments.q) / float(self.arguments.p), one / total * NS
                )
                grown = before + math.floor(more * time / 1000000)
                self.far[name] = [min(FARTHEST_NS, grown), when]

    def _set_floor(self) -> None:
        self.floor = sum(used for used, _ in self.far.values())
        self.hold = sum(used for name, (used, _) in self.far.items() if name in self.silent)
        self.credit = max(self.credit, self.floor)

    # ---- copies ----

    def _look(self, held: Hash) -> None:
        level, now = self.level, self.now_us
        self.peers: dict[bytes, tuple[int, int]] = {}
        self.noted = False
        self.due = bool(self.others) and (level is None or now // SLOT_US != level.at_us // SLOT_US)
        if not self.due:
            return
        peers: Peers | None = held.get(PEERS)
        if level and peers and peers.made == self.made:
            self.peers = {name: (version, at) for name, version, at in peers.merged}
        for name in self.others:
            copy = self.copies.get(name, {})
            its: Level | None = copy.get(LEVEL)
            if its and self.peers.get(name) != (its.version, its.at_us):
                self._merge(name, copy, its)

    def _merge(self, name: bytes, copy: Hash, its: Level) -> None:
        rules, made, token = self.rules, self.arguments, self.emission
        self.all = True
        theirs, consistent = self._records_of(copy, its)
        same = (its.q, its.p) == (made.q, made.p)
        adopts = consistent and same and self.comparable and rules.adopts
        lacks = [gain(x, theirs.get(o)) for o, x in self.records.items()]
        if not rules.adopts_refunds:
            lacks = [max(0, tokens) for tokens in lacks]
        brings, strange, from_silent, kept_for = self._join_all(theirs, consistent)
        was_credit = self.debt < 0 and (self.level or not rules.starts_with_credit)
        merged = self.peers.get(name)
        known = self.known.get(name, Known())
        stated = self._stated(its, known, merged)
        if not same:
            stated = rescaled(stated, (its.q, its.p), (made.q, made.p))
        debt = self._clamped(self.debt + token * brings)
        counted = self._clamped(debt + token * strange)
        if not same and rules.bounds_other_definitions:
            counted = min(counted, self._clamped(debt + stated))
        if adopts:
            adopted = self._clamped(stated + token * sum(lacks))
            debt = min(counted, adopted)
            if was_credit and from_silent and stated > 0 and rules.keeps_bursts:
                rest = sum(used for r, (used, _) in self.far.items() if r not in kept_for)
                debt = max(debt, min(token * from_silent, stated, adopted) - rest)
        else:
            debt = counted
        self.debt = debt
        if consistent or rules.notes_torn_copies:
            self.peers[name] = its.version, its.at_us
            self.noted = True
            if name in self.far and name not in self.silent:
                self.far[name][1] = min(self.far[name][1], self.now_us - UNMERGED_US + GRACE_US)
            elif (
                self.rules.ends_credit and name in self.far and its.at_us > known.stamp_us + NEAR_US
            ):
                self.far[name][1] = self.now_us - UNMERGED_US + GRACE_US

    def _records_of(self, copy: Hash, its: Level) -> tuple[dict[bytes, Record], bool]:
        """The records of a copy, and whether they belong to its level."""
        now_s = self.now_us // 1_000_000
        theirs: dict[bytes, Record] = {}
        for owner, record in copy.items():
            if owner not in (LEVEL, PEERS) and record.made == its.made:
                age = max(0, its.at_us // 1_000_000 - record.seen_s)
                theirs[owner] = record._replace(seen_s=now_s - age)
        versions = [record.version for record in theirs.values()]
        consistent = sum(versions) == its.sum and max(versions, default=0) <= its.version
        return theirs, consistent or not self.rules.looks_for_torn_copies

    def _join_all(
        self, theirs: dict[bytes, Record], consistent: bool
    ) -> tuple[int, int, int, set[bytes]]:
        """Merges these records. Returns the tokens of known and of new columns, those of regions
        with credit, and these regions."""
        many = max(len(self.records), len(theirs)) > MANY
        brings = strange = from_silent = 0
        kept_for = set()
        for owner, record in theirs.items():
            mine = self.records.get(owner)
            is_new = mine is None or record.generation > mine.generation
            left_out = mine is None and many and self._is_old(record)
            if is_new and (not consistent or left_out):
                continue
            more = self._join(owner, record)
            if is_new:
                strange += more
            else:
                brings += more
            home = self.records[owner].home
            if more > 0 and home in self.far:
                from_silent += more
                kept_for.add(home)
        return brings, strange, from_silent, kept_for

    def _stated(self, its: Level, known: Known, merged: tuple[int, int] | None) -> int | Fraction:
        base, stamp = known
        age = self._beaten() - base - its.at_us - SLACK_US
        if self.rules.ages_by_own_clock:
            age, stamp = self.now_us - its.at_us, 1
        back = merged is not None and its.at_us < merged[1] and self.rules.keeps_order
        least = 0 if self.level or not self.rules.starts_with_credit else -self.floor
        if stamp and age > 0 and not back and self.rules.ages:
            return max(least, its.debt - age * 1000)
        return max(least, its.debt)

    def _is_old(self, record: Record) -> bool:
        retention = Fraction(self.arguments.retention_ms, 1000)
        return record.seen_s < self.now_us // 1_000_000 - retention

    def _join(self, owner: bytes, one: Record) -> int:
        mine = self.records.get(owner)
        more, grown = 0, False
        if mine is None or one.generation > mine.generation:
            more, grown = value(one), True
            self.created = self.created or (mine is None and not self._is_old(one))
            fence = max(one.fence, mine.fence if mine else 0)
            joined = one._replace(version=mine.version if mine else 0, fence=fence)
        else:
            joined = mine._replace(fence=max(mine.fence, one.fence))
            if one.generation == mine.generation:
                grown = one.taken > mine.taken or one.refunded > mine.refunded
                more = gain(one, mine)
                joined = joined._replace(
                    taken=max(mine.taken, one.taken), refunded=max(mine.refunded, one.refunded)
                )
                if grown:
                    joined = joined._replace(seen_s=max(mine.seen_s, one.seen_s))
                larger = one.taken >= mine.taken and one.refunded >= mine.refunded
                if grown and larger and one.home != b"-":
                    joined = joined._replace(home=one.home)
        if grown or (mine and joined.fence > mine.fence):
            self.raised.add(owner)
        self.records[owner] = joined
        if not self.rules.tells_first_sight or (mine and mine.generation == one.generation):
            self._relayed(joined.home, more)
        return more

    def _relayed(self, home: bytes, more: int) -> None:
        if more > 0 and home in self.silent and home in self.far and self.rules.counts_relayed:
            charged = float(more) * float(self.arguments.q) / float(self.arguments.p)
            self.far[home][0] = max(0, self.far[home][0] - math.floor(charged))

    # ---- the caller ----

    def _merge_call(self) -> ScriptStatus | None:
        call, made, token = self.call, self.arguments, self.emission
        own = self.records.get(call.owner)
        if own and own.fence > call.fence:
            return ScriptStatus.FENCED
        now_s = self.now_us // 1_000_000
        column = Record(
            call.generation, call.taken, call.refunded, 0, 0, 0, self.region, call.fence, now_s
        )
        if call.others is None:
            brought = value(column)
            if own and own.generation >= column.generation:
                brought = gain(column, own) if own.generation == column.generation else 0
            if brought > 0:
                most = min(brought, made.capacity + made.max_debt)
                if (own and token * most > call.debt_ns) or (not own and call.debt_ns > 0):
                    return ScriptStatus.UNKNOWN
            if own:
                self._join(call.owner, column)
                self.debt = self._clamped(self.debt + token * brought)
            elif column.taken + column.refunded > 0:
                self._join(call.owner, column)
                self._set_base(call.owner, brought)
                self.forgiven = token * brought
        else:
            self._merge_all(column)
        for name, (_, when) in list(self.far.items()):
            gone = self.now_us - when > UNMERGED_US
            if name not in self.silent and (gone or not self.rules.keeps_credit):
                del self.far[name]
        self._set_floor()
        self.debt = self._clamped(self.debt)
        return None

    def _merge_all(self, column: Record) -> None:
        call, token = self.call, self.emission
        now_s = self.now_us // 1_000_000
        columns: dict[bytes, Record] = {call.owner: column}
        for one in call.others or ():
            home = one.home or b"-"
            columns[one.owner] = Record(
                one.generation, one.taken, one.refunded, 0, 0, 0, home, 0, now_s
            )
        lacks = [max(0, gain(x, columns.get(o))) for o, x in self.records.items()]
        s, ns = divmod(call.debt_ns, NS)
        q, p = float(self.arguments.q), float(self.arguments.p)
        left = math.ceil((float(s) * NS + ns) / q * p)
        brings = strange = 0
        for owner, one in columns.items():
            mine = self.records.get(owner)
            if mine and mine.generation >= one.generation:
                brings += self._join(owner, one)
            elif one.taken + one.refunded > 0:
                more = self._join(owner, one)
                charged = min(more, left)
                left -= charged
                self._set_base(owner, more - charged)
                strange += more
        stated = call.debt_ns
        self.forgiven = max(0, token * strange - stated)
        debt = self._clamped(self.debt + token * brings)
        debt = min(self._clamped(debt + token * strange), self._clamped(debt + stated))
        if self.comparable and self.rules.adopts:
            adopted = self._clamped(self._clamped(stated) + token * sum(lacks))
            self.changed = self.changed or adopted < debt
            debt = min(debt, adopted)
        self.debt = debt

    def _set_base(self, owner: bytes, tokens: int) -> None:
        if self.rules.writes_bases:
            self.records[owner] = self.records[owner]._replace(base=tokens)

    # ---- the decision ----

    def _passes(self, debt: int | Fraction) -> bool:
        token = self.emission
        over = max(0, debt) + token * self.call.cost - token * self.arguments.capacity
        return math.floor(over) <= 0

    def _decide(self) -> ScriptStatus:
        call, level = self.call, self.level
        self.reserve = 0.0
        if call.cost == 0:
            return ScriptStatus.ALLOWED
        passed = self._passes(self.debt + self.hold)
        if self.silent and self.rules.has_reserve:
            size = max(float(call.cost), self.arguments.capacity / (200 * (len(self.others) + 1)))
            self.reserve = size
            if level:
                self.reserve = min(
                    size, level.reserve + self.share * (self.elapsed * 1000) / self.unit
                )
            passed = passed or (self.reserve >= call.cost and self._passes(self.debt))
        if not passed:
            if self.now_us % 1_000_000 % 8 == 0:
                self.offered, self.changed = self.offered + 8 * call.cost, True
            return ScriptStatus.DENIED
        now_s = self.now_us // 1_000_000
        one = self.records.get(call.owner)
        if one is None:
            one, self.created = Record(call.generation, 0, 0, fence=call.fence), True
        self.records[call.owner] = one._replace(
            taken=one.taken + call.cost, home=self.region, seen_s=now_s
        )
        self.raised.add(call.owner)
        self.debt = self._clamped(self.debt + self.emission * call.cost)
        self.offered = self.offered + call.cost
        self.reserve = max(0.0, self.reserve - call.cost)
        return ScriptStatus.ALLOWED

    def _written(self, held: Hash) -> Hash | None:
        level, now = self.level, self.now_us
        if not (level or self.raised) or not (self.due or self.changed or self.raised):
            return None
        version = max((level.version if level else 0) + 1, now // 1000 - FIRST_MS)
        total = level.sum if level else 0
        for owner in self.raised:
            total += version - self.records[owner].version
            self.records[owner] = self.records[owner]._replace(version=version, made=self.made)
        if self.created and len(self.records) > MANY:
            for owner, record in list(self.records.items()):
                if self._is_old(record) and owner not in self.raised:
                    del self.records[owner]
        out: Hash = dict(self.records)
        if not self.all:
            out.update({owner: held[owner] for owner in self.stale if owner not in self.raised})
        far = tuple(sorted((name, used, when) for name, (used, when) in self.far.items()))
        out[LEVEL] = Level(
            now,
            self.debt,
            self.arguments.q,
            self.arguments.p,
            self.made,
            version,
            sum(record.version for record in self.records.values()) if self.all else total,
            math.floor(self.offered * 1000 + 0.5),
            self.reserve,
            level.born if level else now,
            far,
        )
        if self.noted:
            merged = tuple(sorted((name, *one) for name, one in self.peers.items()))
            out[PEERS] = Peers(self.made, merged)
        elif PEERS in held:
            out[PEERS] = held[PEERS]
        return out

    def _answer(self, status: ScriptStatus) -> ScriptAnswer:
        own = self.records.get(self.call.owner, Record(0, 0, 0))
        columns: Sequence[Column] = ()
        if self.call.others is not None and status in (ScriptStatus.ALLOWED, ScriptStatus.DENIED):
            columns = [
                Column(o, r.generation, r.taken, r.refunded) for o, r in self.records.items()
            ]
        debt = max(0, math.ceil(self.debt))
        return ScriptAnswer(status, debt, own.taken, own.refunded, tuple(columns), self.hold)


def expires_ms(held: Hash, arguments: ReplicatedArguments, now_us: int) -> int:
    """When a key that is written now expires."""
    full = max(0, math.floor(held[LEVEL].debt / 1_000_000))
    return now_us // 1000 + full + 1 + arguments.retention_ms
