"""An event loop whose time jumps to the next timer, and a table that shows the same time."""

from __future__ import annotations

import asyncio
import functools
import inspect
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from crdtbucket._core import Table
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.spec.bucket_spec import BucketSpec

T = TypeVar("T")
NS = 1_000_000_000
START_NS = 1_000 * NS


class _JumpSelector(selectors.SelectSelector):
    """A selector that moves the time on instead of waiting; to wait for nothing at all is a
    deadlock."""

    def __init__(self, world: VirtualTime) -> None:
        super().__init__()
        self._world = world

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("every task waits and no timer is set")
            if timeout > 0:
                self._world.set_ns(self._world.now_ns + max(1, round(timeout * NS)))
        return ready


class _JumpLoop(asyncio.SelectorEventLoop):
    def __init__(self, world: VirtualTime) -> None:
        super().__init__(_JumpSelector(world))
        self._world = world

    def time(self) -> float:
        return (self._world.now_ns - START_NS) / NS

    def timers(self) -> list[asyncio.TimerHandle]:
        """Timers that have not run, cancelled ones included."""
        return list(self._scheduled)  # type: ignore[attr-defined]


class VirtualTime:
    """A table and any number of loops in one virtual time."""

    def __init__(self, **table: Any) -> None:
        self.now_ns = START_NS
        self.table = Table(virtual=True, **table)
        self.table.set_time(START_NS)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return (self.now_ns - START_NS) / NS

    def set_ns(self, now_ns: int) -> None:
        assert now_ns >= self.now_ns
        self.now_ns = now_ns
        self.table.set_time(now_ns)

    def advance(self, seconds: float) -> None:
        """Moves the time on outside of a loop."""
        self.set_ns(self.now_ns + round(seconds * NS))

    def bucket(self, capacity: int = 10, rate: int = 10, name: str = "api", **more: Any) -> Bucket:
        """A bucket of the table: `rate` tokens a second."""
        return Bucket(self.table, BucketSpec(name, capacity, rate), **more)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does what `asyncio.run` does, in virtual time; no task may be left at the end."""
        loop = _JumpLoop(self)
        try:
            answer = loop.run_until_complete(work)
            assert not asyncio.all_tasks(loop)
            assert not [timer for timer in loop.timers() if not timer.cancelled()]
            return answer
        finally:
            loop.close()


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that runs in the virtual time of its fixture `time`, whether it names that or not."""
    asked = inspect.signature(test)
    named = asked.parameters.values()

    def run(time: VirtualTime, **fixtures: Any) -> None:
        if "time" in asked.parameters:
            fixtures["time"] = time
        time.run(test(**fixtures))

    functools.update_wrapper(run, test)
    time = inspect.Parameter("time", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    others = [one for one in named if one.name != "time"]
    run.__signature__ = asked.replace(parameters=[time, *others])  # type: ignore[attr-defined]
    return run
