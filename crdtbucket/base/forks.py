"""Repairs the child of a fork before anything else runs in it, and has a lock that is free
there."""

from __future__ import annotations

import contextlib
import enum
import os
import threading
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


class ForkLock:
    """A lock of this process alone, which the thread that holds it may take again.

    A thread that holds a plain lock while another one forks is not there in the child, where nobody
    would ever release it: there this one is free. What such a thread was changing stays in the
    child as it was then. The thread that forks goes on in the child, and holds there what it held.
    """

    __slots__ = ("__weakref__", "_forget", "_lock")

    def __init__(self, *, forget: Callable[[], None] | None = None) -> None:
        """`forget`: is called in the child of a fork, for what is the parent's alone."""
        self._forget = forget
        self._lock = threading.RLock()
        after_fork(self, Turn.LOCKS, ForkLock.forked)

    def acquire(self, blocking: bool = True) -> bool:
        """Takes the lock and returns True. With `blocking` false it returns False at once when
        another thread holds the lock."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Gives the lock back; it is free once each `acquire` of this thread has had its
        release."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def forked(self) -> None:
        """This is the child of a fork."""
        if self._lock.acquire(blocking=False):  # it is free, or this thread's
            self._lock.release()
        else:
            self._lock = threading.RLock()
        if self._forget is not None:
            self._forget()


os.register_at_fork(after_in_child=_in_child)
