"""Quotas of calendar periods, over all nodes. See docs/model.md, "Calendar quotas"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crdtbucket._core import Decision, Table
from crdtbucket.base.clock import NS_PER_SECOND, WallClock
from crdtbucket.base.forks import ForkLock
from crdtbucket.limiter.bucket import Bucket, Choose
from crdtbucket.limiter.waiting import Lines, LocalLine, Waiters
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.calendar_period import CalendarPeriod

MOVED_NS = NS_PER_SECOND // 2
"""The end of a period follows the wall clock only when the clock has moved by this much (ns)."""
MOVED_GAP_NS = 60 * NS_PER_SECOND
"""The end of a period follows the wall clock no more often than this."""


class CalendarBucket(Bucket):
    """A bucket of kind `calendar`: each call, also of callers that wait, goes to the part that has
    the keys of the present period."""

    __slots__ = ("_ahead", "_by", "_least", "_lock", "_looked", "_present", "_wall", "parts")

    def __init__(
        self, table: Table, spec: BucketSpec, *, wall: WallClock, min_debt: int = 0, **more: Any
    ) -> None:
        """Takes what `Bucket` takes, and `wall`, the clock that says which period it is."""
        self._wall = wall
        self._lock = ForkLock()
        self._by: Choose | None = None
        self.parts: tuple[CalendarPart, ...] = ()
        super().__init__(table, spec, min_debt=min_debt, **more)
        parts = [
            CalendarPart(table, PartSpec(spec, number), ends, self, min_debt=min_debt)
            for number, ends in self._periods(wall(table.now()), table.now())
        ]
        self.parts = tuple(sorted(parts, key=lambda part: part.number % len(parts)))
        self.choose_by(None, ())
        self._ahead = self._looked = 0
        self._present: tuple[int, int, CalendarPart] = (0, 0, parts[0])
        self.look(anew=True)

    def _make_lines(self, update_interval_ns: int | None) -> Lines:
        """The lines of callers that wait, which look every second: the wall clock may be set."""
        interval_ns = update_interval_ns or NS_PER_SECOND
        return Waiters(self, update_interval_ns=interval_ns, line=PeriodLine)

    @property
    def period(self) -> CalendarPeriod:
        """The period whose quota the capacity is."""
        assert self.spec.period is not None, "a bucket of kind calendar"
        period: CalendarPeriod = self.spec.period
        return period

    def define(
        self, spec: BucketSpec, *, min_debt: int = 0, still_until: int = 0, period: int = 0
    ) -> None:
        """Puts a new definition in force in this bucket and in all its parts."""
        super().define(spec, min_debt=min_debt)
        self._least = min_debt
        if self.parts:
            self.look(anew=True)

    def choose_by(self, choose: Choose | None, others: Iterable[Bucket]) -> None:
        """From now on `choose` says which bucket decides on a key: this one, by its part of the
        present period, or one of `others`."""
        self._by = choose
        overrides = tuple(others)
        self._name_for(overrides)
        theirs = [part for bucket in overrides for part in (bucket, *bucket.parts)]
        self.redirect(self._choose, [*self.parts, *theirs])

    def look(self, *, anew: bool = False) -> CalendarPart:
        """Returns the part of the present period; moves the parts on first if the period or the
        wall clock has changed. `anew`: moves them on in any case."""
        with self._lock:
            now, period = self.table.now(), self.period
            wall = self._wall(now)
            begin, end, present = self._present
            if not anew and begin <= wall < end and not self._has_moved(wall, now):
                return present
            parts = self.parts
            for number, ends in self._periods(wall, now):
                parts[number % len(parts)].begin(PartSpec(self.spec, number), ends, self._least)
            number = period.number_at(wall)
            part = parts[number % len(parts)]
            self._ahead, self._looked = wall - now, now
            self._present = period.begin_ns(number), period.begin_ns(number + 1), part
            return part

    def _periods(self, wall: int, now: int) -> Iterable[tuple[int, int]]:
        """The last period, the present and the next one, and when each ends (local ns)."""
        number = self.period.number_at(wall)
        for one in range(number - 1, number + 2):
            yield one, now + self.period.begin_ns(one + 1) - wall

    def beat(self) -> None:
        """Moves the parts on to the present period, even if nobody takes; to be called about every
        second."""
        self.look()

    def counters(self) -> dict[str, Any]:
        """The counters of the bucket, summed over its parts: a key counts once in each part that
        holds it."""
        return added([part.counters() for part in self.parts])

    def decided(self) -> tuple[tuple[int, int], None]:
        """The numbers of admitted and of denied calls, summed over all parts."""
        admitted, denied = zip(*(part.decided()[0] for part in self.parts), strict=True)
        return (sum(admitted), sum(denied)), None

    def reset_all(self) -> list[tuple[int, int]]:
        """Resets every key of the present period. Returns the hashes of the keys to which tokens
        came back."""
        return self.look().reset_all()

    def _choose(self, key: str | bytes) -> Bucket:
        if self._by is not None and (bucket := self._by(key)) is not self:
            return bucket.of(key)
        begin, end, part = self._present
        wall = self._wall
        # The code of that method is repeated here, since calling it would take as long as
        # everything else here.
        ns = wall.machine_ns() if wall.ahead_ns is None else self.table.now() + wall.ahead_ns
        return part if begin <= ns < end else self.look()

    def _has_moved(self, wall: int, now: int) -> bool:
        return now - self._looked >= MOVED_GAP_NS and abs(wall - now - self._ahead) >= MOVED_NS


class CalendarPart(Bucket):
    """One of the three parts of a calendar bucket. It holds the keys of every third period."""

    __slots__ = ("_ends", "_whole", "number")

    def __init__(
        self, table: Table, spec: PartSpec, ends: int, whole: CalendarBucket, *, min_debt: int
    ) -> None:
        """`ends`: when its period ends, local ns. `whole`: the bucket that it is a part of, in
        whose lines its callers wait."""
        self.number, self._ends = spec.number, ends
        self._whole = whole
        super().__init__(table, spec, min_debt=min_debt)
        self.waiters = whole.waiters

    def returned(self, key: str | bytes, tokens: int) -> None:
        """Tokens of a key came back: callers that wait for it look again."""
        self._whole.returned(key, tokens)

    def begin(self, spec: PartSpec, ends: int, min_debt: int) -> None:
        """From now on its keys are those of the period of `spec`."""
        self.number, self._ends = spec.number, ends
        self.define(spec, min_debt=min_debt)

    def define(
        self, spec: BucketSpec, *, min_debt: int = 0, still_until: int = 0, period: int = 0
    ) -> None:
        """Puts a definition in force for the period that this part has now."""
        super().define(spec, min_debt=min_debt, still_until=self._ends, period=self.number)


class PartSpec(BucketSpec):
    """The definition of a part: that of its bucket, under a name of its own in the table."""

    number: int
    """The number of its period."""

    def __init__(self, spec: BucketSpec, number: int) -> None:
        """`spec`: of the bucket, which has been checked."""
        vars(self).update({**vars(spec), "overrides": (), "number": number})

    @property
    def table_name(self) -> str:
        """The name of the part in a table and on the wire. It has a line break, which is not
        allowed in a bucket's name, so no bucket can have this name."""
        return f"{self.key}\n{self.number % self.parts}"


class PeriodLine(LocalLine):
    """Callers of one event loop that wait for the next period of one key."""

    def refill_ns(self, decision: Decision, tokens: int) -> int:
        """The time until the next period (ns), as no tokens come back before it."""
        return decision.retry_after_ns


def added(counters: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums of the counters of several buckets."""
    out: dict[str, Any] = {}
    for name, first in counters[0].items():
        each = [one[name] for one in counters]
        if isinstance(first, dict):
            out[name] = added(each)
        else:
            out[name] = max(each) if name == "over_admission" else sum(each)
    return out
