"""What may happen in the middle of a call: changes by another thread, and signals."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 400


def interrupted(work: Callable[[], T], change: Callable[[], object]) -> T:
    """What `work` returns, where `change` is made before each of its lines, the first `MOST`."""
    left = MOST

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line" and left:
            left -= 1
            sys.settrace(None)
            change()
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return work()
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def signals_on_and_on() -> Iterator[None]:
    """A signal comes every 10 ms, as from a profiler; the 1,000th fails what waits for so long."""
    seen = []

    def handler(*_: object) -> None:
        seen.append(1)
        assert len(seen) < 1_000, "the wait does not end"

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen
