"""A lock that the child of a fork finds free."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable


class ForkLock:
    """A lock of this process alone.

    A thread that holds a plain lock while another one forks is not there in the child, where nobody
    would ever release it. What such a thread was changing stays in the child as it was then.
    """

    __slots__ = ("__weakref__", "_forget", "_kind", "_lock")

    def __init__(
        self,
        kind: Callable[[], threading.Lock | threading.RLock] = threading.Lock,
        *,
        forget: Callable[[], None] | None = None,
    ) -> None:
        """`kind`: `threading.RLock` where a thread may take it again. `forget`: is called in the
        child of a fork, for what is the parent's alone."""
        self._kind = kind
        self._forget = forget
        self._lock = kind()
        _all.add(self)

    def acquire(self, blocking: bool = True) -> bool:
        """As of `threading.Lock`."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """As of `threading.Lock`."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def forked(self) -> None:
        """This is the child of a fork."""
        self._lock = self._kind()
        if self._forget is not None:
            self._forget()


_all: weakref.WeakSet[ForkLock] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_all):
        one.forked()


os.register_at_fork(after_in_child=_after_fork)
