"""The kinds of buckets whose numbers are computed: slots, and quotas of the calendar."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import duration_ns
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.calendar_period import CalendarPeriod, Per
from crdtbucket.spec.field_checks import SLOWEST_TOKEN_NS, check_duration, check_whole
from crdtbucket.spec.mode import Mode

MAX_SLOTS = 1_000
"""Most slots of a key; where all are held, a search goes over all of them."""
SLOT_TOKENS = 1_000
"""The tokens of the bucket that stands for one slot: a hold for the whole ttl takes all of them."""
SLOT_HOLDERS = 64
"""Up to so many nodes that take one slot before they know of each other are all counted."""
MAX_QUOTA = 2**46
"""Most tokens of a calendar period."""
CALENDAR_PARTS = 3
_NUMBERS = "capacity", "refill_rate", "refill_interval", "period"


def of_slots(
    slots: int, ttl: str | int | float | timedelta, given: Iterable[str]
) -> dict[str, Any]:
    """The arguments of `BucketSpec` for slots, each held for `ttl` at most. Raises `InvalidSpec`,
    also when one of them is among those `given`."""
    _check_left_out("concurrency", given, "max_debt", *_NUMBERS)
    check_whole("slots", slots, 1, MAX_SLOTS)
    check_duration("ttl", ttl, NS_PER_SECOND // 10, SLOWEST_TOKEN_NS, "100 ms to 30 days")
    return {
        "capacity": SLOT_TOKENS,
        "refill_rate": SLOT_TOKENS,
        "refill_interval": ttl,
        "max_debt": (SLOT_HOLDERS - 1) * SLOT_TOKENS,
        "slots": slots,
    }


def of_quota(limit: int, per: Per, time_zone: str, given: Iterable[str]) -> dict[str, Any]:
    """The arguments of `BucketSpec` for a quota of `limit` tokens. Raises as `of_slots`."""
    _check_left_out("calendar", given, "slots", *_NUMBERS)
    check_whole("limit", limit, 1, MAX_QUOTA)
    period = CalendarPeriod.checked(per, time_zone)
    return {
        "capacity": limit,
        "refill_rate": limit,
        "refill_interval": period.usual_length,
        "period": period,
    }


def check_slots(capacity: int, refill_rate: int) -> None:
    """Raises `InvalidSpec` unless these numbers are those of a slot."""
    if (capacity, refill_rate) != (SLOT_TOKENS, SLOT_TOKENS):
        fix = "make it with BucketSpec.concurrency(name, slots, ttl=...)"
        raise InvalidSpec("slots is given beside a capacity and a rate", fix, "slots")


def check_period(
    period: CalendarPeriod,
    capacity: int,
    refill_rate: int,
    interval_ns: int,
    slots: int | None,
    consistency: Mode | None,
) -> None:
    """Raises `InvalidSpec` unless this is a period and these fields of its definition fit it."""
    fix = "make the bucket with BucketSpec.calendar(name, limit, per=..., time_zone=...)"
    if not isinstance(period, CalendarPeriod):
        raise InvalidSpec(f"period is {clipped(period)}", fix, "period")
    usual = capacity, duration_ns(period.usual_length, "period")
    if slots is not None or (refill_rate, interval_ns) != usual:
        raise InvalidSpec("period is given beside other numbers of a limit", fix, "period")
    if consistency is Mode.STRONG:
        raise InvalidSpec(
            "a calendar bucket cannot be strong",
            "write eventual: in Redis levels refill steadily, and a quota of a period does not",
            "consistency",
        )


def _check_left_out(maker: str, given: Iterable[str], *fields: str) -> None:
    """Raises `InvalidSpec` if one of the `fields`, which `maker` computes, is among those given."""
    for name in fields:
        if name in given:
            fix = f"leave it out: BucketSpec.{maker} computes it from its other arguments"
            raise InvalidSpec(f"{name} is given to BucketSpec.{maker}", fix, name)
