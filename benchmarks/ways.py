"""Ways in which the processes of one host share a limit: what each needs before they start, and how
one of them then takes.

`prepare(place)` runs once, and its result is sent to every process. There `join(given, limit)`
makes a call that takes one token of the key that all share, and returns whether it was admitted.
"""

from __future__ import annotations

import fcntl
import inspect
import mmap
import os
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers import DAY, Limit, is_allowed, ours, pyrate_by_name, pyrate_rates, spec
from crdtbucket import ControllerSettings, Degradation, Limiter, RedisConfig

Call = Callable[[], Any]
KEY = "tenant-42"
NS = 1_000_000_000
OURS_ALONE = "crdtbucket, a memory for each process"
OURS_SHARED = "crdtbucket, shared table"


@dataclass(frozen=True)
class Place:
    """What one run has to itself: an empty folder, the context of its processes, an empty Redis
    ("" where none runs), and what is closed when it ends."""

    folder: Path
    context: Any
    redis: str
    stack: ExitStack


@dataclass(frozen=True)
class Way:
    """One way: how it is prepared and joined, and whether it belongs to another project."""

    prepare: Callable[[Place], Any]
    join: Callable[[Any, Limit], Call]
    peer: bool = True


def _nothing(place: Place) -> None:
    return None


def _file(place: Place) -> str:
    return str(place.folder / "shared")


def _redis(place: Place) -> str:
    return place.redis


# ---- this library ----


def _alone(given: None, limit: Limit) -> Call:
    return partial(ours(limit, 1000), KEY)


def has_shared() -> bool:
    """Whether a limiter can share its table with other processes."""
    return "shared" in inspect.signature(Limiter).parameters


def _shared(path: str, limit: Limit) -> Call:
    return partial(ours(limit, 1000, shared=path), KEY)


# ---- one number and a lock, as one would write it by hand ----


def _gcra(limit: Limit) -> Callable[[int], int | None]:
    """The new time of arrival of a bucket whose last is given; None when it denies."""
    step = NS // limit.rate if limit.rate else NS * DAY
    burst, clock = step * limit.capacity, time.monotonic_ns

    def decide(before: int) -> int | None:
        now = clock()
        after = max(now, before) + step
        return after if after - now <= burst else None

    return decide


def _lock(place: Place) -> tuple[Any, Any]:
    return place.context.RawValue("q", 0), place.context.Lock()


def _locked(given: tuple[Any, Any], limit: Limit) -> Call:
    (cell, lock), decide = given, _gcra(limit)

    def take() -> bool:
        with lock:
            after = decide(cell.value)
            if after is None:
                return False
            cell.value = after
            return True

    return take


def _flocked(path: str, limit: Limit) -> Call:
    handle, decide = os.open(path, os.O_RDWR | os.O_CREAT, 0o600), _gcra(limit)
    os.ftruncate(handle, 8)
    cell, number = mmap.mmap(handle, 8), struct.Struct("q")

    def take() -> bool:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            after = decide(number.unpack_from(cell)[0])
            if after is None:
                return False
            number.pack_into(cell, 0, after)
            return True
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)

    return take


# ---- pyrate-limiter ----


def _manager(place: Place) -> Any:
    from pyrate_limiter import MultiprocessStateStore

    manager = place.stack.enter_context(place.context.Manager())
    return MultiprocessStateStore(manager.list(), place.context.RLock())


def _managed(store: Any, limit: Limit) -> Call:
    from pyrate_limiter import MonotonicClock

    return partial(pyrate_by_name(limit, MonotonicClock(), lambda _: store), KEY)


def _sqlite(path: str, limit: Limit) -> Call:
    from pyrate_limiter import Limiter as Pyrate
    from pyrate_limiter import SQLiteBucket

    bucket = SQLiteBucket.init_from_file(pyrate_rates(limit), db_path=path, use_file_lock=True)
    return partial(Pyrate(bucket).try_acquire, KEY, blocking=False)


# ---- one Redis ----


def _redis_limits(url: str, limit: Limit) -> Call:
    from limits import RateLimitItemPerDay
    from limits.storage import RedisStorage
    from limits.strategies import FixedWindowRateLimiter

    hit = FixedWindowRateLimiter(RedisStorage(url)).hit
    return partial(hit, RateLimitItemPerDay(limit.capacity), KEY)


def _redis_throttled(url: str, limit: Limit) -> Call:
    from throttled import RateLimiterType, RedisStore, Throttled, per_day, per_sec

    quota = per_sec(limit.rate, burst=limit.capacity) if limit.rate else per_day(
        limit.capacity, burst=limit.capacity
    )  # fmt: skip
    take = Throttled(
        using=RateLimiterType.GCRA.value, quota=quota, store=RedisStore(server=url)
    ).limit
    return lambda: is_allowed(take(KEY))


def _redis_ours(url: str, limit: Limit) -> Call:
    limiter = Limiter(
        [spec(limit, consistency="strong")],
        node=f"bench-{os.getpid()}",
        redis=RedisConfig(url=url, deadline=2.0),
        # When the machine is slow for a while, answers are late here, but it is no outage.
        degradation=Degradation(modes=ControllerSettings(latency_limit=1.0, outage_after=5.0)),
    )
    limiter.__enter__()  # it ends with its process
    return partial(limiter.bucket("bench").acquire_sync, KEY)


WAYS: dict[str, Way] = {
    OURS_ALONE: Way(_nothing, _alone, peer=False),
    "a number and multiprocessing.Lock": Way(_lock, _locked, peer=False),
    "a mapped file and flock": Way(_file, _flocked, peer=False),
    OURS_SHARED: Way(_file, _shared, peer=False),
    "pyrate-limiter, multiprocess store": Way(_manager, _managed),
    "pyrate-limiter, SQLite store": Way(_file, _sqlite),
    "limits, fixed window, in Redis": Way(_redis, _redis_limits),
    "throttled-py, GCRA, in Redis": Way(_redis, _redis_throttled),
    "crdtbucket, strong, in Redis": Way(_redis, _redis_ours, peer=False),
}
"""All ways by name; the first shares nothing."""
