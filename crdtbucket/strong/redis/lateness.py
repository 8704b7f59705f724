"""Measures how late an event loop is, and how long an answer lay unread: neither is the server's
latency.

A loop that is busy with other callbacks reads an answer late. Two upper bounds of that delay are
known, and the smaller one is subtracted from a latency: the lateness of the loop itself between the
sending and the reading, which a timer measures, and the age of the newest bytes of the socket,
where the system gives it (Linux, over TCP, to a few milliseconds). The second bound matters when
the loop was blocked while the server was slow as well: the first alone would hide the slowness.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from weakref import WeakKeyDictionary

from crdtbucket.base.clock import NS_PER_SECOND, now_ns

PERIOD_NS = 2_000_000
"""Between two wake-ups of the timer, in ns."""
TOLERATED_NS = 2_000_000
"""A wake-up that is later than this (ns) counts as lateness, all of it; timers are not exact."""
MOST_NS = 100_000_000
"""A turn of the loop counts for no more than this (ns) towards a silence: the process may have been
stopped, or the whole machine, with the server on it."""
_TCP_INFO_BYTES = 104
_LAST_DATA_RECEIVED = 52  # a 32-bit number of milliseconds in Linux' struct tcp_info


class Lateness:
    """Measures by how much one event loop is late, while a caller waits for an answer.

    No timer runs at other times. Use it on its loop only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting = 0
        self._due: int | None = None
        self._total = 0
        self._stopped = 0

    def begin(self, now: int) -> None:
        """One more caller waits for an answer, at `now` (`clock.now_ns`)."""
        self._waiting += 1
        if self._due is None:
            self._arm(now)

    def end(self) -> None:
        """One caller waits no longer."""
        self._waiting -= 1

    def total(self, now: int) -> int:
        """Nanoseconds by which the loop was late in total, up to `now`; only differences between
        two moments at which somebody waited are meaningful."""
        return self._total + self._overdue(now)

    def stopped(self) -> int:
        """Nanoseconds by which turns of the loop took longer than `MOST_NS`, up to now; only
        differences mean something, as with `total`."""
        if self._due is None:
            return self._stopped  # asked for at every decision, and mostly there is no timer
        return self._stopped + self._beyond(now_ns())

    def _arm(self, now: int) -> None:
        self._due = now + PERIOD_NS
        self._loop.call_later(PERIOD_NS / NS_PER_SECOND, self._tick)

    def _tick(self) -> None:
        now = now_ns()
        self._total += self._overdue(now)
        self._stopped += self._beyond(now)
        self._due = None
        if self._waiting > 0:
            self._arm(now)

    def _overdue(self, now: int) -> int:
        late = 0 if self._due is None else now - self._due
        return late if late > TOLERATED_NS else 0

    def _beyond(self, now: int) -> int:
        """By how much the turn under way, which began a period before the timer is due, has taken
        longer than `MOST_NS`."""
        return 0 if self._due is None else max(0, now - self._due + PERIOD_NS - MOST_NS)


_OF_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, Lateness] = WeakKeyDictionary()


def lateness_of(loop: asyncio.AbstractEventLoop) -> Lateness:
    """The one measure of a loop, which all its connections share. Call it on that loop."""
    found = _OF_LOOPS.get(loop)
    if found is None:
        found = _OF_LOOPS[loop] = Lateness(loop)
    return found


class Newest:
    """Measures the age of the newest bytes that a socket has received. It does not own the
    socket."""

    def __init__(self, found: socket.socket | None) -> None:
        """`found`: of a transport, or any; None where there is none."""
        self._socket: socket.socket | None = None
        if sys.platform == "linux" and found is not None:
            # Some loops hand out an object that has no getsockopt: a copy of the descriptor has.
            try:
                self._socket = socket.fromfd(found.fileno(), found.family, found.type)
            except OSError:  # closed meanwhile
                return
            if self._socket.family == socket.AF_UNIX:
                self.close()

    def age_ns(self) -> int | None:
        """Nanoseconds since the newest bytes came; None where the system does not say."""
        if self._socket is None:
            return None
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:  # a system that emulates Linux need not have it
            info = b""
        if len(info) < _LAST_DATA_RECEIVED + 4:
            self.close()
            return None
        (milliseconds,) = struct.unpack_from("=I", info, _LAST_DATA_RECEIVED)
        return int(milliseconds) * 1_000_000

    def close(self) -> None:
        """The connection has ended."""
        found, self._socket = self._socket, None
        if found is not None:
            found.close()
