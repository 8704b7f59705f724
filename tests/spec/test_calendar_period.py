"""Periods of a calendar, also where the hour changes."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec import calendar_period
from crdtbucket.spec.calendar_period import CalendarPeriod

HOUR = 3600 * 10**9
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"),
    # The hour changes at midnight, or did.
    *("America/Havana", "America/Sao_Paulo", "Asia/Beirut", "America/Santiago"),
)


def at(zone: str, *when: int) -> int:
    """A local time, ns since 1970."""
    moment = datetime.datetime(*when, tzinfo=zoneinfo.ZoneInfo(zone))  # type: ignore[arg-type,misc]
    return round(moment.timestamp()) * 10**9


def length(period: CalendarPeriod, number: int) -> int:
    return period.begin_ns(number + 1) - period.begin_ns(number)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Europe/Berlin", (2026, 10, 26), 24),
        ("America/Havana", (2024, 11, 3), 25),
        ("America/Sao_Paulo", (2017, 10, 15), 23),  # it has no midnight
        ("America/Sao_Paulo", (2018, 2, 17), 25),  # its last hour comes twice
    ],
)
def test_a_day_in_which_the_hour_changes_is_one_period(
    zone: str, day: tuple[int, int, int], hours: int
) -> None:
    period = CalendarPeriod.checked("day", zone)
    number = datetime.date(*day).toordinal()
    assert length(period, number) == hours * HOUR
    begin = period.begin_ns(number)
    inside = [begin, begin + 2 * HOUR, begin + hours * HOUR - 1]
    assert [period.number_at(one) for one in inside] == [number] * 3
    assert period.number_at(begin - 1) == number - 1


def test_weeks_begin_on_monday_and_months_on_their_first() -> None:
    week = CalendarPeriod.checked("week", "Europe/Berlin")
    number = week.number_at(at("Europe/Berlin", 2026, 11, 29, 12))
    assert week.begin_ns(number) == at("Europe/Berlin", 2026, 11, 23)
    month = CalendarPeriod.checked("month", "Europe/Berlin")
    number = month.number_at(at("Europe/Berlin", 2026, 12, 31, 23, 59))
    assert month.begin_ns(number) == at("Europe/Berlin", 2026, 12, 1)
    assert month.begin_ns(number + 1) == at("Europe/Berlin", 2027, 1, 1)


@given(
    st.sampled_from(ZONES),
    st.sampled_from(("day", "week", "month")),
    st.integers(0, 4_000_000_000 * 10**9),
)
def test_each_moment_is_in_the_one_period_that_has_begun_last(
    zone: str, per: Any, moment: int
) -> None:
    period = CalendarPeriod.checked(per, zone)
    number = period.number_at(moment)
    assert period.begin_ns(number) <= moment < period.begin_ns(number + 1)
    assert abs(length(period, number) - HOUR * 24 * {"day": 1, "week": 7}.get(per, 30)) <= 49 * HOUR


@pytest.mark.parametrize("name", ["Europe/Berln", "../etc/passwd", "America", "", 5, None, ["UTC"]])
def test_what_is_no_time_zone_is_refused(name: Any) -> None:
    with pytest.raises(InvalidSpec, match="no time zone is called") as refused:
        CalendarPeriod.checked("day", name)
    assert refused.value.field == "time_zone"


def test_a_machine_without_time_zones_knows_utc_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    calendar_period.zone_of.cache_clear()
    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(InvalidSpec, match=r'no database of time zones.*"tzdata"'):
        CalendarPeriod.checked("day", "Europe/Berlin")
    assert CalendarPeriod.checked("month", "UTC").number_at(0) == 1970 * 12


def test_other_periods_are_refused() -> None:
    with pytest.raises(InvalidSpec, match=r'per is .year..*write "day" or "week" or "month"'):
        CalendarPeriod.checked("year", "UTC")  # type: ignore[arg-type]
