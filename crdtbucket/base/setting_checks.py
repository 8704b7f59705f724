"""Checks that settings of different parts have in common; each yields the problem that it finds.

The range of a number stands in the annotation of its field, as in
`max_peers: Annotated[int, WholeRange(1, 1024)] = 64`. The checks read it there, and so does the
section of a configuration file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, get_args, get_type_hints

from crdtbucket.errors import Problem

HOST_PORT, RATIO, WEBHOOK = "host:port", "ratio", "webhook"
"""In the annotation of a field: an address, a share above 0 and up to 1, a URL for notices."""


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
        low, high = (one if isinstance(one, int) else f"{one:g}" for one in (self.low, self.high))
        word = f", or {self.word}" if self.word else ""
        yield Problem(f"is {value!r}", f"write {self.unit} from {low} to {high}{word}", path)


class SecondsRange(NumberRange):
    """The spans that a field may have, in seconds."""

    unit = "seconds"


class WholeRange(NumberRange):
    """The whole numbers that a field may have."""

    unit = "a whole number"
    kind = int


@cache
def ranges_of(settings: Any) -> Mapping[str, NumberRange]:
    """The range of each field that has one in its annotation."""
    hints = get_type_hints(settings, include_extras=True)
    return {
        name: mark
        for name, hint in hints.items()
        for option in (hint, *get_args(hint))
        for mark in getattr(option, "__metadata__", ())
        if isinstance(mark, NumberRange)
    }


def range_problems(section: str, settings: Any) -> Iterator[Problem]:
    """The fields that are out of their range. What a field is by itself is always right."""
    kind: Any = type(settings)
    for name, allowed in ranges_of(kind).items():
        value = getattr(settings, name)
        if value is not getattr(kind, name):
            yield from allowed.problem(f"{section}.{name}", value)


def section_problem(section: str, name: str, message: str, fix: str) -> Problem:
    """A problem with the setting `name` of a section."""
    return Problem(message, fix, f"{section}.{name}")


def key_pair_problem(section: str, cert: str | None, key: str | None) -> Iterator[Problem]:
    """A certificate without its private key, or a key without its certificate."""
    if (cert is None) != (key is None):
        missing = "tls_key" if key is None else "tls_cert"
        yield Problem("is missing", "set tls_cert and tls_key together", f"{section}.{missing}")
