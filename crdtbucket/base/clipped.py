"""Shows a value that was refused, in so few characters that a message stays a line."""

from __future__ import annotations

LONGEST = 60
"""Characters: a file that was given by mistake may have anything in it, of any length."""


def clipped(value: object) -> str:
    """The repr of a value that was refused, cut to a length that fits a message."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
