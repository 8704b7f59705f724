"""Periods of the calendar in a time zone: which period a moment is in, and when each begins."""

from __future__ import annotations

import datetime
import zoneinfo
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.file_shortage import fix_of
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.field_checks import check_choice

Per = Literal["day", "week", "month"]
USUAL_LENGTH = {"day": "1d", "week": "7d", "month": "30d"}


@dataclass(frozen=True)
class CalendarPeriod:
    """Days, weeks or months of one time zone, each named by a number that rises by one.

    A period lasts from its first midnight to that of the next one, so a day may have 23 or 25
    hours. Times are wall clock ns since 1970 (UTC).
    """

    per: Per = "day"
    """`day`, `week` (from Monday) or `month`."""
    time_zone: str = "UTC"
    """The time zone whose midnight ends a period: a name of the IANA database, such as
    `Europe/Berlin`."""

    @classmethod
    def checked(cls, per: Per, time_zone: str) -> CalendarPeriod:
        """Raises `InvalidSpec` for another period, and for a time zone that is not known here."""
        check_choice("per", per, get_args(Per))
        if not isinstance(time_zone, str):
            raise _no_zone(time_zone)
        zone_of(time_zone)
        return cls(per, time_zone)

    @property
    def usual_length(self) -> str:
        """About how long such a period usually lasts: for rates that are shown."""
        return USUAL_LENGTH[self.per]

    def number_at(self, wall_ns: int) -> int:
        """The period that a moment is in."""
        moment = datetime.datetime.fromtimestamp(wall_ns // NS_PER_SECOND, zone_of(self.time_zone))
        if self.per == "month":
            number = moment.year * 12 + moment.month - 1
        else:
            day = moment.toordinal()
            number = day if self.per == "day" else (day - 1) // 7
        # If the clock is changed around midnight, a date may come twice.
        while wall_ns < self.begin_ns(number):
            number -= 1
        while wall_ns >= self.begin_ns(number + 1):
            number += 1
        return number

    def begin_ns(self, number: int) -> int:
        """When a period begins: at its first midnight. If the clock is changed then and this
        midnight does not exist, at the change."""
        return _begin_ns(self, number)

    def first_day(self, number: int) -> datetime.date:
        """The date on which a period begins."""
        if self.per == "month":
            return datetime.date(number // 12, number % 12 + 1, 1)
        return datetime.date.fromordinal(number if self.per == "day" else number * 7 + 1)

    def __str__(self) -> str:
        return f"per {self.per} in {self.time_zone}"


@lru_cache(1024)
def _begin_ns(period: CalendarPeriod, number: int) -> int:
    midnight = datetime.datetime.combine(
        period.first_day(number), datetime.time(), zone_of(period.time_zone)
    )
    return round(midnight.timestamp()) * NS_PER_SECOND


@lru_cache
def zone_of(name: str) -> datetime.tzinfo:
    """The time zone of this name. Raises `InvalidSpec`."""
    if name == "UTC":
        return datetime.timezone.utc  # it needs no database
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        if fix := fix_of(error, ""):
            message = f"time_zone {name!r} cannot be read ({error})"
            raise InvalidSpec(message, fix, "time_zone") from error
        if not zoneinfo.available_timezones():
            message = f"time_zone is {name!r}, and this machine has no database of time zones"
            fix = 'install the package "tzdata", of the system or by pip; "UTC" needs none'
            raise InvalidSpec(message, fix, "time_zone") from error
        raise _no_zone(name) from error


def _no_zone(name: object) -> InvalidSpec:
    fix = 'write a name of the IANA database, such as "Europe/Berlin", or "UTC"'
    return InvalidSpec(f"no time zone is called {name!r}", fix, "time_zone")
