"""Waits for conditions, with a bound that a slow and busy machine does not reach."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

WITHIN_S = 120.0
NEVER = "it did not happen in time"


def is_closed(opened: Coroutine[Any, Any, socket.socket]) -> None:
    """Fails unless the other end of the socket that is `opened` is closed once its loop has
    ended."""
    with asyncio.run(opened) as client:
        gc.collect()
        client.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def until(holds: Callable[[], object], what: str = NEVER) -> None:
    """Blocks until `holds` is true; fails with `what` when it never is."""
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


async def eventually(holds: Callable[[], object], what: str = NEVER) -> None:
    """Waits on an event loop; the answer of `holds` may have to be awaited."""
    deadline = time.monotonic() + WITHIN_S
    while not (await so if inspect.isawaitable(so := holds()) else so):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)
