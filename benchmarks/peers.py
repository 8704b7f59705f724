"""Other rate limiters for Python, all asked in the same way: `take(key)`, see `is_allowed`.

Each is set up as its documentation shows for one process and many keys, with the fastest of its
algorithms that is no sliding log.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from benchmarks.measure import Case, awaited, failure
from crdtbucket import BucketSpec, Limiter

Take = Callable[[str], Any]
T = TypeVar("T")

PLENTY = 10**9
"""Capacity of a limit that never denies here."""


@dataclass(frozen=True)
class Limit:
    """A token bucket: `rate` tokens a second, `capacity` at once; `rate` 0 is one token a day."""

    capacity: int
    rate: int


ALLOWED = Limit(PLENTY, 1_000_000)
DENIED = Limit(1, 0)
DAY = 86_400


def spec(limit: Limit, **options: Any) -> BucketSpec:
    """The limit as a definition of this library."""
    every = "1s" if limit.rate else "1d"
    return BucketSpec("bench", limit.capacity, limit.rate or 1, every, **options)


def ours(limit: Limit, max_keys: int, **options: Any) -> Take:
    """`Bucket.take` of this library."""
    return Limiter([spec(limit)], max_keys=max(1000, max_keys), **options).bucket("bench").take


def _limits(limit: Limit, _: int) -> Take:
    from limits import RateLimitItemPerDay
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    hit = FixedWindowRateLimiter(MemoryStorage()).hit
    item = RateLimitItemPerDay(limit.capacity)
    return partial(hit, item)


def _throttled(limit: Limit, max_keys: int) -> Take:
    from throttled import MemoryStore, RateLimiterType, Throttled, per_day, per_sec

    quota = per_sec(limit.rate, burst=limit.capacity) if limit.rate else per_day(1, burst=1)
    store = MemoryStore(options={"MAX_SIZE": max(1000, 2 * max_keys)})
    return Throttled(using=RateLimiterType.GCRA.value, quota=quota, store=store).limit


def pyrate_rates(limit: Limit) -> list[Any]:
    """The limit as rates of pyrate-limiter."""
    from pyrate_limiter import Rate

    if limit.rate:
        return [Rate(limit.rate, 1000, burst=limit.capacity)]
    return [Rate(limit.capacity, DAY * 1000)]


def pyrate_by_name(limit: Limit, clock: Any, store: Callable[[str], Any]) -> Callable[..., Any]:
    """The `try_acquire` of pyrate-limiter, with a token bucket for each name, whose state
    `store(name)` keeps."""
    from pyrate_limiter import BucketFactory, RateItem, StateBucket, TokenBucket
    from pyrate_limiter import Limiter as Pyrate

    rates = pyrate_rates(limit)

    class ByName(BucketFactory):
        """A bucket for each name."""

        def __init__(self) -> None:
            self.buckets: dict[str, StateBucket] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return RateItem(name, clock.now(), weight=weight)

        def get(self, item: Any) -> Any:
            bucket = self.buckets.get(item.name)
            if bucket is None:
                bucket = StateBucket(rates, TokenBucket(), store(item.name))
                self.buckets[item.name] = bucket
            return bucket

    return partial(Pyrate(ByName()).try_acquire, blocking=False)


def _pyrate(limit: Limit, _: int) -> Take:
    from pyrate_limiter import InMemoryStateStore, MonotonicClock

    return pyrate_by_name(limit, MonotonicClock(), lambda _: InMemoryStateStore())


def _token_bucket(limit: Limit, _: int) -> Take:
    import token_bucket

    storage = token_bucket.MemoryStorage()
    return token_bucket.Limiter(limit.rate or 1 / DAY, limit.capacity, storage).consume


PEERS: dict[str, Callable[[Limit, int], Take]] = {
    "token-bucket": _token_bucket,
    "limits, fixed window": _limits,
    "throttled-py, GCRA": _throttled,
    "pyrate-limiter, token bucket": _pyrate,
}


class Awaiting:
    """`await take(key)` of aiolimiter, which needs one limiter for each key and the event loop.

    It waits when no token is left, and cannot be asked to deny.
    """

    def __init__(self, limit: Limit) -> None:
        from aiolimiter import AsyncLimiter

        self.loop = asyncio.new_event_loop()
        weakref.finalize(self, self.loop.close)
        make = partial(AsyncLimiter, limit.capacity, limit.capacity / (limit.rate or 1 / DAY))
        self.limiters: defaultdict[str, AsyncLimiter] = defaultdict(make)

    def take(self, key: str) -> Awaitable[None]:
        """Takes from the limiter of that key."""
        return self.limiters[key].acquire()

    def case(self, keys: list[str]) -> Case:
        """The case that awaits one take for each key."""
        return Case(AWAITING, awaited(self.take, keys, self.loop), peer=True)


AWAITING = "aiolimiter, awaited"


def is_allowed(answer: Any) -> bool:
    """Whether the answer of a `take` admits the call."""
    return not answer.limited if hasattr(answer, "limited") else bool(answer)


def attempt(make: Callable[[], T]) -> T | str:
    """What `make` makes of a peer, or why it cannot be used."""
    try:
        return make()
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # noqa: BLE001 - told as the peer's result
        return failure(error)


def parted(made: dict[str, T | str]) -> tuple[dict[str, T], list[tuple[str, str]]]:
    """The peers that can be used; the names of the others, and why not."""
    here = {name: peer for name, peer in made.items() if not isinstance(peer, str)}
    return here, [(name, reason) for name, reason in made.items() if isinstance(reason, str)]


def installed(limit: Limit, max_keys: int) -> tuple[dict[str, Take], list[tuple[str, str]]]:
    """The `take` of every peer that can be used; the names of the others, and why not."""
    return parted({n: attempt(partial(make, limit, max_keys)) for n, make in PEERS.items()})
