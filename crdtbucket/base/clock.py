"""The one place in Python that asks the system for the time, and a clock that tests can turn.

All times are integer nanoseconds of a clock that only goes forward; its origin means nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

NS_PER_SECOND = 1_000_000_000

# CLOCK_BOOTTIME goes on while the machine sleeps, so a laptop that wakes has refilled its
# buckets. Where a kernel has no such clock the monotonic one is the nearest.
_CLOCK_ID: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ns() -> int:
    """Nanoseconds since the machine started, time asleep included; never goes back."""
    return time.clock_gettime_ns(_CLOCK_ID)


def clock_offset_ns(proc: str = "/proc") -> int | None:
    """Nanoseconds by which a time namespace has moved the clock of `now_ns`; None where the system
    does not say. `proc`: where it says it."""
    spaces = f"{proc}/self/ns/time"
    try:
        # A process that has prepared another one for its children is shown that one.
        if not os.path.samefile(spaces, f"{spaces}_for_children"):
            return None
        with open(f"{proc}/self/timens_offsets") as offsets:
            rows = {name: (int(s), int(ns)) for name, s, ns in map(str.split, offsets)}
    except FileNotFoundError:  # no Linux, or one without namespaces of time
        return None
    seconds, nanoseconds = rows["boottime"]
    return seconds * NS_PER_SECOND + nanoseconds


def boot_id(proc: str = "/proc") -> bytes:
    """Names the origin of `now_ns`: in two processes with the same name times can be compared.
    Empty where the system does not say.

    A namespace is not named by its number, which the kernel gives to another one once it has ended.
    """
    offset = clock_offset_ns(proc)
    if offset is None:
        return b""
    with open(f"{proc}/sys/kernel/random/boot_id", "rb") as boot:
        return boot.read().strip() + b" %d" % offset


class WallClock:
    """The clock that calendar quotas go by. Called with the present local time (ns), it returns ns
    since 1970 (UTC).

    It is the machine's wall clock. Where that is compared with the peers' it is local time and
    `ahead_ns`, so that a clock that is set counts when the comparison knows of it, and not before.
    """

    __slots__ = ("ahead_ns", "machine_ns")

    def __init__(self, read: Callable[[], int] = time.time_ns) -> None:
        """`read`: the machine's, for tests."""
        self.machine_ns = read
        """Reads the machine's own wall clock (ns since 1970)."""
        self.ahead_ns: int | None = None
        """How far (ns) the clock is ahead of local time; None where it is not compared with
        peers."""

    def follow(self, ahead_ns: int) -> None:
        """The clock was compared with those of peers: from now on it is so far (ns) ahead of local
        time."""
        self.ahead_ns = ahead_ns

    def __call__(self, now: int) -> int:
        return self.machine_ns() if self.ahead_ns is None else now + self.ahead_ns
