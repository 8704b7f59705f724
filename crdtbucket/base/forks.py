"""Repairs the child of a fork before anything else runs in it; `ForkLock` is a lock that is free
there."""

from __future__ import annotations

import _thread
import contextlib
import enum
import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

Owner = TypeVar("Owner")


class Turn(enum.IntEnum):
    """The order in which parts of the child of a fork are repaired, whatever was imported or made
    first."""

    LOCKS = 0
    """Locks that other threads of the parent held are free: whatever follows may take them."""
    TABLES = 1
    """Shared tables are used under a lock and counters of this process, or refuse decisions."""
    LIMITERS = 2
    """An open limiter stays the parent's. It is repaired last, so that decisions are refused for
    this reason, whatever the reason of their table is."""


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


class ForkLock(_thread.RLock):  # type: ignore[misc]  # final in the stub alone
    """A lock of this process alone, which the thread that holds it may take again.

    A thread that holds a plain lock while another one forks is not there in the child, where nobody
    would ever release it: there this one is free. What such a thread was changing stays in the
    child as it was then. The thread that forks goes on in the child, and holds there what it held.
    It is one of the interpreter's own, for a `with` calls no function of Python then.
    """

    __slots__ = ("_forget",)
    _forget: Callable[[], None] | None

    def __new__(cls, *, forget: Callable[[], None] | None = None) -> ForkLock:
        """`forget`: is called in the child of a fork, for what is the parent's alone."""
        made = super().__new__(cls)
        made._forget = forget
        after_fork(made, Turn.LOCKS, ForkLock.forked)
        return made

    def forked(self) -> None:
        """This is the child of a fork."""
        if self.acquire(blocking=False):  # it is free, or this thread's
            self.release()
        else:
            self._at_fork_reinit()  # type: ignore[attr-defined]  # as threading's own locks
        if self._forget is not None:
            self._forget()


os.register_at_fork(after_in_child=_in_child)
