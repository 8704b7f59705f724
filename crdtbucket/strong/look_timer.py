"""A timer for deadlines of answers: it reads what has arrived before it calls an answer missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crdtbucket.base.clock import NS_PER_SECOND, now_ns

LOOK_S = 0.001
"""Before an answer is called missing, the loop gets so long to read what the socket may hold."""


class LookTimer:
    """The timer of one queue of deadlines. A late loop runs it late, with answers unread."""

    def __init__(self, due: Callable[[], int | None], expire: Callable[[int], None]) -> None:
        """`due`: when the next deadline passes (`clock.now_ns`), None when there is none. `expire`
        gets a time; deadlines before it have passed, with no answer in the socket."""
        self._due = due
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """There is a deadline. Does nothing when the timer is set already."""
        due = None if self._timer is not None else self._due()
        if due is not None:
            delay = max(0, due - now_ns()) / NS_PER_SECOND
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK_S, self._passed, now_ns())

    def _passed(self, looked_ns: int) -> None:
        self._timer = None
        self._expire(looked_ns)
        self.arm()
