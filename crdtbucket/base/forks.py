"""What the child of a fork sets right before anything else runs in it."""

from __future__ import annotations

import contextlib
import enum
import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

Owner = TypeVar("Owner")


class Turn(enum.IntEnum):
    """The order in the child, whatever was imported or made first."""

    LOCKS = 0
    """Locks that other threads of the parent held are free: whatever follows may take them."""
    TABLES = 1
    """Shared tables are used under a lock and counters of this process, or refuse decisions."""
    LIMITERS = 2
    """What is open stays the parent's, and that is why decisions are refused, whatever their
    table refuses them for."""


def after_fork(owner: Owner, turn: Turn, deed: Callable[[Owner], object]) -> None:
    """`deed` is called with `owner` in each forked child, for as long as `owner` lives.

    The last deed that is given for an owner counts; it must not refer to the owner by itself. One
    that raises keeps no other from its turn; Python reports what it raised. (The core counts forks
    by itself, and looks at their number when a decision is refunded: it needs no turn.)
    """
    _deeds[turn][owner] = deed


_deeds: dict[Turn, weakref.WeakKeyDictionary[Any, Callable[[Any], object]]] = {
    turn: weakref.WeakKeyDictionary() for turn in Turn
}


def _in_child() -> None:
    with contextlib.ExitStack() as last_first:
        for turn in reversed(Turn):
            for owner, deed in list(_deeds[turn].items()):
                last_first.callback(deed, owner)


os.register_at_fork(after_in_child=_in_child)
