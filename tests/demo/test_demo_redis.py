"""The Redis of a run: regions reach it through its proxy, the demo reads it directly, and none of
its keys stay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crdtbucket.demo.demo_redis import AUTO, DemoStore
from crdtbucket.demo.modes import SLOW_S
from crdtbucket.demo.processes import DemoError
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import server_access
from crdtbucket.strong.redis.redis_config import RedisConfig
from tests.demo.programs import answer_of, is_open
from tests.strong.redis_server import PROGRAMS, Server

installed = pytest.mark.skipif(not PROGRAMS, reason="no redis-server here: make redis")


async def through_the_proxy(arguments: dict[str, Any], *words: str) -> object:
    config = RedisConfig(**arguments)
    (address,) = config.target.addresses
    return await answer_of(address, server_access(config, None), *words)


@installed
async def test_it_is_slow_gone_and_back_empty_and_stopped() -> None:
    store = DemoStore(AUTO)
    assert store.server is not None
    try:
        await store.start()
        arguments = store.config("eu")
        ports = {arguments["port"], store.server.address.port}
        assert await through_the_proxy(arguments, "SET", "a", "1") == b"OK"
        store.slow()
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert await through_the_proxy(arguments, "GET", "a") == b"1"
        assert loop.time() - before >= 2 * SLOW_S
        await store.gone()
        assert not any(map(is_open, ports))
        with pytest.raises(RedisUnavailable):
            await through_the_proxy(arguments, "PING")
        await store.back()
        assert await through_the_proxy(arguments, "GET", "a") is None
    finally:
        await store.stop([])
    assert not any(map(is_open, ports))


@installed
async def test_one_at_a_url_goes_on_is_read_as_it_is_and_loses_only_the_keys_of_the_run() -> None:
    with Server() as server:
        store = DemoStore(server.url)
        try:
            await store.start()
            server.call("HSET", "k", "level", "0 0 0 0 0 1 1", f"{255:016x}:eu-1", "1 30 10 2 99")
            server.call("SET", "mine", "1")
            assert await store.records("k") == [{"ff": 20}]
            await store.gone()
            with pytest.raises(RedisUnavailable):
                await through_the_proxy(store.config("eu"), "PING")
            assert await store.records("k") == [{"ff": 20}]
            await store.back()
            assert await through_the_proxy(store.config("eu"), "GET", "mine") == b"1"
            server.call("SET", "text", "1")
            with pytest.raises(DemoError, match="HGETALL: WRONGTYPE"):
                await store.records("text")
        finally:
            await store.stop(["k", "not there"])
        assert sorted(server.call("KEYS", "*")) == [b"mine", b"text"]
        with pytest.raises(RedisUnavailable):
            await through_the_proxy(store.config("eu"), "PING")


@installed
async def test_one_that_went_away_for_good_is_no_error_at_the_end() -> None:
    with Server() as server:
        store = DemoStore(server.url)
        await store.start()
        server.kill()
        with pytest.raises(DemoError, match="cannot be reached"):
            await store.records("k")
        await store.stop(["k"])
