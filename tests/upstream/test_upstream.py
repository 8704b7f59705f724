"""Calls wait for tokens and for the end of a pause, for as long as the caller allows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crdtbucket import (
    BucketSpec,
    CrdtbucketError,
    InvalidSpec,
    Limiter,
    UnknownBucket,
    WaitTimeout,
    WrongKind,
)
from crdtbucket.upstream.upstream import Upstream
from tests.virtual_loop import VirtualTime, virtually

RETRY = {"Retry-After": "20"}


class World:
    """A service in virtual time, with ten calls at once and one a second."""

    def __init__(self, time: VirtualTime, **options: Any) -> None:
        self.time = time
        spec = BucketSpec("api", capacity=10, refill_rate=1)
        self.limiter = Limiter([spec], _table=self.time.table)
        self.bucket = self.limiter.bucket("api")
        self.upstream = Upstream(self.limiter, "api", **options)

    async def call(self, status: int = 200, fields: dict[str, str] | None = None) -> float:
        """A call that is answered at once; when it was sent (s)."""
        call = await self.upstream.wait(None)
        call.answered(status, (fields or {}).items())
        return self.time.elapsed


@virtually
async def test_calls_wait_for_tokens(time: VirtualTime) -> None:
    world = World(time)
    assert await asyncio.gather(*(world.call() for _ in range(12))) == [0.0] * 10 + [1.0, 2.0]


@virtually
async def test_after_retry_after_the_next_call_is_sent_when_the_service_takes_it(
    time: VirtualTime,
) -> None:
    world = World(time, timeout=60)
    await world.call(429, RETRY)
    # Nothing for 20 s, then as it refills.
    assert [await world.call(), await world.call()] == [21.0, 22.0]


@virtually
async def test_a_pause_stops_those_that_wait_already(time: VirtualTime) -> None:
    world = World(time, timeout=60)
    first = await world.upstream.wait(None)
    world.bucket.take("all", 9)
    waiting = [asyncio.ensure_future(world.call()) for _ in range(2)]
    await asyncio.sleep(0.5)
    first.answered(429, RETRY.items())
    world.bucket.reset("all")  # whatever the level says
    # Their tokens went back when they met the pause, so that none is paid for twice.
    assert await asyncio.gather(*waiting) == [21.5, 22.5]


@virtually
async def test_tokens_go_back_at_a_pause_where_the_key_has_another_limit_meanwhile(
    time: VirtualTime,
) -> None:
    world = World(time, key="k", timeout=60)
    first = await world.upstream.wait(None)
    world.bucket.take("k", 9)
    waiting = asyncio.ensure_future(world.call())
    await asyncio.sleep(0)

    def change() -> None:
        """Is called when the caller has its token, and does not run yet."""
        first.answered(429, RETRY.items())
        world.limiter.overrides.set("api", "k", "1/s burst 10")

    asyncio.get_running_loop().call_later(1, change)
    assert await waiting == 22.0


@virtually
async def test_a_pause_that_is_longer_than_the_patience_is_refused_at_once(
    time: VirtualTime,
) -> None:
    world = World(time, timeout=5)
    await world.call(429, RETRY)
    with pytest.raises(WaitTimeout, match=r"takes no requests for 20\.000 s more"):
        await world.call()
    assert world.time.elapsed == 0


@virtually
async def test_the_deadline_counts_the_pause_and_the_tokens(time: VirtualTime) -> None:
    world = World(time, timeout=20.5)
    await world.call(429, RETRY)
    with pytest.raises(WaitTimeout, match="a cost of 1 takes"):
        await world.call()
    assert world.time.elapsed == 20


@virtually
async def test_key_and_cost_are_of_the_request(time: VirtualTime) -> None:
    world = World(time, key=lambda request: request["host"], cost=lambda request: request["cost"])
    await world.upstream.wait({"host": "a", "cost": 4})
    assert [world.bucket.peek(key).remaining for key in "ab"] == [6, 10]


@virtually
async def test_without_following_an_answer_changes_nothing(time: VirtualTime) -> None:
    world = World(time, follows=None)
    await world.call(429, RETRY)
    assert world.bucket.peek("all").remaining == 9


@virtually
async def test_an_answer_after_the_limiter_was_closed_is_still_an_answer(time: VirtualTime) -> None:
    world = World(time)
    call = await world.upstream.wait(None)
    world.limiter.close()
    assert call.answered(429, RETRY.items()).denied


def test_threads_wait_as_well_and_an_event_loop_is_not_blocked(time: VirtualTime) -> None:
    world = World(time, timeout=0)
    call = world.upstream.wait_sync(None)
    call.answered(429, RETRY.items())
    with pytest.raises(WaitTimeout):
        world.upstream.wait_sync(None)

    async def main() -> None:
        with pytest.raises(CrdtbucketError, match="await upstream"):
            world.upstream.wait_sync(None)

    asyncio.run(main())


@virtually
async def test_what_others_see_as_well_is_charged_in_parts(
    time: VirtualTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(time)
    states = ("alive", "alive", "suspect", "dead", "left")
    monkeypatch.setattr(world.limiter, "fleet", lambda: [{"state": state} for state in states])
    call = await world.upstream.wait(None)
    call.answered(200, {"X-RateLimit-Remaining": "0"}.items())
    assert world.bucket.peek("all").remaining == 6  # a third of the nine


def test_what_is_no_limiter_is_refused() -> None:
    limiter = Limiter([BucketSpec("api", 1, 1)])
    for wrong in ("api", limiter.bucket("api")):
        with pytest.raises(InvalidSpec, match="pass the limiter first: Upstream"):
            Upstream(wrong, limiter)  # type: ignore[arg-type]


def test_what_cannot_follow_is_refused() -> None:
    specs = [BucketSpec("strong", 1, 1, consistency="strong"), BucketSpec.concurrency("slots", 2)]
    limiter = Limiter(specs, redis="redis://127.0.0.1:1", node="n1")
    with pytest.raises(InvalidSpec, match="strong and cannot follow"):
        Upstream(limiter, "strong")
    Upstream(limiter, "strong", follows=None)
    monthly = Limiter([BucketSpec.calendar("monthly", 1_000, per="month")])
    with pytest.raises(InvalidSpec, match="calendar quota and cannot follow"):
        Upstream(monthly, "monthly")
    Upstream(monthly, "monthly", follows=None)
    with pytest.raises(WrongKind):
        Upstream(limiter, "slots")
    with pytest.raises(UnknownBucket):
        Upstream(limiter, "none")
    for wrong in ({"longest_pause": -1}, {"timeout": "soon"}):
        with pytest.raises(InvalidSpec):
            Upstream(limiter, "strong", **wrong)  # type: ignore[arg-type]
