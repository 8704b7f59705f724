"""The definition of a bucket: its capacity, its refill, and the rules that it must meet."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Annotated, Any, Literal, Union, get_args

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.setting_checks import WholeRange
from crdtbucket.spec.asked_overrides import Ask, AskedOverrides, asked_overrides
from crdtbucket.spec.bucket_kinds import (
    CALENDAR_PARTS,
    MAX_SLOTS,
    check_period,
    check_slots,
    of_quota,
    of_slots,
)
from crdtbucket.spec.calendar_period import CalendarPeriod, Per
from crdtbucket.spec.field_checks import (
    MAX_TOKENS,
    canonical_name,
    check_choice,
    check_consistency,
    check_duration,
    check_field,
    check_flag,
    check_name,
    check_rate,
)
from crdtbucket.spec.globs import checked_globs, refused
from crdtbucket.spec.mode import Consistency, Mode
from crdtbucket.spec.rate_text import parse_rate, split_rates

_INTERVALS = 1, 366 * 86_400 * NS_PER_SECOND, "above 0 and at most 366 days"
Overrides = Union[Sequence[tuple[str, "BucketSpec"]], AskedOverrides, Ask]  # noqa: UP007 - a text
OnTableFull = Literal["deny", "allow"]
OnOutage = Literal["quota", "eventual", "deny", "allow"]


@dataclass(frozen=True, init=False, repr=False)
class BucketSpec:
    """The definition of one bucket: it holds `capacity` tokens and refills steadily.

    Tokens are whole numbers; `refill_rate` of them come back each `refill_interval`.
    Two specs with the same capacity and the same rate have the same `definition_hash`,
    however the rate was spelt.
    """

    name: str
    """The name as given, for display; look-up goes by `canonical_name`."""
    capacity: Annotated[int, WholeRange(1, MAX_TOKENS)]
    """Tokens that a full bucket holds, 1 to 2^53: the largest burst. With `max_debt` they must
    refill within 146 years."""
    refill_rate: Annotated[int, WholeRange(1, MAX_TOKENS)]
    """Tokens that come back each interval, 1 to 2^53."""
    refill_interval: str | int | float | timedelta = field(compare=False)
    """The interval as given: text with a unit, such as `250ms`, or seconds."""
    interval_ns: int = field(init=False)
    """The interval in nanoseconds, above 0, at most 366 days."""
    max_debt: Annotated[int, WholeRange(0, MAX_TOKENS)]
    """How far `settle` and updates may push a key below empty, to 2^53; `capacity` if left out."""
    max_keys: Annotated[int, WholeRange(1, MAX_TOKENS)] | None
    """Most entries that its keys may have in the table. When so many keys owe tokens, they stay and
    new keys get `on_table_full`; if left out, a [full table](security.md#memory) forgets the keys
    that owe least."""
    on_table_full: OnTableFull
    """The answer to a new key while `max_keys` keys of the bucket owe tokens: `deny` or `allow`."""
    consistency: Mode | None
    """`Mode.STRONG` or `Mode.EVENTUAL`; None for the limiter's default."""
    on_outage: OnOutage | None
    """`quota`, `eventual`, `deny` or `allow`, in place of what the limiter (`rating`) says."""
    overrides: tuple[tuple[str, BucketSpec], ...]
    """Other limits for keys that match a glob: the first match wins. Each override is a definition
    of its own, called `name[glob]`."""
    overrides_from: AskedOverrides | None
    """The function that is asked for the limit of each key, if there is one."""
    shadow: bool
    """Whether calls that the limit denies are [admitted and counted](api.md#shadow)."""
    slots: Annotated[int, WholeRange(1, MAX_SLOTS)] | None
    """In place of a rate: [how many calls of a key may be in flight](slots.md) at once, 1 to 1,000.
    The capacity and the refill are then those of one slot."""
    period: CalendarPeriod | None
    """For a bucket of kind `calendar`, the period for which the capacity is the quota; None for a
    bucket that refills steadily."""

    def __init__(
        self,
        name: str,
        capacity: int,
        refill_rate: int,
        refill_interval: str | int | float | timedelta = "1s",
        *,
        max_debt: int | None = None,
        max_keys: int | None = None,
        on_table_full: OnTableFull = "deny",
        consistency: Mode | Consistency | None = None,
        on_outage: OnOutage | None = None,
        overrides: Overrides = (),
        overrides_from: AskedOverrides | None = None,
        shadow: bool = False,
        slots: int | None = None,
        period: CalendarPeriod | None = None,
    ) -> None:
        """Check and keep a definition.

        `refill_interval` is text with a unit ("250ms", "1s", "5m", "2h", "1d"), a number of
        seconds, or a `timedelta`. `max_debt` is `capacity` when None. `consistency` is "strong" or
        "eventual"; `on_outage` is "quota", "eventual", "deny" or "allow". `overrides`: (glob, spec)
        pairs, whose specs get their name and consistency from this one, and also the outage policy
        and shadow that they do not set; or a function that is asked for each key, or an
        `AskedOverrides`, which may also be passed as `overrides_from`. `slots` and `period` are set
        by `concurrency` and `calendar`. Raises `InvalidSpec`, naming the field and the fix.
        """
        debt = capacity if max_debt is None else max_debt
        vars(self).update(  # the way past `frozen`, which only forbids `self.name = ...`
            name=check_name(name),
            capacity=check_field(self, "capacity", capacity),
            refill_rate=check_field(self, "refill_rate", refill_rate),
            refill_interval=refill_interval,
            interval_ns=check_duration("refill_interval", refill_interval, *_INTERVALS),
            max_debt=check_field(self, "max_debt", debt),
            max_keys=None if max_keys is None else check_field(self, "max_keys", max_keys),
            on_table_full=check_choice("on_table_full", on_table_full, get_args(OnTableFull)),
            consistency=None if consistency is None else check_consistency(consistency),
            on_outage=on_outage,
            shadow=check_flag("shadow", shadow),
            slots=slots,
            period=period,
        )
        if on_outage is not None:
            check_choice("on_outage", on_outage, get_args(OnOutage))
        check_rate(refill_rate, self.interval_ns, capacity, debt)
        if slots is not None:
            check_field(self, "slots", slots)
            check_slots(capacity, refill_rate)
        if period is not None:
            check_period(period, capacity, refill_rate, self.interval_ns, slots, self.consistency)
            vars(self)["consistency"] = Mode.EVENTUAL
        pairs, vars(self)["overrides_from"] = asked_overrides(overrides, overrides_from)
        globs = checked_globs(pairs)
        vars(self)["overrides"] = tuple((glob, override_of(self, glob, one)) for glob, one in globs)

    @classmethod
    def parse(
        cls,
        name: str,
        rate: str,
        *,
        max_debt: int | None = None,
        max_keys: int | None = None,
        on_table_full: OnTableFull = "deny",
        consistency: Mode | Consistency | None = None,
        on_outage: OnOutage | None = None,
        overrides: Overrides = (),
        shadow: bool = False,
    ) -> BucketSpec:
        """The bucket that a rate string describes, such as "100/minute" or "10/s burst 20".

        The capacity is the burst; without one it is the amount itself, so "100/minute" lets
        100 pass at once and refills them over a minute. Raises `InvalidSpec` with the grammar.
        """
        tokens, interval, burst = parse_rate(rate)
        return cls(
            name,
            tokens if burst is None else burst,
            tokens,
            interval,
            max_debt=max_debt,
            max_keys=max_keys,
            on_table_full=on_table_full,
            consistency=consistency,
            on_outage=on_outage,
            overrides=overrides,
            shadow=shadow,
        )

    @classmethod
    def concurrency(
        cls, name: str, slots: int, *, ttl: str | int | float | timedelta = "60s", **more: Any
    ) -> BucketSpec:
        """A bucket of kind `concurrency`: at most `slots` (1 to 1,000) of a key are in flight.

        `ttl`: how long a slot is held at most, such as "60s", 100 ms to 30 days: after that it is
        free again, whatever happened to its holder. `more`: `max_keys` (of slots that are held),
        `on_table_full`, `consistency`, `on_outage`, `overrides` (made by `concurrency`, too) and
        `shadow`. Raises `InvalidSpec`.
        """
        return cls(name, **of_slots(slots, ttl, more), **more)

    @classmethod
    def calendar(
        cls, name: str, limit: int, *, per: Per = "day", time_zone: str = "UTC", **more: Any
    ) -> BucketSpec:
        """A bucket of kind `calendar`: `limit` tokens (1 to 2^46) for each period.

        `per` is "day", "week" (from Monday) or "month", from midnight to midnight in `time_zone`, a
        name such as "Europe/Berlin". Nothing comes back within a period, and a new one has the
        whole limit. `more`: as for `BucketSpec`, except the numbers of a refill. Always eventual.
        Raises `InvalidSpec`.
        """
        return cls(name, **of_quota(limit, per, time_zone, more), **more)

    @classmethod
    def parse_all(cls, name: str, rates: str, **more: Any) -> tuple[BucketSpec, ...]:
        """One bucket for each rate of "100/hour;10/second", called `name:1`, `name:2` and so on.

        A single rate makes one bucket with the plain name. `Limiter.take_all([(name, key)])` takes
        from all of them, or from none. `more`: as for `parse`. Raises `InvalidSpec`.
        """
        each = split_rates(rates)
        if len(each) == 1:
            return (cls.parse(name, each[0], **more),)
        return tuple(cls.parse(f"{name}:{n}", one, **more) for n, one in enumerate(each, 1))

    def __repr__(self) -> str:
        usual = {**(BucketSpec.__init__.__kwdefaults__ or {}), "max_debt": self.capacity}
        usual |= {"name": self.name, "interval_ns": self.interval_ns}
        values = ((one.name, getattr(self, one.name)) for one in fields(self))
        shown = (f"{name}={value!r}" for name, value in values if value != usual.get(name, ...))
        return f"BucketSpec({', '.join((repr(self.name), *shown))})"

    @property
    def key(self) -> str:
        """The canonical name, under which the bucket is looked up and hashed."""
        return canonical_name(self.name)

    @property
    def table_name(self) -> str:
        """The name of the definition in a table and on the wire: the key, except for a part of a
        calendar bucket."""
        return self.key

    @property
    def parts(self) -> int:
        """How many parts a calendar bucket has, each with a definition of its own in a table: one
        for the last period, so that its tokens may still be given back, one for the present period,
        and one for the next, from which nodes take whose clocks are ahead. 0 for other buckets."""
        return 0 if self.period is None else CALENDAR_PARTS

    @property
    def emission(self) -> tuple[int, int]:
        """Nanoseconds a token as a reduced fraction (q, p): one token takes q / p ns."""
        if self.period is not None:
            # p is 2 so that takes do not use the fast path of the core, which assumes that time
            # runs; q is even, so that no level is rounded.
            return 2 * (self.interval_ns // self.capacity), 2
        common = math.gcd(self.interval_ns, self.refill_rate)
        return self.interval_ns // common, self.refill_rate // common

    @property
    def rate_per_second(self) -> float:
        """Tokens that come back in a second, for display; the core computes in integers."""
        return self.refill_rate * NS_PER_SECOND / self.interval_ns

    @property
    def definition_hash(self) -> int:
        """64 bits that identify capacity and rate, the same in every process and version."""
        q, p = self.emission
        text = f"crdtbucket definition 1: capacity {self.capacity} emission {q}/{p}"
        if self.period is not None:
            text += f" {self.period}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def override_of(owner: BucketSpec, glob: str, spec: BucketSpec) -> BucketSpec:
    """`spec` as an override of `owner`: with its full name and the fields that it inherits. Raises
    `InvalidSpec`.
    """
    if not isinstance(spec, BucketSpec):
        raise refused(f"the override for {glob!r} is {spec!r}", "make it with BucketSpec(...)")
    if spec.overrides or spec.overrides_from is not None:
        fix = "list them all in the bucket's overrides"
        raise refused(f"the override for {glob!r} has overrides", fix)
    if (spec.slots is None) != (owner.slots is None):
        fix = "give both slots (BucketSpec.concurrency), or both tokens"
        raise refused(f"the override for {glob!r} is of another kind than its bucket", fix)
    if spec.period != owner.period:
        fix = "give both the same period (BucketSpec.calendar), or neither"
        raise refused(f"the override for {glob!r} has another period than its bucket", fix)
    if spec.consistency not in (None, owner.consistency):
        fix = "leave it out: an override has that of its bucket"
        raise refused(f"the override for {glob!r} sets consistency", fix)
    policy, shadow = spec.on_outage or owner.on_outage, spec.shadow or owner.shadow
    name = f"{owner.name}[{glob}]"
    return replace(spec, name=name, consistency=None, on_outage=policy, shadow=shadow)
