"""Work that lasts as long as its owner, in a task that nobody awaits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

AGAIN_S = 1.0
"""Seconds until work in which there was a bug begins again."""


async def lasting(work: Callable[[], Awaitable[None]], what: str, log: logging.Logger) -> None:
    """Runs `work` until it returns or is cancelled. An exception of it, which is a bug in `what`,
    is logged, and `work` is called again: else the process would go on without it, unnoticed."""
    while True:
        try:
            return await work()
        except Exception as error:
            if _while_cancelled(error):  # whoever cancelled it waits for its end
                log.exception("a bug in the end of %s", what)
                return None
            log.exception("a bug in %s, which begins again in %g s", what, AGAIN_S)
        await asyncio.sleep(AGAIN_S)


def _while_cancelled(error: BaseException | None) -> bool:
    # A time-out cancels as well, but nobody waits for the end of the work then.
    while error is not None and not isinstance(
        error, (asyncio.CancelledError, asyncio.TimeoutError)
    ):
        error = error.__context__
    return isinstance(error, asyncio.CancelledError)
