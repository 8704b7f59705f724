"""Checks that settings of different parts have in common; each yields the problem that it finds.

The range of a number stands in the annotation of its field, as in
`max_peers: Annotated[int, WholeRange(1, 1024)] = 64`. The checks read it there, and so does the
section of a configuration file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Number
from os import PathLike
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from crdtbucket.base.clipped import clipped
from crdtbucket.errors import ConfigError, Problem

SECONDS_A_DAY = 86_400
HOST_PORT, RATIO, WEBHOOK = "host:port", "ratio", "webhook"
"""In the annotation of a field: an address, a share above 0 and up to 1, a URL for notices."""


class UnitlessSeconds(float):
    """Seconds that a file gives as a number without a unit."""


@dataclass(frozen=True)
class NumberRange:
    """The numbers that a field may have, ends included, or a word in their place."""

    low: float
    high: float
    word: str = ""

    unit: ClassVar[str] = "a number"
    kind: ClassVar[type | tuple[type, ...]] = (int, float)

    def problem(self, path: str, value: object) -> Iterator[Problem]:
        """The problem with a value that is not one of them."""
        number = isinstance(value, self.kind) and not isinstance(value, bool)
        within = number and self.low <= value <= self.high  # type: ignore[operator]
        if within or (self.word and value == self.word):  # nan is not within
            return
        word = f", or {self.word}" if self.word else ""
        span = f"from {self._shown(self.low)} to {self._shown(self.high)}"
        hint = self.hint(value) if number else ""
        yield Problem(f"is {clipped(value)}", f"write {self.unit} {span}{word}{hint}", path)

    def hint(self, value: Any) -> str:
        """What was probably meant by a number that is out of the range, as the end of the message;
        "" where that is not known."""
        return ""

    def _shown(self, end: float) -> str:
        return f"{end:g}"


class SecondsRange(NumberRange):
    """The spans that a field may have, in seconds."""

    unit = "seconds"

    def hint(self, value: Any) -> str:
        thousandth = value / 1_000
        if not value > self.high or not self.low <= thousandth <= self.high:
            return ""
        if isinstance(value, UnitlessSeconds):
            return f', or "{value:.15g}ms" for milliseconds'
        return f"; {value:g} milliseconds are {thousandth:g}" if isinstance(value, int) else ""

    def _shown(self, end: float) -> str:
        return most_seconds(end)


class WholeRange(NumberRange):
    """The whole numbers that a field may have."""

    unit = "a whole number"
    kind = int

    def _shown(self, end: float) -> str:
        return str(end)


@cache
def types_of(settings: Any) -> Mapping[str, Any]:
    """The type of each field of a class of settings, with what else its annotation has."""
    return get_type_hints(settings, include_extras=True)


def options_of(hint: Any) -> list[Any]:
    """The types that a type consists of, without None."""
    union = get_origin(hint) in (Union, UnionType)
    return [one for one in (get_args(hint) if union else (hint,)) if one is not NoneType]


@cache
def ranges_of(settings: Any) -> Mapping[str, NumberRange]:
    """The range of each field that has one in its annotation."""
    return {
        name: mark
        for name, hint in types_of(settings).items()
        for option in options_of(hint)
        for mark in getattr(option, "__metadata__", ())
        if isinstance(mark, NumberRange)
    }


def fields_of(settings: Any, wanted: Any) -> list[str]:
    """The fields with this type."""
    kind: Any = type(settings)
    return [name for name, one in types_of(kind).items() if one == wanted]


def field_problems(section: str, settings: Any) -> Iterator[Problem]:
    """The fields that are out of the range, or none of the words, that their annotation has. A
    default is always right."""
    kind: Any = type(settings)
    ranges = ranges_of(kind)
    for name, hint in types_of(kind).items():
        value, option = getattr(settings, name), options_of(hint)[0]
        if value is getattr(kind, name, ...):
            continue
        if name in ranges:
            yield from ranges[name].problem(f"{section}.{name}", value)
        elif get_origin(option) is Literal and value not in get_args(option):
            *others, last = get_args(option)
            fix = f"write {', '.join(others)} or {last}"
            yield Problem(f"is {clipped(value)}", fix, f"{section}.{name}")


_KINDS: dict[Any, tuple[Any, str]] = {
    str: (str, "text"),
    bytes: (bytes, "bytes"),
    bool: (bool, "True or False"),
    float: (Number, "a number"),
    PathLike: (PathLike, "a path"),
    Sequence: (Iterable, "a list"),
    Mapping: (Mapping, "a mapping"),
    Callable: (Callable, "a function"),
}
"""What a field takes whose annotation has this type, and what it is called in a message."""


def kind_problems(section: str, settings: Any) -> Iterator[Problem]:
    """The fields without a range or a set of words whose value is of another type than their
    annotation has, and text that cannot be encoded. A message never repeats a secret."""
    kind: Any = type(settings)
    for name, hint in types_of(kind).items():
        value, options = getattr(settings, name), options_of(hint)
        free = name not in ranges_of(kind) and get_origin(options[0]) is not Literal
        if not free or value is getattr(kind, name, ...):
            continue
        secret = not settings.__dataclass_fields__[name].repr
        plain = (get_args(one)[0] if get_origin(one) is Annotated else one for one in options)
        bare = [get_origin(one) or one for one in plain]
        kinds = [_KINDS.get(one, (one, f"a {one.__name__}")) for one in bare]
        if bare[0] is Sequence and isinstance(value, (str, bytes)):
            # It may have a password, such as the address of a server; its letters are no list.
            fix = "write a list, also for a single one"
            yield Problem("is one text and no list", fix, f"{section}.{name}")
        elif not isinstance(value, tuple(one for one, _ in kinds)):
            fix = f"write {' or '.join(word for _, word in kinds)}"
            shown = f"of type {type(value).__name__}" if secret else repr(value)
            yield Problem(f"is {shown}", fix, f"{section}.{name}")
        elif isinstance(value, str):
            is_file = PathLike in bare or name.startswith("tls_")
            yield from _text_problem(f"{section}.{name}", value, is_file=is_file)


def check_kinds(section: str, settings: Any) -> None:
    """Raises `ConfigError` with every field of a wrong type, and makes tuples of the lists in the
    frozen settings, so that nobody can change them."""
    if problems := list(kind_problems(section, settings)):
        raise ConfigError(problems)
    for name in fields_of(settings, Sequence[str]):
        kept = tuple(getattr(settings, name))
        object.__setattr__(settings, name, kept)
        for number, one in enumerate(kept):
            if isinstance(one, str):
                problems += _text_problem(f"{section}.{name}[{number}]", one)
    if problems:
        raise ConfigError(problems)


def _text_problem(path: str, text: str, *, is_file: bool = False) -> Iterator[Problem]:
    # The name of a file may have any bytes, which Python shows as halves of surrogate pairs.
    if not is_unicode(text, "surrogateescape" if is_file else "strict"):
        yield Problem("is not UTF-8", "write text that UTF-8 can encode", path)


def is_unicode(text: str, errors: str = "strict") -> bool:
    """Whether `text` can be encoded: escapes and environments can hold half a surrogate pair.
    `errors`: as of `str.encode`."""
    try:
        text.encode(errors=errors)
    except UnicodeEncodeError:
        return False
    return True


def section_problem(section: str, name: str, message: str, fix: str) -> Problem:
    """A problem with the setting `name` of a section."""
    return Problem(message, fix, f"{section}.{name}")


def most_seconds(seconds: float) -> str:
    """The upper end of a range as a message names it: "10", or "2592000, which is 30 days"."""
    if seconds < SECONDS_A_DAY:
        return f"{seconds:g}"
    return f"{seconds:.0f}, which is {seconds / SECONDS_A_DAY:g} days"


def key_pair_problem(section: str, cert: str | None, key: str | None) -> Iterator[Problem]:
    """A certificate without its private key, or a key without its certificate."""
    if (cert is None) != (key is None):
        missing = "tls_key" if key is None else "tls_cert"
        yield Problem("is missing", "set tls_cert and tls_key together", f"{section}.{missing}")
