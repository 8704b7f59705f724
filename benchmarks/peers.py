"""Other limiters of the field, all asked in the same way: `take(key)`, see `is_allowed`.

Each is set up as its documentation shows for one process and many keys, with the fastest of its
algorithms that is no sliding log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from crdtbucket import BucketSpec, Limiter

Take = Callable[[str], Any]

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


def ours(limit: Limit, max_keys: int) -> Take:
    """`Bucket.take` of this library."""
    every = ("1s", limit.rate) if limit.rate else ("1d", 1)
    spec = BucketSpec("bench", limit.capacity, every[1], every[0])
    return Limiter([spec], max_keys=max(1000, max_keys)).bucket("bench").take


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


def _pyrate(limit: Limit, _: int) -> Take:
    from pyrate_limiter import (
        BucketFactory,
        MonotonicClock,
        Rate,
        RateItem,
        StateBucket,
        TokenBucket,
    )
    from pyrate_limiter import Limiter as Pyrate

    if limit.rate:
        rates = [Rate(limit.rate, 1000, burst=limit.capacity)]
    else:
        rates = [Rate(1, DAY * 1000)]

    class ByName(BucketFactory):
        """A bucket for each name."""

        def __init__(self) -> None:
            self.clock = MonotonicClock()
            self.buckets: dict[str, StateBucket] = {}

        def wrap_item(self, name: str, weight: int = 1) -> Any:
            return RateItem(name, self.clock.now(), weight=weight)

        def get(self, item: Any) -> Any:
            bucket = self.buckets.get(item.name)
            if bucket is None:
                bucket = self.buckets[item.name] = StateBucket(rates, TokenBucket())
            return bucket

    return partial(Pyrate(ByName()).try_acquire, blocking=False)


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


def is_allowed(answer: Any) -> bool:
    """What the answer of a `take` says."""
    return not answer.limited if hasattr(answer, "limited") else bool(answer)


def _attempt(make: Callable[[Limit, int], Take], limit: Limit, max_keys: int) -> Take | str:
    """A peer's `take`, or why it cannot be asked."""
    try:
        return make(limit, max_keys)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"


def installed(limit: Limit, max_keys: int) -> tuple[dict[str, Take], list[tuple[str, str]]]:
    """The `take` of every peer that is here; the names of the others, and why not."""
    made = {name: _attempt(make, limit, max_keys) for name, make in PEERS.items()}
    takes = {name: take for name, take in made.items() if not isinstance(take, str)}
    return takes, [(name, reason) for name, reason in made.items() if isinstance(reason, str)]
