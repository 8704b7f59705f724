"""What another thread may do in the middle of a call, at the same places each time."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
