"""Checks that settings of different parts have in common; each yields the problem that it finds."""

from __future__ import annotations

import math
from collections.abc import Iterator

from crdtbucket.errors import Problem

SECONDS_A_DAY = 86_400


def section_problem(section: str, name: str, message: str, fix: str) -> Problem:
    """A problem with the setting `name` of a section."""
    return Problem(message, fix, f"{section}.{name}")


def seconds_problem(
    path: str, value: float, low: float, high: float, why: str = ""
) -> Iterator[Problem]:
    """A span that is no finite number of a range; `why` is said behind the range."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        yield Problem(
            f"is {value!r}", f"write seconds from {low:g} to {most_seconds(high)}{why}", path
        )


def most_seconds(seconds: float) -> str:
    """The upper end of a range as a message names it: "10", or "2592000, which is 30 days"."""
    if seconds < SECONDS_A_DAY:
        return f"{seconds:g}"
    return f"{seconds:.0f}, which is {seconds / SECONDS_A_DAY:g} days"


def whole_problem(path: str, value: object, low: int, high: int) -> Iterator[Problem]:
    """A number that is not a whole one of a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        yield Problem(f"is {value!r}", f"write a whole number from {low} to {high}", path)


def key_pair_problem(section: str, cert: str | None, key: str | None) -> Iterator[Problem]:
    """A certificate without its private key, or a key without its certificate."""
    if (cert is None) != (key is None):
        missing = "tls_key" if key is None else "tls_cert"
        yield Problem("is missing", "set tls_cert and tls_key together", f"{section}.{missing}")
