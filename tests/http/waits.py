"""Waits as header fields tell them, for tests whose calls take real time."""

from __future__ import annotations

import re


def in_minutes(field: str) -> str:
    """`Retry-After` or `RateLimit` with its wait rounded up to whole minutes.

    On a busy machine a second or more passes between two calls of a test.
    """
    return re.sub(r"(^|t=)(\d+)", lambda wait: f"{wait[1]}{-(-int(wait[2]) // 60) * 60}", field)
