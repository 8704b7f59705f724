"""Runs functions in a forked child, and returns to the parent what they did."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

BOUND_S = 60.0
"""Seconds after which a child waits for something that only its parent could do."""


def in_child(*deeds: Callable[[], object]) -> list[str]:
    """What each of these functions returns or raises in one forked child, as text. The child is
    killed, and the test fails, when they have not ended in time."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, "\0".join(map(_outcome, deeds)).encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        if not select.select([read], [], [], BOUND_S)[0]:
            os.kill(child, signal.SIGKILL)
            raise AssertionError("the forked child hangs")
        return os.read(read, 65_536).decode().split("\0")
    finally:
        os.close(read)
        os.waitpid(child, 0)


def _outcome(deed: Callable[[], object]) -> str:
    try:
        return str(deed())
    except Exception as error:  # noqa: BLE001 - the test asks for it
        return f"{type(error).__name__}: {error}"
