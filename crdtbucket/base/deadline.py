"""Waits without losing a cancellation: for a coroutine in time, the first of some, a thread.

Up to Python 3.11 `asyncio.wait_for` forgets that its caller was cancelled when the work ends in the
same turn of the loop: a loop around it then runs on, and whoever cancelled it waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


async def first_of(*works: Coroutine[Any, Any, Any]) -> None:
    """Returns when the first of these ends, or raises its error; the others are cancelled, and have
    ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def within(seconds: float | None, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises; `asyncio.TimeoutError` when it is not done in time. None for
    `seconds` waits for ever.

    The work has ended in every case when this returns or raises. A result that comes together
    with the caller's cancellation is lost.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # marks the error as seen, if the caller is cancelled
    if task.cancelled():
        raise asyncio.TimeoutError
    try:
        return task.result()
    finally:
        # An error refers to this frame by its traceback. Were the frame to refer to the error, by
        # its task, both would stay until the garbage collector runs, which is rarely.
        del task


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
