"""Runs work on another event loop, in another thread, and loses no result between the two."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from crdtbucket.errors import CrdtbucketError

T = TypeVar("T")
LOOK_AGAIN_S = 1.0
"""A blocked thread looks so often (s) whether the loop is closed, since a closed loop never
answers."""


def runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the calling thread runs this event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def check_no_loop(blocking: str, instead: str) -> None:
    """Raises `CrdtbucketError` in a thread whose event loop the call `blocking` would hold up."""
    if asyncio._get_running_loop() is not None:  # the public one raises, which takes longer
        raise CrdtbucketError(f"{blocking} would block the event loop here: {instead}")


async def run_on(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None]
) -> T:
    """What `work` returns or raises on `loop`. When the caller is cancelled, `work` is, too; a
    result that it returns all the same goes to `unwanted`, on `loop`. Raises `RuntimeError` when
    the loop is closed."""
    claim = _begun(loop, work, unwanted)
    try:
        return await asyncio.wrap_future(claim)
    except asyncio.CancelledError:
        _give_up(loop, claim, unwanted)
        raise


def block_on(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None]
) -> T:
    """`run_on` for a thread without an event loop, which it blocks. Given up when an exception,
    such as `KeyboardInterrupt`, breaks into the thread. Raises `RuntimeError` when the loop is
    closed, now or before the work is done."""
    claim = _begun(loop, work, unwanted)
    try:
        while not claim.done():
            concurrent.futures.wait([claim], LOOK_AGAIN_S)
            if loop.is_closed() and not claim.done():
                work.close()
                raise RuntimeError("the event loop was closed before the work was done")
        if claim.cancelled():
            raise RuntimeError("the event loop ended before the work was done")
        return claim.result()
    except BaseException:
        _give_up(loop, claim, unwanted)
        raise


def _begun(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], unwanted: Callable[[T], None]
) -> concurrent.futures.Future[T]:
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
    return claim


def _give_up(
    loop: asyncio.AbstractEventLoop,
    claim: concurrent.futures.Future[T],
    unwanted: Callable[[T], None],
) -> None:
    if (
        not (claim.cancelled() or claim.cancel())
        and claim.exception() is None
        and not loop.is_closed()
    ):
        loop.call_soon_threadsafe(unwanted, claim.result())
