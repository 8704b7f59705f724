"""A lock in the child of a fork, while a thread of the parent holds it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket import AskedOverrides, BucketSpec, Limiter
from crdtbucket.base.fork_lock import ForkLock
from tests.forks import in_child


class Holder:
    """A thread that holds locks until the end of a `with` block."""

    def __init__(self, *locks: ForkLock) -> None:
        self._locks = locks
        self._held, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def _hold(self) -> None:
        for lock in self._locks:
            lock.acquire()
        self._held.set()
        self._end.wait()
        for lock in self._locks:
            lock.release()

    def __enter__(self) -> None:
        self._thread.start()
        self._held.wait()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_it_is_free_in_the_child_and_held_in_the_parent(kind: Callable[[], Any]) -> None:
    lock = ForkLock(kind)
    with Holder(lock):
        assert in_child(lambda: lock.acquire(blocking=False), lock.release) == ["True", "None"]
        assert not lock.acquire(blocking=False)
    with lock:
        assert lock.acquire(blocking=False) is (kind is threading.RLock)


def test_a_child_decides_whatever_threads_of_its_parent_were_doing() -> None:
    asked = AskedOverrides(lambda _: "7/day")
    limiter = Limiter([BucketSpec("api", 10, 1, overrides=asked)])
    bucket, in_force = limiter.bucket("api"), limiter._in_force
    answers = in_force.outside.of("api").asked
    assert answers is not None
    overrides = limiter.overrides
    locks = (in_force.lock, answers._lock, bucket.waiters._lock, overrides.book.lock)  # type: ignore[attr-defined]
    with Holder(*locks, overrides._making, overrides._ordering, overrides._writing):
        assert in_child(
            lambda: bucket.take("k").limit,
            lambda: overrides.set("api", "k", "8/day"),
            lambda: bucket.wait_sync("k").limit,
        ) == ["7", "True", "8"]
