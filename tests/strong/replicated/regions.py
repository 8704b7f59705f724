"""Regions, processes and a bucket that sees everything, in virtual time, for properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments
from crdtbucket.strong.redis.script import (
    DEFAULT_RETENTION_MS,
    Column,
    ScriptAnswer,
    ScriptCall,
    ScriptStatus,
    owner_name,
)
from tests.strong.histories import Process
from tests.strong.replicated.region_model import (
    LEVEL,
    Hash,
    Known,
    Record,
    Rules,
    Run,
    exact,
    expires_ms,
    gain,
)

MS = 1_000
SECOND = 1_000_000
HOUR = 3_600 * SECOND
START_US = 1_700_000_000 * SECOND
NAMES = ("A", "B", "C")
KEY = b"{b:0}"
PROBE = owner_name(2**64 - 1, "probe")
WIDE = BucketSpec("b", 20, 20, max_debt=1_000_000)
"""A bucket whose ceiling is never reached."""
PLAIN = BucketSpec("b", 20, 20, max_debt=20)


class Region:
    """One member: its key, every state that this had, and the copies of the others' keys."""

    def __init__(
        self, spec: BucketSpec, name: str, names: Sequence[str], offset: int, rules: Rules
    ) -> None:
        self.name, self.offset, self.rules = name.encode(), offset, rules
        self.define(spec, names)
        self.held: Hash = {}
        self.log: list[Hash] = [{}]
        self.expires_ms = 0
        self.copies: dict[bytes, Hash] = {}
        self.known: dict[bytes, Known] = {}
        self.forgiven: int | Fraction = 0
        self.credit: int | Fraction = 0
        self.stated_rate: int | None = None
        """The rate (tokens/s) that the others read in its copies; None: what it counted."""

    def define(
        self,
        spec: BucketSpec,
        names: Sequence[str],
        *,
        retention_ms: int = DEFAULT_RETENTION_MS,
        forget_us: int = 0,
    ) -> None:
        """Sets the bucket and the regions that this one knows."""
        self.forget_us = forget_us
        regions = Regions(self.name.decode(), names)
        self.arguments = ReplicatedArguments(
            spec, spec.max_debt, regions, retention_ms, forget_us // MS
        )

    def clock(self, t: int) -> int:
        return t + self.offset

    def keep(self, held: Hash) -> None:
        self.held = held
        self.log.append(held)

    def run(self, t: int, call: ScriptCall) -> ScriptAnswer:
        now = self.clock(t)
        made = self.arguments
        run = Run(made, call, now, self.copies, now, self.known, self.forget_us, self.rules)
        answer, written = run.of(self.held)
        if written is not None:
            self.forgiven += run.forgiven
            self.keep(written)
            self.expires_ms = expires_ms(written, made, now)
        self.credit = max(self.credit, run.credit)
        return answer

    def look(self, t: int) -> ScriptAnswer:
        return self.run(t, ScriptCall(KEY, 0, PROBE, 1, 1, 0, 0, 0))

    def debt(self, t: int) -> int | Fraction:
        level = self.held.get(LEVEL)
        if level is None:
            return 0
        passed = max(0, self.clock(t) - level.at_us) * 1000
        return max(0, level.debt - passed)

    def tokens(self, t: int) -> int | Fraction:
        return Fraction(self.debt(t)) * self.arguments.p / self.arguments.q

    def record(self, owner: bytes) -> Record | None:
        record = self.held.get(owner)
        level = self.held.get(LEVEL)
        if level is None or record is None or record.made != level.made:
            return None
        return record if record.version <= level.version else None

    # ---- what replication does ----

    def receive(self, other: Region, back: int = -1) -> None:
        """Receives a state of the key of another region."""
        fields = other.log[max(back, -len(other.log))]
        if other.stated_rate is not None and LEVEL in fields:
            level = fields[LEVEL]
            told = level._replace(offered=30_000 * other.stated_rate, born=0)
            fields = {**fields, LEVEL: told}
        self.copies[other.name] = fields

    def receive_torn(self, other: Region, back: int, mask: int) -> None:
        """Receives some fields of a state."""
        fields = dict(self.copies.get(other.name, {}))
        for i, (name, one) in enumerate(sorted(other.log[max(back, -len(other.log))].items())):
            if mask >> i % 16 & 1:
                fields[name] = one
        self.copies[other.name] = fields

    def beat(self, other: Region, t: int, late: int = 0) -> None:
        """Receives a beat of another region."""
        now, stamp = self.clock(t), other.clock(t - late)
        old = self.known.get(other.name, Known(now - stamp, stamp))
        self.known[other.name] = Known(min(old.base_us, now - stamp), max(old.stamp_us, stamp))

    # ---- what a member loses ----

    def flush(self, copies: bool = False) -> None:
        self.keep({})
        if copies:
            self.copies = {}

    def restore(self, back: int) -> None:
        self.keep(self.log[max(back, -len(self.log))])

    def mix(self, back: int) -> None:
        """Own fields of an earlier state come back by replication where the member has none now."""
        old = self.log[max(back, -len(self.log))]
        if old:
            self.keep({**old, **self.held})

    def expire(self, t: int) -> None:
        """The key expires early: as soon as the bucket is full."""
        if self.held and self.debt(t) == 0:
            self.keep({})


@dataclass
class RegionalProcess(Process):
    """A process of a region, and the debt that it states, which comes from its own takes."""

    region: int = 0
    t: int = 0
    debt: int | Fraction = 0


class World:
    """Three regions, four processes, and the bucket that sees every take at once."""

    def __init__(
        self,
        spec: BucketSpec = WIDE,
        offsets: Sequence[int] = (0, 0, 0),
        rules: Rules | None = None,
        homes: Sequence[int] = (0, 0, 1, 2),
    ) -> None:
        self.t, self.spec = START_US, spec
        self.unit = exact(*spec.emission)
        self.most = self.unit * (spec.capacity + spec.max_debt)
        made = rules or Rules()
        self.regions = [
            Region(spec, n, NAMES, o, made) for n, o in zip(NAMES, offsets, strict=True)
        ]
        self.started = 0
        self.processes = [self.started_in(home) for home in homes]
        self.dead: list[RegionalProcess] = []
        self.reference = 0
        self.reference_t = self.t
        self.in_flight = self.admitted = self.refunded = 0
        self.pushes: list[tuple[Region, ScriptCall]] = []
        """All calls that pushed a column, and their regions."""

    def started_in(self, home: int) -> RegionalProcess:
        self.started += 1
        return RegionalProcess(owner_name(self.started, "n"), region=home, t=self.t)

    # ---- time ----

    def wait(self, us: int) -> None:
        self.t += us

    def _clamped(self, debt: int | Fraction) -> int | Fraction:
        return min(max(debt, 0), self.most)

    def _advance(self, one: RegionalProcess) -> None:
        one.debt = self._clamped(one.debt - (self.t - one.t) * 1000)
        one.t = self.t

    def owed(self) -> int | Fraction:
        """The debt of the bucket that sees everything."""
        passed = (self.t - self.reference_t) * 1000
        self.reference, self.reference_t = self._clamped(self.reference - passed), self.t
        return self.reference

    def _count(self, tokens: int) -> None:
        self.reference = self._clamped(self.owed() + self.unit * tokens)

    def _book(self, one: RegionalProcess, taken: int, refunded: int = 0) -> None:
        self._advance(one)
        one.taken, one.refunded = one.taken + taken, one.refunded + refunded
        one.debt = self._clamped(one.debt + self.unit * (taken - refunded))

    # ---- processes ----

    def call(
        self,
        one: RegionalProcess,
        cost: int,
        others: tuple[Column, ...] | None = None,
        stated: Any = None,
    ) -> ScriptAnswer:
        """Makes a call in the region of a process, a whole one when a plain one is not enough."""
        self._advance(one)
        debt = -(-one.debt // 1) if stated is None else stated
        call = one.call(KEY, cost, int(debt), others)
        region = self.regions[one.region]
        if others:
            self.pushes.append((region, replace(call)))
        answer = region.run(self.t, call)
        if answer.status is ScriptStatus.UNKNOWN:
            call.others = ()
            answer = region.run(self.t, call)
        return answer

    def receive(self, one: RegionalProcess, answer: ScriptAnswer) -> None:
        more = max(answer.taken - one.taken, 0), max(answer.refunded - one.refunded, 0)
        self._book(one, *more)

    def take(self, i: int, cost: int) -> bool:
        one = self.processes[i]
        answer = self.call(one, cost)
        self.receive(one, answer)
        if answer.status is ScriptStatus.ALLOWED and cost:
            self._count(cost)
            self.admitted += cost
        return answer.status is ScriptStatus.ALLOWED

    def take_here(self, i: int, cost: int) -> None:
        """Admits a call without Redis."""
        self._book(self.processes[i], cost)
        self._count(cost)
        self.admitted += cost

    def lose(self, i: int, cost: int) -> None:
        """Makes a call that runs, whose answer is lost, and whose caller is denied."""
        one = self.processes[i]
        self.call(one, cost)
        self._book(one, cost, cost)

    def refund(self, i: int, tokens: int) -> None:
        one = self.processes[i]
        back = min(tokens, one.taken - one.refunded)
        self._advance(one)
        one.refunded += back
        one.debt = max(0, one.debt - self.unit * back)
        self.reference = self._clamped(self.owed() - self.unit * back)
        self.refunded += back

    def push(self, i: int, j: int) -> None:
        """One process brings the column of another one, which it has just received in the mesh."""
        one, other = self.processes[i], self.processes[j]
        if one is not other:
            self._advance(one)
            more = self.unit * (other.taken - other.refunded)
            stated = -(-min(one.debt + more, self.most) // 1)
            self.receive(one, self.call(one, 0, (other.column,), stated))

    def push_late(self, back: int) -> None:
        """Runs an earlier push once more, after all calls since; nobody waits for the answer."""
        if self.pushes:
            region, call = self.pushes[max(back, -len(self.pushes))]
            region.run(self.t, replace(call))

    def restart(self, i: int) -> None:
        """Ends a process in order, and starts a new one in its place."""
        one = self.processes[i]
        self.receive(one, self.call(one, 0))
        self.dead.append(one)
        self.processes[i] = self.started_in(one.region)

    # ---- all of it ----

    def lose_all(self) -> None:
        """All members and all copies are lost."""
        for region in self.regions:
            region.flush(copies=True)

    def measure(self) -> None:
        """Notes how many tokens are not known everywhere."""
        for region in self.regions:
            unknown = 0
            for one in (*self.processes, *self.dead):
                if one.taken:
                    unknown += max(0, gain(one.column, region.record(one.owner)))
            self.in_flight = max(self.in_flight, unknown)

    def beats(self, late: int = 0) -> None:
        for one in self.regions:
            for other in self.regions:
                if one is not other:
                    one.beat(other, self.t, late)

    def replicate(self) -> None:
        for one in self.regions:
            for other in self.regions:
                if one is not other:
                    one.receive(other)

    def catch_up(self) -> None:
        """Settles, copies and merges everything."""
        for _ in range(3):
            self.wait(10 * MS)
            self.beats()
            for i in range(len(self.processes)):
                self.take(i, 0)
            self.replicate()
            self.wait(10 * MS)
            self.beats()
            for region in self.regions:
                region.look(self.t)

    def forgiven(self) -> int | Fraction:
        """By how much a level may be too low, whatever happens: what was never charged, and
        refunds."""
        refunds = sum(one.refunded for one in (*self.processes, *self.dead))
        return self.unit * refunds + sum(region.forgiven for region in self.regions)
