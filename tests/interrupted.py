"""What may happen in the middle of a call: changes by another thread, or signals."""

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
    """What `work` returns when `change` is called before each of its first `MOST` lines."""
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
    """Sends a signal every 10 ms, as a profiler does; the 1,000th ends what still waits."""
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
