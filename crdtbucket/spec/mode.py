"""The modes: the rule under which a decision was made."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Literal

Consistency = Literal["strong", "eventual"]
"""The modes that a definition may ask for."""


class Mode(str, Enum):
    """The way in which this node and the others share a bucket at the moment. It equals its plain
    string.

    `strong`: a common store and this node's own level both agreed. `eventual`: decided in this
    process from what it knows through the mesh. `fallback`: decided by the reduced quota of an
    outage. They are ordered from the best one to the worst one.
    """

    STRONG = "strong"
    EVENTUAL = "eventual"
    FALLBACK = "fallback"

    def __str__(self) -> str:
        # str() of a mixed-in Enum differs between Python 3.10 and 3.12: fix it to the value.
        return self.value


MODES = (Mode.STRONG, Mode.EVENTUAL, Mode.FALLBACK)
"""The modes by their numbers on the wire, which never change: a new mode comes last, whatever its
rank."""
COUNTED = (Mode.STRONG, Mode.FALLBACK)
"""The modes whose decisions the core counts separately, by their place in `counts_t`; all its other
decisions were made in eventual mode."""
_ORDER = tuple(Mode)


def worst(modes: Iterable[Mode]) -> Mode:
    """The worst one of these modes."""
    return max(modes, key=_ORDER.index)
