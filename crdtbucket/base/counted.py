"""Writes a count with its noun: "1 bucket", "2,000 buckets"."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A count and what is counted: "1 bucket", "2,000 buckets". The plural adds an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
