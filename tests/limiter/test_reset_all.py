"""Gives every limit back at once: for operators, and between the tests of an application."""

from __future__ import annotations

import asyncio

import pytest

from crdtbucket import BucketSpec, Limiter, LimiterClosed
from crdtbucket.config import Config
from crdtbucket.testing import SimulatedMesh, reset_fixture
from tests.strong.redis_server import Server
from tests.virtual_loop import VirtualTime

SPEC = BucketSpec(
    "api", 5, 1, "1d", overrides=[("gold-*", BucketSpec("x", 50, 1, "1d"))], max_debt=100
)
SHARED = Limiter([SPEC])
fresh_limits = reset_fixture(SHARED)


def test_every_key_of_every_bucket_is_full_again() -> None:
    limiter = Limiter([SPEC, BucketSpec("other", 9, 1, "1d")])
    api, other = limiter.bucket("api"), limiter.bucket("other")
    # More keys than names are remembered: it goes by the keys that are held.
    for number in range(10_100):
        api.take(f"key-{number}", 5)
    api.take("gold-1", 50)
    api.settle("deep", 60)
    other.take(b"\xff", 9)
    other.peek("only looked at")
    assert limiter.reset_all() == 10_103
    for key in ("key-0", "key-10099", "deep"):
        assert api.peek(key).remaining == 5
    assert api.peek("gold-1").remaining == 50
    assert other.peek(b"\xff").remaining == 9
    assert limiter.reset_all() == 0


def test_a_bucket_leaves_the_keys_of_others_and_of_its_overrides() -> None:
    limiter = Limiter([SPEC, BucketSpec("other", 9, 1, "1d")])
    api, other = limiter.bucket("api"), limiter.bucket("other")
    for bucket, key in ((api, "k"), (api, "gold-1"), (other, "k")):
        bucket.take(key, 5)
    assert api.reset_all() == [api.hash("k")]
    assert (api.peek("gold-1").remaining, other.peek("k").remaining) == (45, 4)


def test_after_a_reload_keys_are_given_back_under_their_new_definition() -> None:
    limiter = Limiter([BucketSpec("api", 5, 1, "1d")])
    bucket = limiter.bucket("api")
    bucket.take("k", 5)
    limiter.reload(Config("f", (BucketSpec("api", 7, 1, "1d"),)))
    assert limiter.reset_all() == 1
    assert bucket.peek("k").remaining == 7


def test_a_refund_of_what_came_back_gives_nothing() -> None:
    limiter = Limiter([SPEC])
    bucket = limiter.bucket("api")
    decision = bucket.take("k", 5)
    limiter.reset_all()
    bucket.take("k", 5)
    assert bucket.refund(decision) == 0


def test_callers_that_wait_wake_at_once() -> None:
    time = VirtualTime()
    limiter = Limiter([SPEC], _table=time.table)
    bucket = limiter.bucket("api")
    bucket.take("k", 5)

    async def main() -> float:
        waiting = asyncio.create_task(bucket.wait("k", 5))
        await asyncio.sleep(1)
        limiter.reset_all()
        await waiting
        return time.elapsed

    assert time.run(main()) == 1


def test_peers_learn_of_it() -> None:
    mesh = SimulatedMesh(["eu", "us"], [BucketSpec("api", 100, 1, "1d")])
    mesh["eu"].take("api", "k", 60)
    mesh["us"].take("api", "k", 20)
    mesh.advance(1)
    assert len(mesh["eu"].bucket("api").reset_all()) == 1
    mesh.advance(1)
    assert [mesh[name].peek("api", "k").remaining for name in ("eu", "us")] == [80, 80]


async def test_redis_learns_of_it() -> None:
    with Server() as server:
        spec = BucketSpec("api", 5, 1, "1d")
        async with Limiter([spec], node="a", consistency="strong", **server.patient()) as first:
            assert await first.bucket("api").acquire("k", 5)
            async with Limiter(
                [spec], node="b", consistency="strong", **server.patient()
            ) as second:
                assert not await second.bucket("api").acquire("k")
                assert first.reset_all() == 1
                assert await asyncio.wait_for(second.bucket("api").wait("k", 5), 60)


def test_a_closed_limiter_resets_nothing() -> None:
    limiter = Limiter([SPEC])
    limiter.close()
    with pytest.raises(LimiterClosed):
        limiter.reset_all()


@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_of_an_application_begins_with_full_buckets(turn: int) -> None:
    assert SHARED.bucket("api").take("k", 5), turn
