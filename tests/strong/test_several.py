"""Takes from several buckets at once at a real server: nothing is lost, nothing is minted."""

from __future__ import annotations

import asyncio
import itertools
import random
from types import SimpleNamespace
from typing import cast

import pytest

from crdtbucket import AcquireRequired, AllDecision, BucketSpec, Limiter, ReservationDenied
from crdtbucket.base.address import Address
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.endpoints import Endpoints
from tests.interrupted import interrupted
from tests.strong.redis_server import Server
from tests.strong.test_strong_bucket import opened, records
from tests.waits import eventually

REQUESTS = BucketSpec("requests", 60, 1, "1h")
TOKENS = BucketSpec("tokens", 1_000, 1, "1h")
LOCAL = BucketSpec("local", 40, 1, "1h", consistency="eventual")
KEY = "tenant-42"


def net(server: Server, bucket: str) -> int:
    """Tokens of a bucket that Redis counts as taken and not given back."""
    return sum(taken - refunded for taken, refunded in records(server, bucket).values())


async def test_two_nodes_hold_two_limits_together(server: Server) -> None:
    async with (
        opened(server.url, REQUESTS, TOKENS) as one,
        opened(server.url, REQUESTS, TOKENS, node="n2") as two,
    ):

        async def caller(limiter: Limiter, seed: int) -> tuple[int, int]:
            rng = random.Random(seed)
            admitted = [0, 0]
            for _ in range(15):
                cost = rng.randint(1, 60)
                items = [("requests", KEY), ("tokens", KEY, cost)]
                rng.shuffle(items)
                answer = await limiter.acquire_all(items)
                if answer:
                    admitted[0] += 1
                    admitted[1] += cost
                else:
                    assert answer.retry_after > 0
            return admitted[0], admitted[1]

        limiters = (one, two)
        sums = await asyncio.gather(*(caller(limiters[n % 2], n) for n in range(8)))
        requests, tokens = (sum(column) for column in zip(*sums, strict=True))
        assert 0 < requests <= 60
        assert 940 < tokens <= 1_000  # the next call would have cost 60 at most
        await eventually(
            lambda: (net(server, "requests"), net(server, "tokens")) == (requests, tokens)
        )


async def test_a_denial_of_redis_takes_nothing_here_and_of_here_asks_nobody(
    server: Server,
) -> None:
    items = [("local", KEY, 30), ("requests", KEY, 50)]
    async with opened(server.url, REQUESTS, LOCAL) as limiter:
        with pytest.raises(AcquireRequired, match=r"await limiter\.acquire_all"):
            limiter.take_all(items)
        with pytest.raises(AcquireRequired), limiter.reserve_all(items):
            pass
        first = await limiter.acquire_all(items)
        assert (first.allowed, first.binding.bucket.spec.name) == (True, "requests")
        assert {decision.mode for decision in first.decisions} == {"strong", "eventual"}
        answered = endpoint_answered(limiter)
        second = await limiter.acquire_all(items)
        assert (second.allowed, second.binding.bucket.spec.name) == (False, "requests")
        assert endpoint_answered(limiter) == answered
        assert limiter.bucket("local").peek(KEY).remaining == 10
        third = await limiter.acquire_all([("local", KEY), ("requests", KEY, 11)])
        assert third.binding.bucket.spec.name == "requests"
        assert limiter.bucket("local").counters()["granted"] == 30
        assert limiter.refund_all(first) == 80
        await eventually(lambda: net(server, "requests") == 0)
        assert limiter.bucket("local").peek(KEY).remaining == 40


def endpoint_answered(limiter: Limiter) -> int:
    (stats,) = limiter.stats()["redis"].values()
    answered: int = stats["answered"]
    return answered


async def test_callers_that_are_cancelled_lose_and_mint_nothing(server: Server) -> None:
    items = [("requests", KEY), ("tokens", KEY, 7), ("local", KEY)]
    async with opened(server.url, REQUESTS, TOKENS, LOCAL) as limiter:
        rng = random.Random(7)
        answers: list[AllDecision] = []

        async def caller() -> None:
            answers.append(await limiter.acquire_all(items))

        for _ in range(30):
            calls = [asyncio.create_task(caller()) for _ in range(4)]
            for call in calls:
                for _ in range(rng.randint(0, 6)):
                    await asyncio.sleep(0)
                if rng.random() < 0.7:
                    call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        admitted = sum(map(bool, answers))
        await eventually(
            lambda: (net(server, "requests"), net(server, "tokens")) == (admitted, 7 * admitted)
        )
        assert limiter.bucket("local").peek(KEY).remaining == 40 - admitted
        assert 0 < admitted <= 40
        assert len(answers) < 120  # some were cancelled


async def test_an_estimate_of_two_budgets_is_committed_before_redis(server: Server) -> None:
    async with opened(server.url, REQUESTS, TOKENS) as limiter:
        async with limiter.reserve_all([("requests", KEY), ("tokens", KEY, 800)]) as held:
            with pytest.raises(ReservationDenied, match="estimate of 800 of 'tokens'"):
                async with limiter.reserve_all([("requests", KEY), ("tokens", KEY, 800)]):
                    pass
            held.commit(1, 412)
        await eventually(lambda: net(server, "tokens") == 412)
        assert net(server, "requests") == 1


def test_any_thread_may_ask_for_the_worst_mode_while_a_primary_comes() -> None:
    places = Endpoints.__new__(Endpoints)
    modes = {number: SimpleNamespace(mode=Mode.EVENTUAL) for number in range(3)}
    places.by_address = cast("dict[Address, Endpoint]", modes)
    new = itertools.count(3)

    def change() -> None:
        modes[next(new)] = SimpleNamespace(mode=Mode.STRONG)

    assert interrupted(lambda: places.worst_mode, change) is Mode.EVENTUAL
