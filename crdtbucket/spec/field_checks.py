"""Checks of the fields of a definition: names, numbers, durations, rates and words of a set."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar, get_args

from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import duration_ns
from crdtbucket.base.setting_checks import field_problems, kind_problems, ranges_of
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.mode import Consistency, Mode

T = TypeVar("T")
MAX_TOKENS = 2**53
MAX_RATE = 1_000_000_000
"""The highest rate, in tokens a second."""
MAX_SPAN_NS = 2**62
SLOWEST_TOKEN_NS = 30 * 86_400 * NS_PER_SECOND
MAX_NAME_LENGTH = 200
_HYPHENS = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")


def canonical_name(name: str) -> str:
    """The one form under which a name is looked up: NFKC, every kind of hyphen as `-`.

    So a name pasted with typographic hyphens is found by its plain spelling. Case counts.
    """
    if name.isascii():
        return name
    return unicodedata.normalize("NFKC", name).translate(_HYPHENS)


def check_whole(field_name: str, value: int, low: int, high: int) -> int:
    """`value`, when it is a whole number from `low` to `high`; else `InvalidSpec`."""
    # bool is an int in Python, and True tokens is never what was meant.
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        upto = "2^53" if high == MAX_TOKENS else str(high)
        fix = f"write a whole number from {low} to {upto}"
        if isinstance(value, float) and field_name == "refill_rate":
            fix += '; half a token a second is a refill_rate of 1 with a refill_interval of "2s"'
        raise InvalidSpec(f"{field_name} is {clipped(value)}", fix, field_name)
    return value


def check_field(settings: object, field_name: str, value: int) -> int:
    """`value`, when it is in the range that the field has in its annotation; else `InvalidSpec`."""
    kind: Any = type(settings)
    allowed = ranges_of(kind)[field_name]
    return check_whole(field_name, value, int(allowed.low), int(allowed.high))


def check_fields(settings: object) -> None:
    """Raises `InvalidSpec` for the first field that is not what its annotation allows."""
    for problem in (*kind_problems("settings", settings), *field_problems("settings", settings)):
        name = problem.path.removeprefix("settings.")
        raise InvalidSpec(f"{name} {problem.message}", problem.fix, name)


def check_duration(
    field_name: str, value: str | int | float | timedelta, low: int, high: int, words: str
) -> int:
    """The nanoseconds of a duration. Raises `InvalidSpec` unless they are from `low` to `high`;
    `words` describe that range in the error."""
    ns = duration_ns(value, field_name)
    if not low <= ns <= high:
        raise InvalidSpec(f"{field_name} is {clipped(value)}", f"it must be {words}", field_name)
    return ns


def check_rate(refill_rate: int, interval_ns: int, capacity: int, max_debt: int) -> None:
    """Raises `InvalidSpec` for a rate that is too high or too low to be counted exactly."""
    rate = f"refill_rate is {refill_rate} in {interval_ns} ns"
    if refill_rate > interval_ns:
        fix = f"at most {MAX_RATE:,} tokens a second; lower it or lengthen refill_interval"
        raise InvalidSpec(rate, fix, "refill_rate")
    if interval_ns > refill_rate * SLOWEST_TOKEN_NS:
        fix = "at least one token in 30 days; raise it or shorten refill_interval"
        raise InvalidSpec(rate, fix, "refill_rate")
    if interval_ns * (capacity + max_debt) >= MAX_SPAN_NS * refill_rate:
        raise InvalidSpec(
            f"capacity {capacity} and max_debt {max_debt} take over 146 years to refill",
            "lower capacity or max_debt, or raise refill_rate",
            "capacity",
        )


def check_choice(field_name: str, value: str, choices: tuple[str, ...]) -> str:
    """Returns `value`. Raises `InvalidSpec` unless it is one of the words."""
    if not isinstance(value, str) or value not in choices:
        words = " or ".join(f'"{choice}"' for choice in choices)
        raise InvalidSpec(f"{field_name} is {clipped(value)}", f"write {words}", field_name)
    return value


def check_flag(field_name: str, value: bool) -> bool:
    """Returns `value`. Raises `InvalidSpec` unless it is True or False: each text is true."""
    if not isinstance(value, bool):
        raise InvalidSpec(f"{field_name} is {clipped(value)}", "write true or false", field_name)
    return value


def check_path(field_name: str, value: str | os.PathLike[str]) -> None:
    """Raises `InvalidSpec` unless the value can be the path of a file."""
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidSpec(f"{field_name} is {clipped(value)}", "pass a path, as text", field_name)


def check_listed(field_name: str, given: Iterable[T]) -> tuple[T, ...]:
    """The given items as a tuple. Raises `InvalidSpec` for what is no list, and for a text, since
    its letters are not meant as a list."""
    if isinstance(given, str):
        raise InvalidSpec(f"{field_name} is {given!r}", f'write a list: ["{given}"]', field_name)
    if not isinstance(given, Iterable):
        raise InvalidSpec(f"{field_name} is {given!r}", "write a list", field_name)
    return tuple(given)


def check_name(name: str, field_name: str = "name") -> str:
    """`name`, when it can name a bucket, node or region; else `InvalidSpec`."""
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_LENGTH:
        fix = f"give a text of 1 to {MAX_NAME_LENGTH} characters"
        raise InvalidSpec(f"{field_name} is {clipped(name)}", fix, field_name)
    for character in name:
        # Line and paragraph separators and lone surrogates break logs as control characters do.
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            fix = f"remove the control character {character!r}"
            raise InvalidSpec(f"{field_name} is {clipped(name)}", fix, field_name)
    if name != name.strip():
        fix = "remove the spaces around it"
        raise InvalidSpec(f"{field_name} is {clipped(name)}", fix, field_name)
    return name


def check_consistency(value: Mode | Consistency) -> Mode:
    """The mode for this word, one of `Consistency`: fallback cannot be asked for."""
    return Mode(check_choice("consistency", value, get_args(Consistency)))
