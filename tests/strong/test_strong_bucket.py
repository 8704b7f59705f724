"""Strong buckets of whole limiters at real servers."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest

from crdtbucket import (
    AcquireRequired,
    BucketSpec,
    CostExceedsCapacity,
    CrdtbucketError,
    InvalidCost,
    InvalidKey,
    Limiter,
    LimiterClosed,
    LimiterNotOpen,
    Mode,
    RedisConfig,
    WaitTimeout,
)
from crdtbucket.strong import supervisor
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.endpoint import Endpoint
from tests.strong.redis_server import EAGER, PATIENT, Server
from tests.waits import eventually

SLOW = BucketSpec("b", 200, 1, "1h")
QUICK = BucketSpec("q", 100, 1_000)
KEY = "tenant-42"


@asynccontextmanager
async def opened(
    url: str,
    *specs: BucketSpec,
    node: str = "n1",
    deadline: float = 10.0,
    modes: dict[str, float] = PATIENT,
    **degradation: Any,
) -> AsyncIterator[Limiter]:
    limiter = Limiter(
        specs or [SLOW, QUICK],
        node=node,
        redis=RedisConfig(url=url, deadline=deadline),
        consistency="strong",
        degradation=Degradation(modes=ControllerSettings(**modes), **degradation),  # type: ignore[arg-type]
    )
    async with limiter:
        yield limiter


def records(server: Server, bucket: str = "b") -> dict[str, tuple[int, int]]:
    """The records in Redis of a bucket: each node's taken and refunded tokens, over all keys and
    epochs."""
    out: dict[str, tuple[int, int]] = {}
    literally = bucket.replace("[", r"\[").replace("*", r"\*")
    for key in server.call("KEYS", f"crdtbucket:{{{literally}:*"):
        fields = server.call("HGETALL", key)
        for name, text in zip(fields[::2], fields[1::2], strict=True):
            if name != b"level":
                _, taken, refunded, *_ = map(int, text.split())
                node = name.partition(b":")[2].decode()
                before = out.get(node, (0, 0))
                out[node] = (before[0] + taken, before[1] + refunded)
    return out


async def endpoint(limiter: Limiter) -> Endpoint:
    strong = limiter.in_force.strong
    assert strong is not None
    assert strong.store is not None
    (found,) = strong.store.endpoints.values()
    return found


def planned(**more: Any) -> BucketSpec:
    plan = BucketSpec("any", 20, 1, "1h", **more)
    return BucketSpec("b", 200, 1, "1h", overrides=[("small-*", plan)])


# ---- decisions ----


async def test_two_limiters_share_the_limit_of_an_override_exactly(server: Server) -> None:
    async with (
        opened(server.url, planned()) as one,
        opened(server.url, planned(), node="n2") as two,
    ):
        asks = [limiter.bucket("b").acquire("small-1") for limiter in (one, two) for _ in range(15)]
        decisions = await asyncio.gather(*asks)
        assert sum(decision.allowed for decision in decisions) == 20
        assert {decision.limit for decision in decisions} == {20}
        assert (await two.bucket("b").acquire("large", 150)).remaining == 50
        many = await one.bucket("b").acquire_many(["large", "small-2", "small-1", "large"], 20)
        assert list(many.allowed) == [1, 1, 0, 1]
        assert list(many.remaining) == [30, 0, 0, 10]
        with pytest.raises(CostExceedsCapacity):
            await one.bucket("b").acquire_many(["large", "small-3"], [1, 21])
        with pytest.raises(InvalidCost):
            await one.bucket("b").acquire_many(["large", "small-3"], [1, "x"])  # type: ignore[list-item]
        assert (await one.bucket("b").acquire("large")).remaining == 9
        assert (
            one.stats()["buckets"]["b[small-*]"]["allowed"]
            + two.stats()["buckets"]["b[small-*]"]["allowed"]
            == 21
        )
    assert sum(taken for taken, _ in records(server, "b[small-*]").values()) == 40


async def test_an_override_refunds_waits_and_reserves_before_the_store(server: Server) -> None:
    plan = BucketSpec("any", 20, 10)
    spec = BucketSpec("b", 200, 1, "1h", overrides=[("small-*", plan)])
    async with opened(server.url, spec) as limiter:
        bucket = limiter.bucket("b")
        decision = await bucket.acquire("small-1", 20)
        assert bucket.refund(decision, 15) == 15
        async with bucket.reserve("small-1", 12) as reservation:
            reservation.commit(14)
        assert (await bucket.wait("small-1", 6, timeout=30)).limit == 20
        assert bucket.of("small-1").counters()["allowed"] == 3


async def test_a_shadow_before_the_store_denies_nobody(server: Server) -> None:
    shadow = BucketSpec("b", 20, 1, "1h", shadow=True)
    async with opened(server.url, shadow) as one, opened(server.url, shadow, node="n2") as two:
        asks = [limiter.bucket("b").acquire(KEY) for limiter in (one, two) for _ in range(15)]
        decisions = await asyncio.gather(*asks)
        assert all(decisions)
        assert sum(decision.shadowed for decision in decisions) == 10
        assert {decision.mode for decision in decisions} == {Mode.STRONG}
        many = await one.bucket("b").acquire_many([KEY, "other"])
        assert (list(many.allowed), list(many.retry_after)) == ([1, 1], [0, 0])
        assert (await one.bucket("b").wait(KEY, 20, timeout=0)).shadowed
        counts = [limiter.stats()["buckets"]["b"] for limiter in (one, two)]
        assert sum(count["shadowed"] for count in counts) == 12
        assert sum(count["denied"] for count in counts) == 0
    assert sum(taken for taken, _ in records(server).values()) == 21


async def test_two_limiters_share_one_limit_exactly(server: Server) -> None:
    async with opened(server.url) as one, opened(server.url, node="n2") as two:
        calls = [limiter.bucket("b").acquire(KEY) for limiter in (one, two) for _ in range(150)]
        decisions = await asyncio.gather(*calls)
        assert sum(d.allowed for d in decisions) == 200
        assert {d.mode for d in decisions} == {Mode.STRONG}
        denied = next(d for d in decisions if not d)
        assert 3590 < denied.retry_after <= 3600
        assert denied.remaining == 0
    assert sum(taken - back for taken, back in records(server).values()) == 200


async def test_stats_are_what_json_has(server: Server) -> None:
    async with opened(server.url) as limiter:
        await limiter.bucket("b").acquire("k")
        read = json.loads(json.dumps(limiter.stats(), allow_nan=False))
        (endpoint,) = read["redis"].values()
        assert endpoint["latency"][-1] == [None, 1]


async def test_a_decision_needs_to_be_awaited(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        for call in (lambda: bucket.take(KEY), lambda: bucket.take_many([KEY])):
            with pytest.raises(AcquireRequired, match=r"await bucket\.acquire"):
                call()
        with pytest.raises(AcquireRequired, match="or acquire_sync in a thread"):
            bucket.take(KEY)
        with pytest.raises(AcquireRequired, match=r"await.*acquire_many.* instead of take_burst"):
            bucket.take_burst(KEY, 5)
        with (
            pytest.raises(AcquireRequired, match=r"async with bucket\.reserve.* instead of with"),
            bucket.reserve(KEY, 5),
        ):
            pass
        with (
            pytest.raises(AcquireRequired, match=r"async with limiter\.reserve_all.*stead of with"),
            limiter.reserve_all([("b", KEY, 5)]),
        ):
            pass
        with pytest.raises(AcquireRequired, match=r"await limiter\.acquire_first"):
            limiter.take_first([("b", KEY)])
        assert bucket.peek(KEY).remaining == 200
        assert (await bucket.acquire(KEY, 30)).remaining == 170
        assert bucket.peek(KEY).remaining == 170


async def test_before_and_after_its_time_it_says_so(server: Server) -> None:
    limiter = Limiter([SLOW], node="n1", consistency="strong", **server.patient())
    bucket = limiter.bucket("b")
    with pytest.raises(LimiterNotOpen, match="async with"):
        await bucket.acquire(KEY)
    async with limiter:
        assert await bucket.acquire(KEY)
    with pytest.raises(LimiterClosed):
        await bucket.acquire(KEY)


@pytest.mark.parametrize(
    ("key", "cost", "error"),
    [
        (KEY, 201, CostExceedsCapacity),
        (KEY, 0, InvalidCost),
        (KEY, -1, InvalidCost),
        (KEY, 1.5, InvalidCost),
        (KEY, "1", InvalidCost),
        (7, 1, InvalidKey),
        ("", 1, InvalidKey),
        ("k" * 513, 1, InvalidKey),
    ],
)
async def test_bad_arguments_change_nothing(
    server: Server, key: Any, cost: Any, error: type[Exception]
) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        with pytest.raises(error):
            await bucket.acquire(key, cost)
        with pytest.raises(error):
            await bucket.acquire_many([KEY, key], [1, cost])
        assert bucket.peek(KEY).remaining == 200
    assert records(server) == {}


async def test_a_cost_may_be_any_whole_number(server: Server) -> None:
    class Three:
        def __index__(self) -> int:
            return 3

    async with opened(server.url) as limiter:
        cost: Any = Three()
        assert (await limiter.bucket("b").acquire(KEY, cost)).cost == 3
    assert records(server) == {"n1": (3, 0)}


async def test_many_keys_are_decided_in_one_call(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        answers = await bucket.acquire_many(["a", "b", "a"], [150, 20, 60])
        assert list(answers.allowed) == [1, 1, 0]
        assert list(answers.remaining) == [50, 180, 50]
        assert answers.retry_after[2] == pytest.approx(10 * 3600, rel=0.01)
        assert list((await bucket.acquire_many(iter(["c", b"d"]))).allowed) == [1, 1]
        with pytest.raises(InvalidCost, match="2 costs for 1 keys"):
            await bucket.acquire_many(["a"], [1, 2])
        with pytest.raises(InvalidKey, match="one key"):
            await bucket.acquire_many("abc")
        assert not (await bucket.acquire_many([])).allowed


async def test_from_an_event_loop_of_another_thread(server: Server) -> None:
    def other() -> None:
        out.append(asyncio.run(ask()))

    async def ask() -> list[bool]:
        many = await bucket.acquire_many([KEY] * 3, 50)
        return [bool(await bucket.acquire(KEY, 50)), *map(bool, many.allowed)]

    out: list[list[bool]] = []
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        thread = threading.Thread(target=other)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert out == [[True] * 4]
        assert not await bucket.acquire(KEY)


def test_in_a_thread_of_its_own(server: Server) -> None:
    limiter = Limiter([SLOW], node="n1", consistency="strong", **server.patient())
    with limiter:
        assert asyncio.run(limiter.bucket("b").acquire(KEY, 5)).mode == "strong"
    assert records(server) == {"n1": (5, 0)}


def test_from_threads_without_an_event_loop(server: Server) -> None:
    limiter = Limiter([SLOW, QUICK], node="n1", consistency="strong", **server.patient())
    bucket = limiter.bucket("b")
    with pytest.raises(LimiterNotOpen, match=r"or `with limiter:`"):
        bucket.acquire_sync(KEY)
    with limiter, ThreadPoolExecutor(8) as threads:
        asks = [threads.submit(bucket.acquire_sync, KEY, 10) for _ in range(30)]
        assert sum(ask.result().allowed for ask in asks) == 20
        assert {ask.result().mode for ask in asks} == {Mode.STRONG}
        with pytest.raises(CostExceedsCapacity):
            bucket.acquire_sync(KEY, 201)
    assert records(server) == {"n1": (200, 0)}
    with pytest.raises(LimiterClosed):
        bucket.acquire_sync(KEY)


def test_from_such_threads_a_key_has_its_override(server: Server) -> None:
    spec = BucketSpec("b", 10, 1, "1h", overrides=[("big-*", BucketSpec("p", 100, 1, "1h"))])
    with Limiter([spec], node="n1", consistency="strong", **server.patient()) as limiter:
        bucket = limiter.bucket("b")
        assert bucket.acquire_sync("big-1", 60).remaining == 40
        assert bucket.acquire_sync("small", 6).remaining == 4


async def test_the_limiters_own_thread_is_not_blocked(server: Server) -> None:
    async with opened(server.url) as limiter:
        with pytest.raises(CrdtbucketError, match="may not block: await acquire"):
            limiter.bucket("b").acquire_sync(KEY)


async def test_what_comes_back_reaches_redis(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        taken = await bucket.acquire(KEY, 100)
        assert await asyncio.to_thread(bucket.refund, taken, 40) == 40
        await eventually(lambda: records(server) == {"n1": (100, 40)})
        async with bucket.reserve(KEY, estimate=80) as reservation:
            reservation.commit(actual=30)
        await eventually(lambda: records(server) == {"n1": (180, 90)})
        bucket.settle(KEY, 300)
        await eventually(lambda: records(server) == {"n1": (480, 90)})
        assert bucket.peek(KEY).remaining == 0
        assert bucket.reset(KEY) == 390
        await eventually(lambda: records(server) == {"n1": (480, 480)})
        assert (await bucket.acquire(KEY, 200)).remaining == 0
        assert limiter.stats()["strong"]["unsettled"] == 0


async def test_the_last_words_of_a_limiter_reach_redis(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        decisions = [await bucket.acquire(f"k{i}", 9) for i in range(400)]
        for decision in decisions:
            bucket.refund(decision, 5)
    assert records(server) == {"n1": (3600, 2000)}


async def test_a_cancelled_caller_gets_no_tokens(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        tasks = [asyncio.create_task(bucket.acquire(KEY, 2)) for _ in range(60)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(r, asyncio.CancelledError) for r in results] == [True, False] * 30
        await eventually(lambda: records(server) == {"n1": (120, 60)})
        assert bucket.peek(KEY).remaining == 140


# ---- waiting ----


async def test_first_come_first_served(server: Server) -> None:
    order: list[int] = []

    async def want(number: int, cost: int) -> None:
        await bucket.wait(KEY, cost, timeout=20)
        order.append(number)

    async with opened(server.url) as limiter:
        bucket = limiter.bucket("q")
        await bucket.acquire(KEY, 100)
        tasks = [asyncio.create_task(want(i, cost)) for i, cost in enumerate([90, 1, 50, 1])]
        await asyncio.sleep(0)
        assert limiter.stats()["buckets"]["q"]["waiting"] == 4
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3]
        assert not bucket.waiters


async def test_a_wait_that_is_given_up_frees_the_place(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        held = await bucket.acquire(KEY, 200)
        with pytest.raises(WaitTimeout, match=r"a cost of 100 takes 3\d{5}\."):
            await bucket.wait(KEY, 100, timeout=1)
        first = asyncio.create_task(bucket.wait(KEY, 100))
        await eventually(lambda: len(bucket.waiters) == 1)
        second = asyncio.create_task(bucket.wait(KEY, 50))
        with pytest.raises(WaitTimeout, match="earlier callers"):
            await bucket.wait(KEY, 1, timeout=0)
        with pytest.raises(WaitTimeout, match=r"no turn within 0\.01 s"):
            await bucket.wait(KEY, 1, timeout=0.01)
        first.cancel()
        bucket.refund(held, 60)
        assert (await second).allowed
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not bucket.waiters


async def test_the_end_of_the_limiter_ends_every_wait(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        await bucket.acquire(KEY, 200)
        tasks = [asyncio.create_task(bucket.wait(KEY)) for _ in range(3)]
        await eventually(lambda: len(bucket.waiters) == 3)
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert [type(result) for result in results] == [LimiterClosed] * 3


# ---- servers that go and come ----


async def test_without_redis_at_the_start_it_falls_back_and_returns() -> None:
    notices: list[ModeNotice] = []
    server = Server()
    try:
        async with opened(server.url, modes=EAGER, on_mode_change=notices.append) as limiter:
            bucket = limiter.bucket("b")
            decision = await bucket.acquire(KEY, 5)
            assert (decision.allowed, decision.mode) == (True, "fallback")
            assert not await bucket.acquire(KEY, 100)  # a tenth of 200 at once
            await eventually(lambda: bucket.mode == Mode.FALLBACK)
            server.start()
            await eventually(lambda: bucket.mode == Mode.STRONG)
            await eventually(lambda: records(server) == {"n1": (5, 0)})
            assert (await bucket.acquire(KEY, 15)).mode == "strong"
            assert records(server) == {"n1": (20, 0)}
            assert [(n.before, n.after) for n in notices] == [
                ("strong", "fallback"),
                ("fallback", "strong"),
            ]
    finally:
        server.remove()


async def test_a_server_that_restarted_empty_is_sent_the_whole_debt() -> None:
    with Server() as server:
        async with opened(server.url, modes=EAGER) as limiter:
            bucket = limiter.bucket("b")
            for i in range(300):
                await bucket.acquire(f"k{i}", 7)
            server.restart()
            # nobody asks for any of these keys again
            await eventually(lambda: records(server) == {"n1": (2100, 0)})


async def test_a_server_that_was_flushed_is_sent_the_whole_debt(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        for i in range(300):
            await bucket.acquire(f"k{i}", 7)
        server.call("FLUSHALL")
        await bucket.acquire("k0", 1)  # only this one is asked for again
        await eventually(lambda: records(server) == {"n1": (2101, 0)})


async def test_a_server_without_the_script_gets_it(server: Server) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        await bucket.acquire(KEY, 1)
        server.call("SCRIPT", "FLUSH")
        decisions = await asyncio.gather(*(bucket.acquire(KEY, 1) for _ in range(20)))
        assert {d.mode for d in decisions} == {Mode.STRONG}
        assert records(server) == {"n1": (21, 0)}


async def test_a_key_that_a_younger_connection_asked_for_is_asked_under_a_new_number(
    server: Server,
) -> None:
    async with opened(server.url) as limiter:
        bucket = limiter.bucket("b")
        await bucket.acquire(KEY, 1)
        (key,) = server.call("KEYS", "crdtbucket:{b:*")
        name = next(f for f in server.call("HKEYS", key) if f != b"level")
        generation, taken, refunded, _, seen = server.call("HGET", key, name).split()
        server.call("HSET", key, name, b" ".join([generation, taken, refunded, b"5", seen]))
        decisions = await asyncio.gather(*(bucket.acquire(KEY, 1) for _ in range(20)))
        assert [(d.allowed, d.mode) for d in decisions] == [(True, "strong")] * 20
        assert records(server) == {"n1": (21, 0)}
        assert (await endpoint(limiter)).link.fence >= 5


async def test_a_frozen_server_runs_what_was_given_up_and_nothing_is_charged_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "STUCK_NS", 50_000_000)
    modes = EAGER | {"latency_limit": 0.1, "outage_after": 0.15}
    with Server() as server:
        async with opened(server.url, modes=modes, deadline=0.05) as limiter:
            bucket = limiter.bucket("b")
            before = [await bucket.acquire(f"k{i}", 3) for i in range(10)]
            first = (await endpoint(limiter)).link.fence
            (name,) = limiter.stats()["redis"]
            server.freeze()
            during = []
            while bucket.mode == Mode.STRONG:
                during += await asyncio.gather(*(bucket.acquire(f"k{i}", 3) for i in range(10)))
            await eventually(lambda: limiter.stats()["redis"][name]["failed"] != {})
            server.thaw()
            await eventually(lambda: bucket.mode == Mode.STRONG)
            after = [await bucket.acquire(f"k{i}", 3) for i in range(10)]
            await eventually(lambda: not limiter.stats()["strong"]["unsettled"])
            admitted = 3 * sum(d.allowed for d in before + during + after)
            ((taken, refunded),) = records(server).values()
            assert taken - refunded == admitted
            assert (await endpoint(limiter)).link.fence > first
            stats = limiter.stats()
            assert 0 < stats["redis"][name]["timed_out"] <= stats["redis"][name]["indeterminate"]
            counted = {
                (mode, told): number
                for mode, numbers in stats["buckets"]["b"]["modes"].items()
                for told, number in numbers.items()
                if number
            }
            made = Counter(
                (str(d.mode), "allowed" if d.allowed else "denied") for d in before + during + after
            )
            assert counted == made
            assert sum(200 - bucket.peek(f"k{i}").remaining for i in range(10)) == admitted


# ---- other nodes ----


async def test_nodes_that_share_a_redis_share_the_quota(server: Server) -> None:
    async with opened(server.url) as one, opened(server.url, node="n2") as two:
        await eventually(lambda: two.stats()["strong"]["sharing_nodes"] == 2)
        assert one.stats()["strong"]["sharing_nodes"] in (1, 2)  # it looks again in a while


async def test_the_log_says_how_bad_a_change_is(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server, caplog.at_level(logging.INFO, "crdtbucket.strong"):
        async with opened(server.url, modes=EAGER) as limiter:
            bucket = limiter.bucket("b")
            server.kill()
            await eventually(lambda: bucket.mode == Mode.FALLBACK)
            server.start()
            await eventually(lambda: bucket.mode == Mode.STRONG)
    lines = [r for r in caplog.records if " -> " in r.getMessage()]
    assert [r.levelno for r in lines] == [logging.CRITICAL, logging.INFO]
    assert "strong -> fallback: refused 3 times in a row" in lines[0].getMessage()
