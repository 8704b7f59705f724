"""A lock that the child of a fork finds free."""

from __future__ import annotations

import threading
from collections.abc import Callable

from crdtbucket.base.forks import Turn, after_fork


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
        """As of `threading.RLock`."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """As of `threading.RLock`."""
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
