"""Checks of the fields of a definition: names, whole numbers and words of a set."""

from __future__ import annotations

import unicodedata

from crdtbucket.errors import InvalidSpec

MAX_TOKENS = 2**53
MAX_NAME_LENGTH = 200


def check_whole(field_name: str, value: int, low: int, high: int) -> int:
    """`value`, when it is a whole number from `low` to `high`; else `InvalidSpec`."""
    # bool is an int in Python, and True tokens is never what was meant.
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        upto = "2^53" if high == MAX_TOKENS else str(high)
        fix = f"write a whole number from {low} to {upto}"
        raise InvalidSpec(f"{field_name} is {clipped(value)}", fix, field_name)
    return value


def check_choice(field_name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises `InvalidSpec` unless `value` is one of the words."""
    if not isinstance(value, str) or value not in choices:
        words = " or ".join(f'"{choice}"' for choice in choices)
        raise InvalidSpec(f"{field_name} is {clipped(value)}", f"write {words}", field_name)


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


def clipped(value: object) -> str:
    """The repr of a value that was refused, cut to a length that fits a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
