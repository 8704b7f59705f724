"""Spans of time as people write them: "250ms", "1s", "5m", 2.5 (seconds), `timedelta`."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from fractions import Fraction

from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.errors import InvalidSpec

_UNITS: dict[str, tuple[int, tuple[str, ...]]] = {
    "ns": (1, ("nanosecond", "nanoseconds")),
    "us": (1_000, ("microsecond", "microseconds")),
    "ms": (1_000_000, ("millisecond", "milliseconds")),
    "s": (NS_PER_SECOND, ("sec", "secs", "second", "seconds")),
    "m": (60 * NS_PER_SECOND, ("min", "mins", "minute", "minutes")),
    "h": (3_600 * NS_PER_SECOND, ("hr", "hrs", "hour", "hours")),
    "d": (86_400 * NS_PER_SECOND, ("day", "days")),
    "w": (604_800 * NS_PER_SECOND, ("week", "weeks")),
}
UNIT_NS: dict[str, int] = {
    name: size for short, (size, words) in _UNITS.items() for name in (short, *words)
}
"""Nanoseconds in each unit name that rate strings and durations accept."""

_SHORT = {name: short for short, (_, words) in _UNITS.items() for name in (short, *words)}

DURATION_HINT = 'write a number and a unit: "250ms", "1s", "5m", "2h" or "1d"'

END_S = 10**20
"""Seconds from which on a number is no duration; a text has at most twenty digits, too."""
_DURATION = re.compile(r"(-?\d{1,20}(?:\.\d{1,20})?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)


def duration_ns(value: str | int | float | timedelta, field: str = "duration") -> int:
    """Nanoseconds (whole, >= 0) in `value`: text with a unit, or a plain number of seconds.

    Raises `InvalidSpec` naming `field` for other types, unknown units, negative values, and
    spans that are not a whole number of nanoseconds.
    """
    exact = _exact_ns(value, field)
    if exact is None:
        raise InvalidSpec(f"{field} is {clipped(value)}", DURATION_HINT, field)
    if exact < 0:
        raise InvalidSpec(
            f"{field} is {clipped(value)}", f"it cannot be negative; {DURATION_HINT}", field
        )
    if exact.denominator != 1:
        raise InvalidSpec(
            f"{field} is {clipped(value)}", "write a whole number of nanoseconds", field
        )
    return exact.numerator


def patience_ns(timeout: float | timedelta | None) -> int | None:
    """A timeout in nanoseconds: None for ever, 0 where it has passed already. Raises
    `InvalidSpec`."""
    if timeout is None or timeout == math.inf:
        return None
    if isinstance(timeout, (int, float)) and not isinstance(timeout, bool) and timeout <= 0:
        return 0
    return duration_ns(timeout, "timeout")


def span(ns: int) -> str:
    """Nanoseconds as one whole number with a unit, as `duration_ns` reads it: "100ms", "90s"."""
    for unit in ("d", "h", "m", "s", "ms", "us"):
        # A single minute or day is better known as 60s and 24h.
        least = 2 if unit in ("d", "m") else 1
        if ns % UNIT_NS[unit] == 0 and ns >= least * UNIT_NS[unit]:
            return f"{ns // UNIT_NS[unit]}{unit}"
    return f"{ns}ns" if ns else "0s"


def _exact_ns(value: object, field: str) -> Fraction | None:
    if isinstance(value, timedelta):
        return Fraction(value // timedelta(microseconds=1) * 1_000)
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        # A float such as 0.1 has no exact ns; the nearest one is what its writer meant.
        return Fraction(round(value * NS_PER_SECOND)) if abs(value) < END_S else None
    return _text_ns(value, field) if isinstance(value, str) else None


def _text_ns(text: str, field: str) -> Fraction | None:
    match = _DURATION.fullmatch(plain_unit(text.strip()))
    if match is None:
        return None
    number, unit = match[1], match[2].lower()
    if unit and unit not in UNIT_NS:
        raise InvalidSpec(
            f"{field} is {clipped(text)}", f"no unit is {clipped(unit)}; {DURATION_HINT}", field
        )
    return Fraction(number) * (UNIT_NS[unit] if unit else NS_PER_SECOND)


def short_unit(unit: str) -> str:
    """The short name of a unit in `UNIT_NS`: "m" for "minute"."""
    return _SHORT[unit]


def plain_unit(text: str) -> str:
    """`text` with either Unicode mu written as u."""
    return text.replace("µ", "u").replace("μ", "u")
