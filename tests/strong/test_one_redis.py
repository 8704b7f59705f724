"""All users of one Redis share its limits: in any mesh, with one name, and when Redis is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig, Mode, RedisConfig
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis import registry
from tests.strong.redis_server import EAGER, Server
from tests.waits import eventually

STILL = BucketSpec("b", 1_000, 1, "1h", consistency="strong")
MODES = ControllerSettings(**EAGER)  # type: ignore[arg-type]
SECRET, OTHER = "a secret of sixteen bytes", "another one, as long as it"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def short_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BEAT_NS", 100_000_000)


def limiter(
    server: Server,
    node: str,
    mesh: dict[str, Any] | None = None,
    hash_secret: str | None = None,
    shared: Path | None = None,
    **degradation: Any,
) -> Limiter:
    return Limiter(
        [STILL],
        node=node,
        mesh=None if mesh is None else MeshConfig(listen="127.0.0.1:0", **mesh),
        redis=RedisConfig(url=server.url, deadline=10.0, hash_secret=hash_secret),
        shared=shared,
        max_keys=1_000,
        degradation=Degradation(modes=MODES, **degradation),
    )


async def drain(one: Limiter, times: int = 250) -> int:
    """What a limiter grants of one key."""
    got = 0
    for _ in range(times):
        got += 5 * (await one.bucket("b").acquire("k", 5)).allowed
    return got


# ---- one hash for all ----


async def test_nodes_in_any_mesh_and_in_none_share_one_limit(server: Server) -> None:
    several = [
        limiter(server, "n1", {}),
        limiter(server, "n2"),
        limiter(server, "n3", {"secret": SECRET}),
        limiter(server, "n4", {"secret": OTHER}),
        limiter(server, "n5", {"secret": [OTHER, SECRET]}),
    ]
    got = []
    for one in several:
        async with one:
            got.append(await drain(one, 60))
    assert got == [300, 300, 300, 100, 0]
    assert len(server.call("KEYS", "crdtbucket:{b:*")) == 1


async def test_one_secret_for_the_purpose_is_one_limit(server: Server) -> None:
    several = [
        limiter(server, "n1", {"hash_secret": SECRET}),
        limiter(server, "n2", None, SECRET),
        limiter(server, "n3", {"secret": OTHER}, SECRET),
    ]
    async with AsyncExitStack() as stack:
        for one in several:
            await stack.enter_async_context(one)
        assert [await drain(one, 100) for one in several] == [500, 500, 0]


async def test_a_key_with_a_given_limit_has_one_limit_in_redis_and_keeps_its_debt_there(
    server: Server,
) -> None:
    async with limiter(server, "n1") as one, limiter(server, "n2") as two:
        assert await drain(one, 60) == 300
        for each in (one, two):  # the first one charges what the key owes: to Redis, for both
            each.overrides.set("b", "k", "400/hour")
        assert [await drain(one, 10), await drain(two, 20)] == [50, 50]
        assert len(server.call("KEYS", "crdtbucket:{b[[]=400*")) == 1
        assert [await drain(each, 5) for each in (one, two)] == [0, 0]
        for each in (one, two):
            each.overrides.remove("b", "k")
        assert [await drain(one, 100), await drain(two, 130)] == [500, 100]


async def test_who_hashes_otherwise_is_refused_with_a_reason_until_it_is_alone(
    server: Server, short_beats: None, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    async with AsyncExitStack() as stack:
        first = limiter(server, "n1", None, SECRET)
        await first.__aenter__()
        assert await drain(first, 100) == 500
        other = await stack.enter_async_context(limiter(server, "n2"))
        bucket = other.bucket("b")
        assert bucket.mode is Mode.FALLBACK
        decisions = [await bucket.acquire("k", 5) for _ in range(50)]
        assert {decision.mode for decision in decisions} == {Mode.FALLBACK}
        assert sum(decision.allowed for decision in decisions) == 20  # a tenth of the limit
        assert len(server.call("KEYS", "crdtbucket:{b:*")) == 1  # and nothing of it is settled
        assert other.stats()["strong"]["refused"]
        assert not first.stats()["strong"]["refused"]
        assert (await first.bucket("b").acquire("k", 5)).mode is Mode.STRONG
        told = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
        await first.aclose()
        await eventually(lambda: bucket.mode is Mode.STRONG)
        assert (await bucket.acquire("k", 5)).mode is Mode.STRONG
        await eventually(lambda: not other.stats()["strong"]["unsettled"])
    assert len(told) == 1
    for part in ("is not used", "n1", "hashes keys of buckets otherwise", "redis.hash_secret"):
        assert part in told[0]


async def test_a_redis_that_comes_late_is_asked_who_uses_it_before_it_decides(
    short_beats: None,
) -> None:
    server = Server()
    try:
        async with limiter(server, "n2") as late:
            await eventually(lambda: late.bucket("b").mode is Mode.FALLBACK)
            server.start()
            async with limiter(server, "n1", None, SECRET) as first:
                await eventually(lambda: refused(first) != refused(late))
                served = [one for one in (first, late) if not refused(one)]
                await eventually(lambda: served[0].bucket("b").mode is Mode.STRONG)
                for _ in range(20):
                    modes = [(await one.bucket("b").acquire("k")).mode for one in (first, late)]
                    assert modes.count(Mode.STRONG) == 1
    finally:
        server.remove()


def refused(one: Limiter) -> bool:
    return bool(one.stats()["strong"]["refused"])


# ---- when it is gone ----


async def test_processes_of_one_name_stay_within_the_limit_together(
    server: Server, short_beats: None
) -> None:
    """Also when Redis goes before all know of the one that came last."""
    several = [limiter(server, "web") for _ in range(12)]
    async with AsyncExitStack() as stack:
        for one in several:
            await stack.enter_async_context(one)
        await eventually(
            lambda: {one.stats()["strong"]["sharing_nodes"] for one in several} == {12}
        )
        server.kill()
        assert sum([await drain(one) for one in several]) <= 1_000


async def test_the_last_to_come_takes_nothing_that_others_may_grant(server: Server) -> None:
    several = [limiter(server, "web", fallback_ratio=0.5) for _ in range(4)]
    async with AsyncExitStack() as stack:
        for one in several:
            await stack.enter_async_context(one)
        server.kill()
        got = [await drain(one) for one in several]
    assert got == [500, 500, 0, 0]


@pytest.mark.parametrize(("calls", "shares"), [(1, False), (3, False), (1, True), (3, True)])
async def test_calls_before_others_know_a_newcomer_cost_its_quota_no_more_than_later_ones(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, calls: int, shares: bool
) -> None:
    monkeypatch.setattr(registry, "BEAT_NS", 3_600_000_000_000)  # the test says when
    shared = tmp_path / "table" if shares else None
    async with (
        limiter(server, "n1", fallback_ratio=1) as old,
        limiter(server, "n2", fallback_ratio=1, shared=shared) as new,
    ):
        assert [quota_of(one) for one in (old, new)] == [1_000, 0]
        for _ in range(calls):
            assert await new.bucket("b").acquire("k", 5)
        for one in (
            old,
            old,
            new,
        ):  # the old one takes less, then says so, then the new one gets it
            await beat(one)
        assert [quota_of(one) for one in (old, new)] == [500, 500]
        server.kill()
        assert [await drain(one) for one in (old, new)] == [500, 500 - 5 * calls]


async def test_calls_of_a_newcomer_count_while_others_may_have_its_share(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share that the others leave is what it grants together with what Redis allowed it."""
    monkeypatch.setattr(registry, "BEAT_NS", 3_600_000_000_000)
    async with (
        limiter(server, "n1", fallback_ratio=0.8) as old,
        limiter(server, "n2", fallback_ratio=0.8) as new,
    ):
        assert [quota_of(one) for one in (old, new)] == [800, 200]
        assert await new.bucket("b").acquire("k", 100)
        server.kill()
        assert [await drain(one) for one in (old, new)] == [800, 100]


def quota_of(one: Limiter) -> float:
    policy = one.bucket("b").fallback_policy("k")
    assert policy is not None
    return policy[0]


async def beat(one: Limiter) -> None:
    """A process writes itself into the list again, and reads who else is there."""
    store = one.bucket("b").store
    endpoint = store._places.at(store.registry.name)
    assert await store.registry.beat(endpoint.link.connection)


async def test_who_starts_while_redis_is_gone_takes_the_share_of_the_expected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server()
    several = [limiter(server, f"n{i}", expected_nodes=20) for i in range(20)]
    async with AsyncExitStack() as stack:
        for one in several:
            await stack.enter_async_context(one)
        got = await asyncio.gather(*(drain(one) for one in several))
    assert sum(got) == 1_000
    assert not [r for r in caplog.records if "how many processes" in r.getMessage()]


async def test_without_a_number_a_warning_says_what_many_may_grant(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with limiter(Server(), "n1") as one:
        assert await drain(one, 30) == 100
    (warning,) = (r for r in caplog.records if "how many processes" in r.getMessage())
    assert warning.levelno == logging.WARNING
    for part in ("may grant 0.1 of every limit", "more than 10", "expected_nodes"):
        assert part in warning.getMessage()


async def test_shares_of_slots_alone_are_warned_of_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slots = BucketSpec.concurrency("llm", 20, consistency="strong")
    async with Limiter([slots], node="n1", redis=Server().url):
        pass
    assert [r for r in caplog.records if "how many processes" in r.getMessage()]


@pytest.mark.parametrize("rule", ["deny", "allow", "eventual"])
async def test_who_grants_no_quota_is_not_warned(
    rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with limiter(Server(), "n1", on_outage=rule):
        pass
    assert not [r for r in caplog.records if "how many processes" in r.getMessage()]
