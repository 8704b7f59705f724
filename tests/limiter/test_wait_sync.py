"""Threads without an event loop that wait for tokens."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from crdtbucket import (
    BucketSpec,
    CostExceedsCapacity,
    CrdtbucketError,
    InvalidSpec,
    Limiter,
    LimiterClosed,
    WaitTimeout,
)
from tests.strong.redis_server import Server
from tests.waits import until

DAILY = BucketSpec("api", 5, 1, "1d", overrides=[("gold", BucketSpec("x", 50, 1, "1d"))])
BOUND = 60.0


def until_waiting(limiter: Limiter, callers: int, name: str = "api") -> None:
    """Blocks until so many callers wait."""
    until(lambda: len(limiter.bucket(name).waiters) == callers, "nobody waits")


def test_tokens_that_are_there_are_taken_at_once() -> None:
    bucket = Limiter([DAILY]).bucket("api")
    assert bucket.wait_sync("k", 5)
    with pytest.raises(WaitTimeout) as error:
        bucket.wait_sync("k", timeout=0)
    assert error.value.decision.remaining == 0


def test_what_is_there_needs_no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_loop(*_: object) -> None:
        raise AssertionError("a loop costs a thousand times what a take does")

    monkeypatch.setattr(asyncio, "run", no_loop)
    limiter = Limiter([DAILY, BucketSpec.calendar("day", 5, per="day")])
    for bucket, key, most in (("api", "k", 5), ("api", "gold", 50), ("day", "k", 5)):
        assert limiter.bucket(bucket).wait_sync(key, most, timeout=0).limit == most
        assert limiter.bucket(bucket).peek(key).remaining == 0
    with pytest.raises(InvalidSpec, match="timeout"):
        limiter.bucket("api").wait_sync("other", timeout="soon")  # type: ignore[arg-type]
    assert limiter.bucket("api").peek("other").remaining == 5


def test_it_returns_when_the_refill_is_there() -> None:
    bucket = Limiter([BucketSpec("api", 1, 20)]).bucket("api")
    assert all(bucket.wait_sync("k", timeout=BOUND).allowed for _ in range(4))


def test_a_wait_beyond_its_timeout_is_refused_at_once() -> None:
    bucket = Limiter([DAILY]).bucket("api")
    bucket.take("k", 5)
    with pytest.raises(WaitTimeout, match="or more") as caught:
        bucket.wait_sync("k", timeout=3_600)
    assert caught.value.__context__ is None  # the traceback shows this error alone


def test_it_waits_under_the_override_of_the_key() -> None:
    bucket = Limiter([DAILY]).bucket("api")
    assert bucket.wait_sync("gold", 50, timeout=0).limit == 50
    with pytest.raises(CostExceedsCapacity):
        bucket.wait_sync("k", 50)


def test_a_refund_wakes_a_thread() -> None:
    limiter = Limiter([DAILY])
    bucket = limiter.bucket("api")
    taken = bucket.take("k", 5)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(bucket.wait_sync, "k", 5)
        until_waiting(limiter, 1)
        bucket.refund(taken)
        assert waiting.result(BOUND)


def test_closing_the_limiter_ends_the_wait() -> None:
    limiter = Limiter([DAILY])
    bucket = limiter.bucket("api")
    bucket.take("k", 5)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(bucket.wait_sync, "k", 5)
        until_waiting(limiter, 1)
        limiter.close()
        with pytest.raises(LimiterClosed):
            waiting.result(BOUND)


async def test_an_event_loop_is_not_blocked() -> None:
    bucket = Limiter([DAILY]).bucket("api")
    with pytest.raises(CrdtbucketError, match="would block the event loop"):
        bucket.wait_sync("k")
    assert bucket.peek("k").remaining == 5


def test_a_strong_bucket_waits_too() -> None:
    with Server() as server:
        spec = BucketSpec("api", 5, 1, "1d")
        with Limiter([spec], node="a", consistency="strong", **server.patient()) as limiter:
            bucket = limiter.bucket("api")
            taken = bucket.wait_sync("k", 5, timeout=BOUND)
            with ThreadPoolExecutor(1) as threads:
                waiting = threads.submit(bucket.wait_sync, "k", 5)
                until_waiting(limiter, 1)
                bucket.refund(taken)
                assert waiting.result(BOUND)
