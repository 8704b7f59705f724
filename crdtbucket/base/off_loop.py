"""Runs long work in a thread, so that the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


async def off_loop(work: Callable[[], T]) -> T:
    """What `work` returns or raises, in a thread of its own. A caller that is cancelled meanwhile
    waits until the work has ended, since it cannot be stopped: what comes after finds it done.

    An interpreter that ends has no threads to give; then the loop waits for the work."""
    try:
        task = asyncio.get_running_loop().run_in_executor(None, copy_context().run, work)
    except RuntimeError:
        return work()
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):  # raised below
                await asyncio.wait([task])
        raise
