"""Limiters whose processes share one Redis, all asked in the same way: `await ask(key)`, see
`is_allowed`.

Each is set up as its documentation shows for asyncio, with as many connections as there are
callers, and with the fastest of its algorithms that is no sliding log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from inspect import isawaitable
from typing import Any

from benchmarks.peers import PLENTY, Limit, pyrate_by_name
from crdtbucket import BucketSpec, ControllerSettings, Degradation, Limiter, Mode, RedisConfig
from crdtbucket.strong.redis import script
from crdtbucket.strong.strong_bucket import StrongBucket

Ask = Callable[[str], Awaitable[Any]]
Opened = AbstractAsyncContextManager[Ask]

RATE = 1_000_000
SPEC = BucketSpec("bench", PLENTY, RATE, consistency="strong")
CALLERS = 64
# When the machine is slow for a while, answers are late here, but it is no outage.
PATIENCE = ControllerSettings(latency_limit=1.0, outage_after=5.0)


@asynccontextmanager
async def our_bucket(url: str) -> AsyncIterator[StrongBucket]:
    """A strong bucket of this library, which must stay strong."""
    redis = RedisConfig(url=url, deadline=2.0)
    degradation = Degradation(modes=PATIENCE)
    async with Limiter([SPEC], node="bench", redis=redis, degradation=degradation) as limiter:
        bucket = limiter.bucket("bench")
        assert isinstance(bucket, StrongBucket)
        yield bucket
        (endpoint,) = limiter.stats()["redis"].values()
        if bucket.mode is not Mode.STRONG or endpoint["switches"] or endpoint["timed_out"]:
            raise AssertionError(f"not all decisions were strong: {endpoint}")


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Ask]:
    """`StrongBucket.acquire` of this library."""
    async with our_bucket(url) as bucket:
        yield bucket.acquire


def arguments(key: str) -> list[bytes | str | int]:
    """The arguments of one EVALSHA of our script for a key, for a caller that has taken nothing
    yet."""
    (q, p), owner = SPEC.emission, script.owner_name(1, "bench")
    fixed = [SPEC.capacity, SPEC.capacity, q, p, script.DEFAULT_RETENTION_MS]
    return [1, f"bench:{{{key}}}", *fixed, 1, owner, 0, 1, 0, 0, 0, 0, 0]


@asynccontextmanager
async def pool(url: str) -> AsyncIterator[Any]:
    """redis-py's connections, one for each caller."""
    from redis.asyncio import BlockingConnectionPool

    connections = BlockingConnectionPool.from_url(url, max_connections=CALLERS)
    yield connections
    await connections.disconnect()


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Any]:
    """A client of redis-py, with our script loaded."""
    from redis.asyncio import Redis

    async with pool(url) as connections:
        redis: Any = Redis(connection_pool=connections)
        await redis.script_load(script.SOURCE)
        yield redis


@asynccontextmanager
async def evalsha(url: str) -> AsyncIterator[Ask]:
    """Our script, called by redis-py."""
    async with client(url) as redis:

        async def ask(key: str) -> bool:
            answer = await redis.evalsha(script.SHA, *arguments(key))
            return bool(answer[0] == script.ScriptStatus.ALLOWED)

        yield ask


@asynccontextmanager
async def limits(url: str) -> AsyncIterator[Ask]:
    """`limits.aio`."""
    from limits import RateLimitItemPerDay
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import FixedWindowRateLimiter

    async with pool(url) as connections:
        storage = RedisStorage(
            f"async+{url}", implementation="redispy", connection_pool=connections
        )
        yield partial(FixedWindowRateLimiter(storage).hit, RateLimitItemPerDay(PLENTY))


@asynccontextmanager
async def throttled(url: str) -> AsyncIterator[Ask]:
    """`throttled.asyncio`."""
    from throttled.asyncio import RateLimiterType, RedisStore, Throttled, per_sec

    store = RedisStore(server=url)
    quota = per_sec(RATE, burst=PLENTY)
    yield Throttled(using=RateLimiterType.GCRA.value, quota=quota, store=store).limit
    await store._backend.get_client().aclose()  # it has no close of its own


@asynccontextmanager
async def pyrate(url: str) -> AsyncIterator[Ask]:
    """`Limiter.try_acquire` of pyrate-limiter, over a client of asyncio."""
    from pyrate_limiter import RedisStateStore, WallClock
    from redis.asyncio import Redis

    async with pool(url) as connections:
        redis: Any = Redis(connection_pool=connections)
        take = pyrate_by_name(
            Limit(PLENTY, RATE), WallClock(), lambda name: RedisStateStore(redis, f"pyrate:{name}")
        )

        async def ask(key: str) -> bool:
            answer = take(key)
            return bool(await answer if isawaitable(answer) else answer)

        yield ask


PEERS: dict[str, Callable[[str], Opened]] = {
    "limits.aio, fixed window": limits,
    "throttled-py, GCRA": throttled,
    "pyrate-limiter, token bucket": pyrate,
}
