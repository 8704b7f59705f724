"""The quota of an outage follows the true costs of calls: refunds come back, settled costs
count."""

from __future__ import annotations

import pytest

from crdtbucket import BucketSpec, Limiter, ReservationDenied
from tests.strong.redis_server import EAGER, Server
from tests.strong.test_strong_bucket import opened

SPEC = BucketSpec("b", 1_000, 1, "1h")
OTHER = BucketSpec("other", 100, 1, "1h")
KEY = "tenant-42"


async def drain(limiter: Limiter) -> int:
    """What the quota of the bucket `b` still grants."""
    taken = 0
    while await limiter.bucket("b").acquire(KEY, 1):
        taken += 1
    return taken


@pytest.fixture
def gone() -> str:
    """The address of a server that does not run."""
    server = Server()
    server.remove()
    return server.url


async def test_a_refund_of_an_outage_comes_back_to_the_quota(gone: str) -> None:
    async with opened(gone, SPEC, modes=EAGER) as limiter:
        bucket = limiter.bucket("b")
        decision = await bucket.acquire(KEY, 80)
        assert bucket.refund(decision, 30) == 30
        assert await drain(limiter) == 50
        assert bucket.refund(decision) == 50
        assert await drain(limiter) == 50


async def test_a_commit_below_the_estimate_gives_the_rest_back_to_the_quota(gone: str) -> None:
    async with opened(gone, SPEC, modes=EAGER) as limiter:
        async with limiter.bucket("b").reserve(KEY, 90) as reservation:
            reservation.commit(10)
        assert await drain(limiter) == 90


async def test_a_commit_above_the_estimate_counts_in_the_quota(gone: str) -> None:
    async with opened(gone, SPEC, modes=EAGER) as limiter:
        async with limiter.bucket("b").reserve(KEY, 10) as reservation:
            reservation.commit(70)
        assert await drain(limiter) == 30


async def test_what_another_bucket_denies_costs_no_quota(gone: str) -> None:
    async with opened(gone, SPEC, OTHER, modes=EAGER) as limiter:
        wanted = [("b", KEY, 8), ("other", KEY, 8)]
        assert await limiter.acquire_all(wanted)
        for _ in range(20):
            assert not await limiter.acquire_all(wanted)
        with pytest.raises(ReservationDenied):
            await limiter.reserve_all(wanted).__aenter__()
        assert await drain(limiter) == 92


async def test_a_reset_fills_the_quota(gone: str) -> None:
    async with opened(gone, SPEC, modes=EAGER) as limiter:
        bucket = limiter.bucket("b")
        assert await drain(limiter) == 100
        assert bucket.reset(KEY) == 100
        assert await drain(limiter) == 100


async def test_what_never_was_in_the_quota_gives_it_no_more_than_it_holds(gone: str) -> None:
    """A charge beyond the share was dropped: what comes back of it fills the share, and no more."""
    async with opened(gone, SPEC, modes=EAGER) as limiter:
        bucket = limiter.bucket("b")
        assert bucket.settle(KEY, 900) == 900
        assert await drain(limiter) == 0
        assert bucket.reset(KEY) == 900
        assert await drain(limiter) == 100
