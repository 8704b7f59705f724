"""A connection to a server that its address no longer leads to is replaced by a new one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from crdtbucket import BucketSpec, ControllerSettings, Limiter, Mode, RedisConfig
from crdtbucket.base import lasting
from crdtbucket.base.address import Address
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.redis import registry
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.store_upkeep import StoreUpkeep
from crdtbucket.strong.supervisor import Supervisor
from crdtbucket.testing.fault_proxy import FaultProxy
from tests.strong.moved_address import MovedAddress, linked
from tests.strong.redis_server import Server
from tests.strong.test_strong_bucket import endpoint
from tests.threads import in_threads
from tests.waits import eventually

STILL = BucketSpec("b", 100_000, 1, "1h", consistency="strong")
BOUND_S = 60.0


async def test_a_primary_that_became_a_replica_is_left_for_what_its_address_leads_to() -> None:
    told: list[ModeNotice] = []
    with Server() as first, Server() as second:
        second.call("REPLICAOF", first.host, first.port)
        await eventually(lambda: linked(second))
        async with MovedAddress(first).open() as address:
            config = RedisConfig(host="127.0.0.1", port=address.port, deadline=10.0)
            modes = ControllerSettings(latency_limit=5.0, outage_after=5.1)
            how = Degradation(modes=modes, on_mode_change=told.append)
            async with Limiter([STILL], node="n1", redis=config, degradation=how) as limiter:
                bucket = limiter.bucket("b")
                consumed = sum([(await bucket.acquire("k")).allowed for _ in range(50)])
                second.call("REPLICAOF", "NO", "ONE")
                address.leads_to = second
                first.call("REPLICAOF", second.host, second.port)
                deadline, mode = time.monotonic() + BOUND_S, Mode.FALLBACK
                while mode is not Mode.STRONG:
                    assert time.monotonic() < deadline, "it was asked for ever"
                    decision = await bucket.acquire("k")
                    consumed += decision.allowed
                    mode = decision.mode
                    await asyncio.sleep(0)
                await eventually(lambda: not limiter.stats()["strong"]["unsettled"])
                (key,) = second.call("KEYS", "crdtbucket:{b:*")
                fields = second.call("HGETALL", key)
                (record,) = (text for name, text in zip(fields[::2], fields[1::2], strict=True)
                             if name != b"level")  # fmt: skip
                _, taken, returned, *_ = map(int, record.split())
                assert taken - returned == consumed
    assert told == []  # it came back before that was an outage


async def test_a_bug_ends_neither_the_upkeep_of_a_server_nor_that_of_all(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lasting, "AGAIN_S", 0.01)
    monkeypatch.setattr(registry, "BEAT_NS", 20_000_000)
    async with Limiter([STILL], node="n1", redis=RedisConfig(url=server.url)) as limiter:
        store = await endpoint(limiter)
        registered: list[object] = []
        for owner, name, calls in (
            (Supervisor, "connect", []),
            (StoreUpkeep, "register", registered),
        ):
            monkeypatch.setattr(owner, name, _fails_once(getattr(owner, name), calls))
        store.supervisor.drop()
        store.supervisor.wake()
        await eventually(lambda: caplog.text.count("which begins again") == 2)
        await eventually(store.dispatcher.usable)
        assert (await limiter.bucket("b").acquire("k")).mode is Mode.STRONG
        await eventually(lambda: len(registered) > 2)
    assert "a bug in keeping a server of Redis, which begins again" in caplog.text
    assert "a bug in the upkeep of Redis, which begins again" in caplog.text


def _fails_once(
    call: Callable[..., Awaitable[Any]], calls: list[object]
) -> Callable[..., Awaitable[Any]]:
    async def fails_once(self: object) -> Any:
        calls.append(self)
        if len(calls) == 1:
            raise ZeroDivisionError
        return await call(self)

    return fails_once


async def test_a_server_that_moved_is_not_waited_for_at_its_old_address(server: Server) -> None:
    """The old one is frozen: it takes connections, and says nothing for longer than this may
    take."""
    how = Degradation(modes=ControllerSettings(latency_limit=5.0, outage_after=60.0))
    proxy = FaultProxy(server.port)
    await proxy.start()
    try:
        config = RedisConfig(host=proxy.host, port=proxy.port, deadline=10.0, connect_timeout=60.0)
        async with Limiter([STILL], node="n1", redis=config, degradation=how) as limiter:
            assert await limiter.bucket("b").acquire("k")
            store = await endpoint(limiter)
            proxy.cut()
            store.supervisor.drop()
            store.supervisor.wake()
            await asyncio.sleep(0.1)  # it connects to the old address
            store.move(Address(server.host, server.port))
            await asyncio.wait_for(eventually(store.dispatcher.usable), BOUND_S / 2)
            assert store.stats()["failed"] == {}
            assert (await limiter.bucket("b").acquire("k")).mode is Mode.STRONG
    finally:
        await proxy.stop()


async def test_no_thread_raises_the_fence_while_a_new_connection_gets_its_own(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the older number could be written last, and would keep nothing out."""
    free: list[bool] = []
    config = RedisConfig(host=server.host, port=server.port, deadline=10.0)
    async with Limiter([STILL], node="n1", redis=config) as limiter:
        bucket = limiter.bucket("b")
        assert await bucket.acquire("k")
        one, lock = await endpoint(limiter), bucket.store.ledger.lock
        use = one.link.use

        def look() -> None:
            free.append(lock.acquire(blocking=False))
            if free[-1]:
                lock.release()

        def used(connection: RedisConnection) -> None:
            in_threads(look)
            use(connection)

        monkeypatch.setattr(one.link, "use", used)
        one.supervisor.drop()
        one.supervisor.wake()
        await eventually(lambda: bool(free))
        assert await bucket.acquire("k")
    assert free == [False]


async def test_an_end_that_is_cancelled_leaves_no_connection_open(server: Server) -> None:
    config = RedisConfig(host=server.host, port=server.port, deadline=10.0)
    async with Limiter([STILL], node="n1", redis=config) as limiter:
        bucket = limiter.bucket("b")
        decision = await bucket.acquire("k")
        one = await endpoint(limiter)
        connection = one.link.connection
        assert connection is not None
        server.freeze()
        bucket.refund(decision)
        await eventually(lambda: one.resync.due)
        ending = asyncio.ensure_future(one.supervisor.stop())
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert connection.closed
        server.thaw()
