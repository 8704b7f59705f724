"""Work on another event loop, in another thread, whose result is not lost between the two."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def run_on(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None]
) -> T:
    """What `work` returns or raises on `loop`. Cancelled with the caller; a result that comes all
    the same goes to `unwanted`, on `loop`. Raises `RuntimeError` when the loop is closed."""
    claim: concurrent.futures.Future[T] = concurrent.futures.Future()

    def start() -> None:
        task = loop.create_task(work)
        task.add_done_callback(ended)

        def cancelled(_: concurrent.futures.Future[T]) -> None:
            if claim.cancelled() and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        claim.add_done_callback(cancelled)

    def ended(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            claim.cancel()
            return
        error = task.exception()
        if not claim.set_running_or_notify_cancel():
            if error is None:
                unwanted(task.result())
        elif error is not None:
            claim.set_exception(error)
        else:
            claim.set_result(task.result())

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:
        work.close()
        raise
    try:
        return await asyncio.wrap_future(claim)
    except asyncio.CancelledError:
        if not claim.cancel() and claim.exception() is None and not loop.is_closed():
            loop.call_soon_threadsafe(unwanted, claim.result())
        raise


__all__ = ["run_on"]
