"""Under which rule a decision was made."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Mode(str, Enum):
    """How this node and the others share a bucket at the moment; equal to its plain string.

    `strong`: a common store and this node's own level both agreed. `eventual`: decided in this
    process from what it knows through the mesh. `fallback`: decided by the reduced quota of an
    outage.
    """

    STRONG = "strong"
    EVENTUAL = "eventual"
    FALLBACK = "fallback"

    def __str__(self) -> str:
        # str() of a mixed-in Enum differs between Python 3.10 and 3.12: fix it to the value.
        return self.value


MODES = (Mode.STRONG, Mode.EVENTUAL, Mode.FALLBACK)
"""By their numbers on the wire, which stay; a worse one later."""


def worst(modes: Iterable[Mode]) -> Mode:
    """The one of these that is furthest from strong."""
    return max(modes, key=MODES.index)
