"""A key gets another limit while callers wait for it: the limit of the moment counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from crdtbucket import AskedOverrides, Bucket, BucketSpec, Limiter
from crdtbucket.config import Config
from tests.virtual_loop import VirtualTime, virtually

SLOW, FAST = "1/s burst 10", "100/s burst 10"
WAITING = 1_000

Change = Callable[[str], None]
"""From now on the keys have this limit."""


class World:
    """A limiter, and a way in which the limit of the keys that begin with "k" changes."""

    def __init__(self, limiter: Limiter, change: Change) -> None:
        self.limiter, self.change = limiter, change
        self.bucket: Bucket = limiter.bucket("api")


def by_operator(time: VirtualTime) -> World:
    limiter = Limiter([BucketSpec.parse("api", "1/h burst 10")], _table=time.table)
    return World(limiter, lambda limit: limiter.overrides.set("api", "k", limit) and None)


def by_function(time: VirtualTime) -> World:
    said: list[str] = [SLOW]
    asked = AskedOverrides(lambda key: said[-1], ttl="2s")
    spec = BucketSpec.parse("api", "1/h burst 10", overrides=asked)
    return World(Limiter([spec], _table=time.table), said.append)


def by_reload(time: VirtualTime) -> World:
    limiter = Limiter([BucketSpec.parse("api", "1/h burst 10")], _table=time.table)

    def change(limit: str) -> None:
        """Sets a limit by another glob each time, so that it is the limit of another override."""
        overrides = [(f"k{'*' * len(globs)}", BucketSpec.parse("x", limit))]
        globs.append(limit)
        spec = BucketSpec.parse("api", "1/h burst 10", overrides=overrides)
        limiter.reload(Config("", (spec,), version=len(globs)))

    globs: list[str] = []
    return World(limiter, change)


@pytest.fixture(params=[by_operator, by_function, by_reload])
def world(request: pytest.FixtureRequest, time: VirtualTime) -> World:
    made: World = request.param(time)
    return made


def drained(bucket: Bucket) -> None:
    left = bucket.peek("k").remaining
    assert left == 0 or bucket.take("k", left)


@virtually
async def test_who_waits_gets_no_more_than_the_lowered_limit(world: World) -> None:
    world.change(FAST)
    drained(world.bucket)
    waiting = [asyncio.create_task(world.bucket.wait("k")) for _ in range(WAITING)]
    await asyncio.sleep(1)
    world.change(SLOW)
    await asyncio.sleep(3)  # the function is asked again after two
    drained(world.bucket)
    before = sum(one.done() for one in waiting)
    await asyncio.sleep(10)
    assert 9 <= sum(one.done() for one in waiting) - before <= 10
    await ended(waiting)


@virtually
async def test_who_waits_gets_what_the_raised_limit_allows(world: World) -> None:
    world.change(SLOW)
    drained(world.bucket)
    waiting = [asyncio.create_task(world.bucket.wait("k", 10)) for _ in range(3)]
    await asyncio.sleep(1)
    world.change("1000/s")
    await asyncio.wait_for(asyncio.gather(*waiting), 4)


@virtually
async def test_who_waits_before_a_change_is_not_overtaken_after_it(world: World) -> None:
    drained(world.bucket)
    passed: list[str] = []

    async def wait(name: str) -> None:
        await world.bucket.wait("k", 5)
        passed.append(name)

    first = asyncio.create_task(wait("first"))
    await asyncio.sleep(0)
    world.change("1/s burst 5")
    second = asyncio.create_task(wait("second"))
    await asyncio.gather(first, second)
    assert passed == ["first", "second"]


@virtually
async def test_a_refund_under_the_limit_of_a_key_wakes_who_waits(time: VirtualTime) -> None:
    limiter = Limiter([BucketSpec.parse("api", "1/h burst 10")], _table=time.table)
    limiter.overrides.set("api", "k", "1/h burst 5")
    bucket = limiter.bucket("api")
    decision = bucket.take("k", 5)
    waiting = asyncio.create_task(bucket.wait("k", 5))
    await asyncio.sleep(1)
    bucket.of("k").refund(decision)
    await asyncio.wait_for(waiting, 0.1)


def test_what_is_above_an_estimate_is_charged_under_the_limit_of_the_moment(world: World) -> None:
    limiter, bucket = world.limiter, world.bucket
    for estimated in (
        lambda: bucket.reserve("k", 1),
        lambda: limiter.reserve_all([("api", "k", 1)]),
    ):
        world.change(FAST)
        with estimated() as held:
            world.change("1/h burst 1000")
            if bucket.spec.overrides_from is not None:
                limiter.bucket("api").table.set_time(bucket.table.now() + 3 * 10**9)
            before = bucket.peek("k").remaining
            held.commit(101)
        assert before - bucket.peek("k").remaining == 100
        bucket.reset("k")


@virtually
async def test_slots_are_waited_for_under_the_limit_of_the_moment(time: VirtualTime) -> None:
    specs = [BucketSpec.concurrency(name, n) for name, n in (("llm", 1), ("many", 5), ("two", 2))]
    limiter = Limiter(specs, _table=time.table)
    bucket = limiter.bucket("llm")
    limiter.overrides.set("llm", "k", "two")
    both = [bucket.slot("k").__enter__() for _ in range(2)]
    waiting = [asyncio.create_task(bucket.slot("k", timeout=50).__aenter__()) for _ in range(6)]
    await asyncio.sleep(1)
    limiter.overrides.set("llm", "k", "many")
    await asyncio.sleep(0.1)
    assert [one.done() for one in waiting] == [True] * 5 + [False]
    for one in both:
        one.release()  # it counts under the limit of two, which nobody waits for any more
    await asyncio.sleep(0.1)
    assert not waiting[-1].done()
    assert waiting[0].result().bucket is bucket.of("k")
    waiting[0].result().release()
    await asyncio.wait_for(waiting[-1], 0.1)
    for held in waiting[1:]:
        held.result().release()
    assert limiter.bucket("llm").held("k") == 0


async def ended(tasks: list[asyncio.Task[object]]) -> None:
    for one in tasks:
        one.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
