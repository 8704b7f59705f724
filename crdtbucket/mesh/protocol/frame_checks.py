"""Checks of the fields in the header of a frame. Each takes the name of a field and its value, and
returns the value or raises WireError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crdtbucket.errors import WireError

FrameCheck = Callable[[str, object], Any]


def whole(low: int, high: int) -> FrameCheck:
    """A whole number in this range."""

    def check(name: str, value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise WireError(f"{name} is out of range")
        return value

    return check


def text(limit: int) -> FrameCheck:
    """A text of so many bytes of UTF-8 at most: characters would allow four times as much, and the
    names that a member invents stand in frames of others."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or len(value.encode()) > limit:
            raise WireError(f"{name} is not a short text")
        return value

    return check


def printable(limit: int) -> FrameCheck:
    """The same, of a text that can be logged."""
    read = text(limit)

    def check(name: str, value: object) -> str:
        shown: str = read(name, value)
        if not shown.isprintable():
            raise WireError(f"{name} is not printable")
        return shown

    return check


def bits(limit: int) -> FrameCheck:
    """So many bits at most, the lowest first, as a whole number."""

    def check(name: str, value: object) -> int:
        if not isinstance(value, bytes) or len(value) > limit // 8:
            raise WireError(f"{name} is malformed")
        return int.from_bytes(value, "little")

    return check


def many(limit: int, each: FrameCheck) -> FrameCheck:
    """A list of at most `limit` items, each of which passes a check."""

    def check(name: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, tuple) or len(value) > limit:
            raise WireError(f"{name} is not a short list")
        return tuple([each(name, item) for item in value])

    return check


def row(*checks: FrameCheck) -> FrameCheck:
    """A list in which each item passes the check in its place."""

    def check(name: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, tuple) or len(value) != len(checks):
            raise WireError(f"{name} has a malformed row")
        return tuple([one(name, item) for one, item in zip(checks, value, strict=True)])

    return check


def rising(check_row: FrameCheck) -> FrameCheck:
    """A row of which the first two items are a range."""

    def check(name: str, value: object) -> tuple[Any, ...]:
        found: tuple[Any, ...] = check_row(name, value)
        if found[0] > found[1]:
            raise WireError(f"{name} is not a range")
        return found

    return check
