"""The tasks beside the decisions go on, whatever Redis answers or does not answer."""

from __future__ import annotations

import asyncio

import pytest

from crdtbucket import BucketSpec, Decisions, Limiter, RedisConfig
from crdtbucket._core import BucketReplica
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.redis import registry
from crdtbucket.strong.unsettled import SCAN
from tests.strong.redis_groups import watched
from tests.strong.redis_server import Server, free_port
from tests.waits import eventually

SPEC = BucketSpec("api", 1_000, 1, "1h")


def node(config: RedisConfig) -> Limiter:
    return Limiter([SPEC], node="n0", redis=config, consistency="strong")


def seen(server: Server) -> bool:
    return server.call("TYPE", "crdtbucket:nodes") == b"hash" and any(
        field.endswith(b":n0") for field in server.call("HKEYS", "crdtbucket:nodes")
    )


async def test_a_node_that_could_not_show_itself_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "BEAT_NS", 20_000_000)
    with Server() as server:
        server.call("SET", "crdtbucket:nodes", "no hash")
        async with node(RedisConfig(url=server.url)):
            await eventually(lambda: b"errorstat_WRONGTYPE" in server.call("INFO", "errorstats"))
            server.call("DEL", "crdtbucket:nodes")
            await eventually(lambda: seen(server))


async def test_a_failover_is_followed_though_the_old_primary_never_answers_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "BEAT_NS", 20_000_000)
    async with watched() as (primary, replica, sentinels):
        config = RedisConfig(
            sentinel_master="main",
            sentinels=[f"{one.host}:{one.port}" for one in sentinels],
            deadline=10.0,
        )
        async with node(config) as limiter:
            bucket = limiter.bucket("api")
            assert (await bucket.acquire("k")).mode == "strong"
            primary.freeze()
            await eventually(
                lambda: f"{replica.host}:{replica.port}" in limiter.stats()["redis"], 60
            )


@pytest.mark.parametrize("turns", range(6))
async def test_a_batch_whose_caller_is_gone_takes_nothing(turns: int) -> None:
    async with node(RedisConfig(host="127.0.0.1", port=free_port())) as limiter:
        bucket = limiter.bucket("api")
        await eventually(lambda: bucket.mode is Mode.FALLBACK)
        call = asyncio.create_task(bucket.acquire_many(["a", "b"], 2))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        (done,) = await asyncio.gather(call, return_exceptions=True)
        taken = 2 * sum(done.allowed) if isinstance(done, Decisions) else 0
        net = 0
        for key in ("a", "b"):
            _, given, returned = BucketReplica(bucket).own(*bucket.hash(key)) or (0, 0, 0)
            net += given - returned
        assert net == taken


@pytest.mark.parametrize("turns", range(4))
async def test_a_limiter_closes_though_there_is_work_at_the_same_moment(turns: int) -> None:
    with Server() as server:
        limiter = node(RedisConfig(url=server.url))
        async with limiter:
            bucket = limiter.bucket("api")
            decision = await bucket.acquire("k")
            await asyncio.sleep(0.05)  # the upkeep rests
            bucket.refund(decision)
            bucket.store._places.look.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.wait_for(limiter.aclose(), 60)


async def test_a_long_table_of_full_keys_does_not_hold_up_decisions() -> None:
    quick = BucketSpec("quick", 1_000, 1_000_000)
    with Server() as server:
        config = RedisConfig(url=server.url, deadline=5.0)
        async with Limiter([quick], node="n0", redis=config, consistency="strong") as limiter:
            bucket = limiter.bucket("quick")
            await bucket.acquire_many([f"k{number}" for number in range(3_000)])
            (endpoint,) = bucket.store.endpoints.values()
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            endpoint.resync.send_everything()
            assert await endpoint.resync.settle()
            counting.cancel()
            assert turns >= 3_000 // SCAN
