"""Calls that Redis does not answer, and that cannot be decided without it, since the limiter was
closed meanwhile or a reload left a capacity below their cost. They raise, and Redis gets all tokens
back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from crdtbucket import BucketSpec, CostExceedsCapacity, Limiter, LimiterClosed, Mode
from tests.strong.redis_server import Server
from tests.strong.test_strong_bucket import QUICK, SLOW, opened, records
from tests.strong.test_strong_slots import LLM
from tests.strong.test_threads import limiter as threaded
from tests.strong.test_threads import quiet, until, warm
from tests.waits import WITHIN_S, eventually

CALLS: dict[str, Callable[[Limiter], Coroutine[Any, Any, Any]]] = {
    "acquire": lambda one: one.bucket("b").acquire("k", 5),
    "acquire_many": lambda one: one.bucket("b").acquire_many(["k", "l"], 5),
    "acquire_all": lambda one: one.acquire_all([("b", "k", 5), ("q", "k")]),
    "wait": lambda one: one.bucket("b").wait("k", 5),
    "reserve": lambda one: one.bucket("b").reserve("k", 5).__aenter__(),
    "slot": lambda one: one.bucket("llm").slot("k").__aenter__(),
}


BUCKETS = SLOW, QUICK, LLM


@asynccontextmanager
async def no_bug() -> AsyncIterator[list[Any]]:
    """No callback of the loop fails meanwhile, and no error is left to the collector."""
    found: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    yield found
    gc.collect()
    assert not found


async def raised(calls: list[asyncio.Task[Any]], bugs: list[Any]) -> set[type[Any]]:
    await eventually(lambda: bugs or all(one.done() for one in calls))
    assert not bugs
    return {type(one.exception()) for one in calls}


async def in_flight(*called: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(one) for one in called]
    await asyncio.sleep(0)
    return tasks


async def test_a_limiter_that_is_closed_while_redis_is_silent_ends_every_call(
    server: Server,
) -> None:
    async with no_bug() as bugs:
        async with opened(server.url, *BUCKETS, deadline=0.2) as one:
            assert await one.bucket("b").acquire("k", 2)
            server.freeze()
            calls = await in_flight(*(call(one) for call in CALLS.values()))
            await asyncio.wait_for(one.aclose(), WITHIN_S)
        assert await raised(calls, bugs) == {LimiterClosed}


async def test_a_limiter_that_is_closed_as_redis_dies_ends_every_call() -> None:
    with Server() as server:
        async with no_bug() as bugs:
            async with opened(server.url, *BUCKETS) as one:
                assert await one.bucket("b").acquire("k", 2)
                server.freeze()
                calls = await in_flight(*(call(one) for call in CALLS.values()))
                closing = asyncio.create_task(one.aclose())
                await asyncio.sleep(0)
                server.kill()
                await asyncio.wait_for(closing, WITHIN_S)
            assert await raised(calls, bugs) == {LimiterClosed}


async def test_a_call_that_a_reload_made_too_large_says_so_and_redis_gets_it_back(
    server: Server,
) -> None:
    async with opened(server.url, deadline=0.2) as one, no_bug() as bugs:
        bucket = one.bucket("b")
        assert await bucket.acquire("k", 2)
        server.freeze()
        calls = await in_flight(bucket.acquire("k", 80), bucket.acquire_many(["k"], 80))
        bucket.define(BucketSpec("b", 50, 1, "1h", consistency="strong"))
        assert await raised(calls, bugs) == {CostExceedsCapacity}
        server.thaw()
        await eventually(lambda: bucket.mode is Mode.STRONG)
        await eventually(lambda: quiet(one))
        taken, refunded = records(server)["n1"]
        assert taken - refunded == 2
        assert one.stats()["strong"]["unclaimed_charges"] == 0


def test_a_thread_is_told_too_and_redis_gets_its_tokens_back(server: Server) -> None:
    with threaded(server.url, deadline=0.2) as one, ThreadPoolExecutor() as pool:
        bucket = one.bucket("b")
        net = warm(bucket)
        store = bucket.store

        def asked() -> int:
            server.freeze()
            return bucket.acquire_sync("k", 80).cost

        # The thread that was warmed has a connection; this one makes its own with its first call.
        pool.submit(bucket.acquire_sync, "k").result()
        asking = pool.submit(asked)
        until(lambda: store._threads.in_flight)
        bucket.define(BucketSpec("b", 50, 1, "1h", consistency="strong"))
        assert isinstance(asking.exception(WITHIN_S), CostExceedsCapacity)
        server.thaw()
        until(lambda: bucket.mode is Mode.STRONG and quiet(one))
        taken, refunded = records(server)["n1"]
        assert taken - refunded == net + 1
        assert store.ledger.table.open_tokens == 0
