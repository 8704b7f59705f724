"""Words for a key or choice that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_key(name: str, known: Iterable[str]) -> tuple[str, str]:
    """The fault and the fix for a key that is not among `known`."""
    return f"unknown key {name!r}", did_you_mean(name, known)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest of the `known` words, or all of them when none is near."""
    words = sorted(known)
    near = difflib.get_close_matches(word.lower().replace("-", "_"), words, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(words)}"


__all__ = ["did_you_mean", "unknown_key"]
