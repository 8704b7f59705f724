"""A Redis that works, with callers who ask for much or block the event loop; and a slow Redis."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from crdtbucket import BucketSpec, Limiter, LimiterClosed, MeshConfig, Mode
from crdtbucket.strong.window import MOST, START
from crdtbucket.testing.fault_proxy import FaultProxy
from tests.strong.redis_server import EAGER, Server
from tests.strong.test_strong_bucket import endpoint, opened, records
from tests.waits import eventually

WIDE = BucketSpec("b", 100_000, 1, "1h")
UNHURRIED = {"latency_limit": 5.0, "latency_window": 60.0, "outage_after": 60.0}
"""Settings that a busy machine does not reach: these tests are about the deadline."""
QUICKLY = {
    "latency_limit": 0.1,
    "latency_window": 0.2,
    "least_samples": 2,
    "outage_after": 0.15,
    "stable_after": 0.2,
    "stable_after_failover": 0.2,
    "least_return_gap": 0.0,
}


@contextmanager
def far_away(server: Server) -> Iterator[str]:
    """The address of a way to the server of 20 ms. It is of another thread, which goes on while
    this loop is blocked."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    proxy = FaultProxy(server.port, delay=0.02)
    try:
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
        yield f"redis://{proxy.host}:{proxy.port}"
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# ---- bursts


async def test_a_burst_in_one_call_is_answered_by_redis(server: Server) -> None:
    keys = [f"k{i % 2_000}" for i in range(5 * MOST)]
    async with opened(server.url, WIDE, deadline=10.0, modes=UNHURRIED) as limiter:
        answers = await limiter.bucket("b").acquire_many(keys)
        assert sum(answers.allowed) == len(keys)
        (numbers,) = limiter.stats()["redis"].values()
        assert (numbers["timed_out"], numbers["answered"]) == (0, len(keys))
        assert limiter.stats()["strong"]["unsettled"] == 0
    assert records(server) == {"n1": (len(keys), 0)}


async def test_a_burst_of_callers_is_answered_by_redis(server: Server) -> None:
    async with opened(server.url, WIDE, deadline=10.0, modes=UNHURRIED) as limiter:
        bucket = limiter.bucket("b")
        calls = 4 * MOST
        asks = [bucket.acquire(f"k{i % 2_000}") for i in range(calls)]
        decisions = await asyncio.gather(*asks)
        assert Counter((d.mode, d.allowed) for d in decisions) == {(Mode.STRONG, True): calls}
    assert records(server) == {"n1": (calls, 0)}


@pytest.mark.slow
@pytest.mark.parametrize("in_one_call", [True, False])
async def test_a_burst_of_100_000_is_answered_by_redis_by_default(
    server: Server, in_one_call: bool
) -> None:
    """With the deadline and the modes of a limiter that sets neither."""
    spec = BucketSpec("b", 10, 1, "1h", consistency="strong")
    keys = [f"k{i}" for i in range(100_000)]
    async with Limiter([spec], node="n1", redis=server.url) as limiter:
        bucket = limiter.bucket("b")
        if in_one_call:
            assert sum((await bucket.acquire_many(keys)).allowed) == len(keys)
        else:
            decisions = await asyncio.gather(*map(bucket.acquire, keys))
            found = Counter((d.mode, d.allowed) for d in decisions)
            assert found == {(Mode.STRONG, True): len(keys)}
        (numbers,) = limiter.stats()["redis"].values()
        assert (numbers["timed_out"], numbers["answered"]) == (0, len(keys))
        assert numbers["switches"] == 0


async def test_who_waits_for_room_is_decided_when_strong_is_left(server: Server) -> None:
    """Nothing was asked of them, so nothing of theirs is in Redis."""
    modes = EAGER | {"latency_limit": 0.1, "outage_after": 0.2}
    async with opened(server.url, WIDE, deadline=10.0, modes=modes) as limiter:
        bucket = limiter.bucket("b")
        await bucket.acquire("k")
        server.freeze()
        asks = [asyncio.create_task(bucket.acquire("k")) for _ in range(5_000)]
        await eventually(lambda: sum(map(asyncio.Task.done, asks)) >= 5_000 - 1_024)
        done = [ask for ask in asks if ask.done()]
        in_flight = [ask for ask in asks if not ask.done()]
        assert {ask.result().mode for ask in done} == {Mode.FALLBACK}
        server.thaw()
        rest = await asyncio.gather(*in_flight)
        admitted = sum(ask.result().allowed for ask in done) + sum(d.allowed for d in rest) + 1
        await eventually(lambda: not limiter.stats()["strong"]["unsettled"])
        ((taken, refunded),) = records(server).values()
        assert taken - refunded == admitted


async def test_who_waits_for_room_waits_no_longer_than_two_deadlines_for_a_silent_redis(
    server: Server,
) -> None:
    """The outage is not established yet, so only the deadlines show it."""
    async with opened(server.url, WIDE, deadline=0.1, modes=UNHURRIED) as limiter:
        bucket = limiter.bucket("b")
        admitted = bool(await bucket.acquire("k"))
        server.freeze()
        for _ in range(2):  # the second time no caller finds room
            decisions = await asyncio.gather(*(bucket.acquire("k") for _ in range(2_000)))
            assert {d.mode for d in decisions} == {Mode.FALLBACK}
            admitted += sum(d.allowed for d in decisions)
        assert (await endpoint(limiter)).mode is Mode.STRONG
        server.thaw()
        await eventually(lambda: not limiter.stats()["strong"]["unsettled"])
        ((taken, refunded),) = records(server).values()
        assert taken - refunded == admitted


async def test_who_waits_for_room_waits_no_longer_than_two_deadlines_and_not_only_one(
    server: Server,
) -> None:
    """A pause in which those that were asked for are given up costs the others nothing."""
    async with opened(server.url, WIDE, deadline=1.0, modes=UNHURRIED) as limiter:
        bucket = limiter.bucket("b")
        await bucket.acquire("k")
        server.freeze()
        asks = [asyncio.create_task(bucket.acquire("k")) for _ in range(2_000)]
        await asyncio.sleep(0)  # now all of them have asked, or wait
        asked = time.monotonic()
        await eventually(lambda: time.monotonic() - asked > 1.2)
        server.thaw()
        found = Counter(decision.mode for decision in await asyncio.gather(*asks))
        assert found[Mode.FALLBACK] <= START
        await eventually(lambda: not limiter.stats()["strong"]["unsettled"])


async def test_who_waits_for_room_may_give_up(server: Server) -> None:
    async with opened(server.url, WIDE) as limiter:
        bucket = limiter.bucket("b")
        asks = [asyncio.create_task(bucket.acquire("k")) for _ in range(2_000)]
        await asyncio.sleep(0)
        for ask in asks[::2]:
            ask.cancel()
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
        assert sum(bool(result) for result in results[1::2]) == 1_000
        await eventually(lambda: not limiter.stats()["strong"]["unsettled"])
        ((taken, refunded),) = records(server).values()
        assert taken - refunded == 1_000
        assert taken < 1_500  # most of those who gave up were never asked for


async def test_a_caller_that_waits_for_room_learns_of_the_end(server: Server) -> None:
    async with opened(server.url, WIDE) as limiter:
        bucket = limiter.bucket("b")
        await bucket.acquire("k")
        server.freeze()
        asks = [asyncio.create_task(bucket.acquire("k")) for _ in range(2_000)]
        await eventually(lambda: limiter.stats()["redis"] and bucket.store.mode is Mode.STRONG)
        await asyncio.sleep(0)
        server.thaw()
    results = await asyncio.gather(*asks, return_exceptions=True)
    assert {type(r) for r in results} <= {LimiterClosed, type(results[0])}
    assert len(results) == 2_000


# ---- a busy event loop


@pytest.mark.parametrize("deadline", [0.4, 10.0])
async def test_a_blocked_loop_is_no_slow_redis(server: Server, deadline: float) -> None:
    """Handlers that use the processor for longer than every limit, while calls are in flight. The
    limits are such that Redis itself keeps them on a busy machine."""
    modes = QUICKLY | {"latency_limit": 0.4, "outage_after": 0.6}
    async with opened(server.url, WIDE, deadline=deadline, modes=modes) as limiter:
        bucket = limiter.bucket("b")
        over = time.monotonic() + 5.0

        async def handler(number: int) -> None:
            while time.monotonic() < over:
                assert await bucket.acquire(f"k{number}")

        handlers = [asyncio.create_task(handler(i)) for i in range(4)]
        while time.monotonic() < over:
            await asyncio.sleep(0)
            time.sleep(1.0)  # noqa: ASYNC251 - this is the handler that blocks the loop
        await asyncio.gather(*handlers)
        (numbers,) = limiter.stats()["redis"].values()
        assert (numbers["switches"], numbers["timed_out"]) == (0, 0)
        assert numbers["mode"] == "strong"


async def test_calls_that_wait_to_be_written_begin_no_silence(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is blocked after they were made and before they left, and then the supervisor looks
    sooner than an answer can come."""
    modes = QUICKLY | {"outage_after": 2.0}  # an answer comes sooner on the busiest machine
    sent: list[int] = []
    with far_away(server) as url:
        async with opened(url, WIDE, deadline=10.0, modes=modes) as limiter:
            bucket, store = limiter.bucket("b"), await endpoint(limiter)
            for _ in range(2):
                with monkeypatch.context() as patch:
                    patch.setattr(store.health.controller, "asked", sent.append)
                    asks = [asyncio.create_task(bucket.acquire(f"k{i}")) for i in range(4)]
                    await asyncio.sleep(0)
                    assert len(sent) <= 1  # the first call may leave at once
                sent.clear()
                time.sleep(2.1)  # noqa: ASYNC251
                store.supervisor.wake()
                await asyncio.gather(*asks)
            (numbers,) = limiter.stats()["redis"].values()
            assert (numbers["switches"], numbers["timed_out"]) == (0, 0)


async def test_a_frozen_redis_is_seen_behind_a_blocked_loop() -> None:
    with Server() as server:
        async with opened(server.url, WIDE, deadline=0.1, modes=QUICKLY) as limiter:
            bucket = limiter.bucket("b")
            await bucket.acquire("k")
            server.freeze()
            asks = [asyncio.create_task(bucket.acquire("k")) for _ in range(4)]
            while not all(ask.done() for ask in asks):
                await asyncio.sleep(0.001)
                time.sleep(0.03)  # noqa: ASYNC251
            assert {ask.result().mode for ask in asks} == {Mode.FALLBACK}
            await eventually(lambda: bucket.mode is Mode.FALLBACK)


async def test_a_machine_that_stood_still_is_no_slow_redis(server: Server) -> None:
    """Both this process and Redis were stopped, and Redis goes on a moment later. Both a deadline
    and what makes an outage passed meanwhile."""
    modes = QUICKLY | {"latency_limit": 0.9, "outage_after": 1.0}
    async with opened(server.url, WIDE, deadline=0.5, modes=modes) as limiter:
        bucket = limiter.bucket("b")
        await bucket.acquire("k")
        for _ in range(2):
            server.freeze()
            asks = [asyncio.create_task(bucket.acquire(f"k{i}")) for i in range(1_000)]
            await asyncio.sleep(0.01)  # some are written, and the others wait for room
            time.sleep(1.5)  # noqa: ASYNC251
            asyncio.get_running_loop().call_later(0.02, server.thaw)
            decisions = await asyncio.gather(*asks)
            assert {(d.mode, d.allowed) for d in decisions} == {(Mode.STRONG, True)}
        (numbers,) = limiter.stats()["redis"].values()
        assert (numbers["switches"], numbers["timed_out"]) == (0, 0)


async def test_the_time_stands_still_for_the_modes_while_this_process_does(server: Server) -> None:
    async with opened(server.url, WIDE, modes=UNHURRIED) as limiter:
        bucket, health = limiter.bucket("b"), (await endpoint(limiter)).health
        server.freeze()
        ask = asyncio.create_task(bucket.acquire("k"))
        await asyncio.sleep(0.01)
        begin = health.now()
        time.sleep(1.0)  # noqa: ASYNC251
        assert health.now() - begin <= 200_000_000
        server.thaw()
        await ask


async def test_a_thread_that_waited_while_the_process_was_stopped_is_given_time(
    server: Server,
) -> None:
    """The answer lies unread in its own socket, which the event loop does not see."""
    modes = QUICKLY | {"outage_after": 0.3}
    async with opened(server.url, WIDE, deadline=0.3, modes=modes) as limiter:
        store, loop = await endpoint(limiter), asyncio.get_running_loop()
        read = loop.create_future()

        def answered() -> None:
            store.health.answered(1_000_000, late=False)
            read.set_result(None)

        store.health.asked()
        store.supervisor.wake()
        await asyncio.sleep(0.05)
        time.sleep(0.5)  # noqa: ASYNC251
        loop.call_later(0.05, answered)
        await read
        assert (await endpoint(limiter)).mode is Mode.STRONG


@asynccontextmanager
async def turns() -> AsyncIterator[Iterator[int]]:
    """Another task counts the turns that it gets; the iterator has their number."""
    count = itertools.count()

    async def other() -> None:
        while True:
            await asyncio.sleep(0)
            next(count)

    task = asyncio.create_task(other())
    yield count
    task.cancel()


async def test_decisions_without_redis_let_other_tasks_run(server: Server) -> None:
    """One that decides on and on must not starve the event loop."""
    async with opened("redis://127.0.0.1:1", WIDE, modes=EAGER) as limiter:
        bucket = limiter.bucket("b")
        assert (await bucket.acquire("k")).mode is Mode.FALLBACK
        async with turns() as others:
            for _ in range(1_000):
                await bucket.acquire("k")
        assert next(others) >= 10


async def test_denials_without_redis_let_other_tasks_run(server: Server) -> None:
    """Those of the own level are made without asking as well."""
    small = BucketSpec("b", 2, 1, "1h")
    async with opened(server.url, small) as limiter, opened(server.url, small, node="n2") as two:
        bucket = limiter.bucket("b")
        assert await bucket.acquire("k", 2)
        assert await two.bucket("b").acquire("other")
        async with turns() as others:
            while limiter.stats()["strong"]["denied_here"] < 500:
                assert not await bucket.acquire("k")
        assert next(others) >= 5


# ---- a slow Redis


async def test_alone_a_slow_redis_stays_strong_and_it_is_said_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = FaultProxy(server.port, delay=0.03)
    await proxy.start()
    modes = QUICKLY | {"latency_limit": 0.02, "outage_after": 5.0}
    url = f"redis://{proxy.host}:{proxy.port}"
    try:
        with caplog.at_level(logging.INFO, "crdtbucket.strong"):
            async with opened(url, WIDE, deadline=10.0, modes=modes) as limiter:
                bucket = limiter.bucket("b")

                async def slow(yes: bool) -> None:
                    (numbers,) = limiter.stats()["redis"].values()
                    while numbers["slow"] is not yes:
                        decisions = await asyncio.gather(*(bucket.acquire("k") for _ in range(4)))
                        assert {d.mode for d in decisions} == {Mode.STRONG}
                        (numbers,) = limiter.stats()["redis"].values()

                await asyncio.wait_for(slow(True), 30)
                for _ in range(10):
                    await bucket.acquire("k")
                assert (await endpoint(limiter)).mode is Mode.STRONG
                await asyncio.gather(*(bucket.acquire("k") for _ in range(4)))
                said = [r for r in caplog.records if "slow" in r.getMessage()]
                assert [r.levelno for r in said] == [logging.WARNING]
                assert "still strong, because an exact answer that is slow" in said[0].getMessage()
    finally:
        await proxy.stop()


async def test_a_return_that_only_least_return_gap_delays_is_logged_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    modes = EAGER | {"latency_limit": 0.1, "outage_after": 0.2, "least_return_gap": 3_600.0}

    def said() -> list[str]:
        return [one for one in caplog.messages if "least_return_gap" in one]

    async with opened(server.url, WIDE, deadline=10.0, modes=modes) as limiter:
        bucket, asked = limiter.bucket("b"), await endpoint(limiter)

        async def outage() -> None:
            await bucket.acquire("k")
            server.freeze()
            ask = asyncio.create_task(bucket.acquire("k"))
            await eventually(lambda: asked.mode is Mode.FALLBACK)
            server.thaw()
            await ask

        await outage()
        await eventually(lambda: asked.mode is Mode.STRONG)
        assert not said()
        await outage()
        await eventually(said)
        seen = asked.supervisor._probes
        await eventually(lambda: asked.supervisor._probes >= seen + 5)
        (line,) = said()
        assert "it answers well, but stays in fallback for 35" in line


async def test_with_a_mesh_a_slow_redis_leads_to_eventual(server: Server) -> None:
    from crdtbucket import RedisConfig
    from crdtbucket.strong.controller.controller_settings import ControllerSettings
    from crdtbucket.strong.controller.degradation import Degradation

    proxy = FaultProxy(server.port, delay=0.03)
    await proxy.start()
    modes = QUICKLY | {"latency_limit": 0.02, "outage_after": 5.0}
    limiter = Limiter(
        [WIDE],
        node="n1",
        consistency="strong",
        mesh=MeshConfig(listen="127.0.0.1:0"),
        redis=RedisConfig(url=f"redis://{proxy.host}:{proxy.port}", deadline=10.0),
        degradation=Degradation(modes=ControllerSettings(**modes)),  # type: ignore[arg-type]
    )
    try:
        async with limiter:
            bucket = limiter.bucket("b")

            async def ask() -> None:
                while (await bucket.acquire("k")).mode is not Mode.EVENTUAL:
                    pass

            await asyncio.wait_for(ask(), 30)
            (numbers,) = limiter.stats()["redis"].values()
            assert numbers["slow"]
    finally:
        await proxy.stop()
