"""The lock in the child of a fork is free, even if a thread of the parent held it."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import crdtbucket
from crdtbucket import AskedOverrides, BucketSpec, Limiter
from crdtbucket.base.forks import ForkLock
from crdtbucket.limiter.saved_state import SavedState
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


def test_it_is_free_in_the_child_and_held_in_the_parent() -> None:
    lock = ForkLock()
    with Holder(lock):
        assert in_child(lambda: lock.acquire(blocking=False), lock.release) == ["True", "None"]
        assert not lock.acquire(blocking=False)


def test_the_thread_that_forks_holds_in_the_child_what_it_held() -> None:
    lock = ForkLock()

    def of_another_thread() -> bool:
        got: list[bool] = []
        thread = threading.Thread(target=lambda: got.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        return got[0]

    with lock, lock:
        said = in_child(of_another_thread, lock.release, lock.release, of_another_thread)
        assert said == ["False", "None", "None", "True"]
        assert not of_another_thread()


def test_every_lock_of_the_package_is_one() -> None:
    """A plain one may be held for ever in a child."""
    package = Path(crdtbucket.__file__).parent
    plain = re.compile(r"\bR?Lock\(\)")
    assert [
        str(one.relative_to(package))
        for one in sorted(package.rglob("*.py"))
        if plain.search(one.read_text().replace("ForkLock()", ""))
    ] == []


@pytest.mark.parametrize("call", ["save", "give_up"])
def test_a_child_saves_nothing_and_waits_for_no_save_of_its_parents(call: str) -> None:
    table: Any = SimpleNamespace(
        epochs=SimpleNamespace(running=1), inbox=SimpleNamespace(suspects=0)
    )
    state = SavedState(table, None)
    with Holder(state._saving):
        assert in_child(getattr(state, call)) == ["None"]


def test_a_child_decides_whatever_threads_of_its_parent_were_doing() -> None:
    asked = AskedOverrides(lambda _: "7/day")
    limiter = Limiter([BucketSpec("api", 10, 1, overrides=asked)])
    bucket, in_force = limiter.bucket("api"), limiter.in_force
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
