"""Strong buckets whose definition changes while Redis is asked."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from crdtbucket import Bucket, BucketSpec, CostExceedsCapacity, Mode
from crdtbucket._core import Table
from crdtbucket.config import Config
from crdtbucket.rollout.rollout_plan import RolloutPlan, Stage
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.script import Arguments
from crdtbucket.strong.redis.shares import ALONE
from crdtbucket.strong.store import Store
from crdtbucket.strong.store_rules import Rules
from tests.strong.backends import TimedModel
from tests.strong.books import Books, Node
from tests.strong.redis_server import PATIENT, Server
from tests.strong.test_strong_bucket import opened

KEY = "tenant-42"


def config_of(
    *specs: BucketSpec, version: int = 0, rollout: RolloutPlan | None = None, **outages: Any
) -> Config:
    how = Degradation(modes=ControllerSettings(**PATIENT), **outages)  # type: ignore[arg-type]
    return Config(
        "limits.yaml",
        specs,
        consistency=Mode.STRONG,
        degradation=how,
        version=version,
        rollout=rollout,
    )


async def test_redis_decides_by_the_new_definition_and_keeps_the_debt(server: Server) -> None:
    wide, narrow = BucketSpec("b", 200, 1, "1h"), BucketSpec("b", 100, 1, "2h")
    async with opened(server.url, wide) as one, opened(server.url, wide, node="n2") as two:
        held = one.bucket("b")
        assert (await held.acquire(KEY, 60)).remaining == 140
        for limiter in (one, two):
            limiter.reload(config_of(narrow))
        assert one.bucket("b") is held
        decision = await two.bucket("b").acquire(KEY, 30)
        assert (decision.remaining, decision.limit, decision.mode) == (10, 100, Mode.STRONG)
        with pytest.raises(CostExceedsCapacity):
            await held.acquire(KEY, 101)
        assert not await held.acquire(KEY, 11)
        for limiter in (one, two):
            limiter.reload(config_of(wide))
        assert (await held.acquire(KEY, 10)).remaining == 100


async def test_keys_of_a_staged_version_are_asked_for_in_its_definition(server: Server) -> None:
    """Two nodes at one stage and a third that is still without it share each key's one count."""
    wide, narrow = BucketSpec("b", 200, 1, "1h"), BucketSpec("b", 100, 1, "2h")
    plan = RolloutPlan((Stage(percent=50), Stage()))
    async with (
        opened(server.url, wide) as one,
        opened(server.url, wide, node="n2") as two,
        opened(server.url, wide, node="n3") as behind,
    ):
        bucket = one.bucket("b")
        for limiter in (one, two):
            limiter.reload(config_of(wide, version=1))
            limiter.reload(config_of(narrow, version=2, rollout=plan))
        keys = [f"key-{number}" for number in range(20)]
        limits = {key: (await bucket.acquire(key, 60)).limit for key in keys}
        assert set(limits.values()) == {100, 200}
        for key, limit in limits.items():
            decision = await two.bucket("b").acquire(key, 30)
            told = (decision.remaining, decision.limit, decision.mode)
            assert told == (limit - 90, limit, Mode.STRONG)
            assert bool(await bucket.acquire(key, 11)) is (limit == 200)
            unsettled = 101 if limit == 200 else 90
            assert (await behind.bucket("b").acquire(key, 1)).remaining == 200 - unsettled - 1
        new = next(key for key, limit in limits.items() if limit == 100)
        with pytest.raises(CostExceedsCapacity):
            await bucket.acquire(new, 101)
        for limiter in (one, two):
            limiter.rollout.rollback()
        for key, limit in limits.items():
            unsettled = 102 if limit == 200 else 91
            assert (await two.bucket("b").acquire(key, 1)).remaining == 200 - unsettled - 1


async def test_a_staged_version_says_what_its_keys_get_in_an_outage() -> None:
    with Server() as gone:
        url = gone.url
    old = BucketSpec("b", 200, 1, "1h", on_outage="deny")
    new = BucketSpec("b", 200, 1, "1h", on_outage="allow")
    async with opened(url, old) as limiter:
        bucket = limiter.bucket("b")
        limiter.reload(config_of(old, version=1))
        stages = RolloutPlan((Stage(percent=50), Stage()))
        limiter.reload(config_of(new, version=2, rollout=stages))
        for number in range(20):
            key = f"key-{number}"
            moved = bucket.on_candidate(bucket.hash(key)[1])
            assert bool(await bucket.acquire(key)) is moved
        limiter.rollout.advance()
        limiter.rollout.advance()
        assert await bucket.acquire("key-0")


async def test_keys_of_a_staged_version_that_holds_less_get_its_share_in_an_outage() -> None:
    """The keys of the version in force get the share of that, and no key gets two."""
    with Server() as gone:
        url = gone.url
    old, new = BucketSpec("b", 1_000, 1, "1h"), BucketSpec("b", 100, 1, "1h")
    async with opened(url, old) as limiter:
        bucket = limiter.bucket("b")
        limiter.reload(config_of(old, version=1))
        assert await bucket.acquire("before", 5)
        stages = RolloutPlan((Stage(percent=50), Stage()))
        limiter.reload(config_of(new, version=2, rollout=stages))
        keys = [f"key-{number}" for number in range(10)]
        moved = {key: bucket.on_candidate(bucket.hash(key)[1]) for key in keys}
        assert set(moved.values()) == {True, False}
        for key in keys:
            share = 10 if moved[key] else 100
            policy = bucket.fallback_policy(key)
            assert policy is not None
            assert policy[0] == share
            assert await drain(bucket, key) == share
        limiter.rollout.rollback()
        for key in keys:
            assert await drain(bucket, key) == (90 if moved[key] else 0)
        assert await drain(bucket, "before") == 95


async def drain(bucket: Bucket, key: str) -> int:
    """What the quota of a key grants."""
    granted = 0
    while decision := await bucket.acquire(key):
        granted += 1
    assert decision.remaining == 0
    return granted


async def test_buckets_come_and_go(server: Server) -> None:
    first, second = BucketSpec("b", 5, 1, "1h"), BucketSpec("c", 5, 1, "1h")
    async with opened(server.url, first) as limiter, opened(server.url, second, node="n2") as other:
        removed = limiter.bucket("b")
        assert await other.bucket("c").acquire(KEY, 3)
        limiter.reload(config_of(second))
        added = limiter.bucket("c")
        assert added.mode is Mode.STRONG
        assert (await added.acquire(KEY, 2)).remaining == 0
        assert not await other.bucket("c").acquire(KEY)
        assert await removed.acquire(KEY, 5)


async def test_a_bucket_that_was_removed_still_asks_for_the_limits_of_new_keys(
    server: Server,
) -> None:
    asking = BucketSpec("b", 5, 1, "1h", overrides=lambda key: "30/hour")
    async with opened(server.url, asking) as limiter:
        removed = limiter.bucket("b")
        limiter.reload(config_of(BucketSpec("c", 5, 1, "1h")))
        assert (await removed.acquire(KEY)).limit == 30


async def test_a_bucket_that_comes_while_the_mode_changes_is_in_the_new_mode(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server.url, BucketSpec("b", 200, 1, "1h")) as one:
        side = one.in_force.strong
        assert side is not None
        changes = iter([Mode.FALLBACK])

        def mode(store: Store) -> Mode:
            for new in changes:  # the loop's thread informs all buckets just after it was asked
                side.worst_mode_changed(new)
                return Mode.STRONG
            return Mode.FALLBACK

        monkeypatch.setattr(Store, "mode", property(mode))
        one.reload(config_of(BucketSpec("b", 200, 1, "1h"), BucketSpec("new", 5, 1, "1h")))
        assert [bucket.mode for bucket in one.buckets.values()] == [Mode.FALLBACK] * 2


async def test_what_an_outage_does_changes_too(server: Server) -> None:
    with Server() as gone:
        url = gone.url
    spec = BucketSpec("b", 200, 1, "1h")
    async with opened(url, spec, on_outage="deny") as limiter:
        bucket = limiter.bucket("b")
        assert not await bucket.acquire(KEY)
        webhook = "https://hooks.example.com/x"
        limiter.reload(config_of(spec, on_outage="allow", webhook=webhook))
        assert await bucket.acquire(KEY)
        more = {"fallback_ratio": 0.5, "webhook": webhook}
        limiter.reload(config_of(spec, on_outage="quota", **more))
        strong = limiter.in_force.strong
        assert strong is not None
        assert strong.rule_maker.degradation.webhook is None, "it holds for the life of a limiter"
        # What was allowed before cost ten parts of the share a token, and costs two now.
        assert await bucket.acquire(KEY, 90)
        assert await bucket.acquire(KEY, 5)
        decision = await bucket.acquire(KEY)
        assert (decision.allowed, decision.mode) == (False, Mode.FALLBACK)


def rules_of(node: Node, spec: BucketSpec) -> Rules:
    quota = Quota(node.quotas, spec, Fraction(1, 10), fleet=False)
    return Rules(Arguments(spec, spec.max_debt), "eventual", quota)


@pytest.mark.parametrize(("before", "after"), [("1ms", "1h"), ("1h", "1ms")])
def test_an_answer_in_the_old_definition_lowers_no_level(before: str, after: str) -> None:
    """60 tokens of debt are 60 ms in one definition and 60 hours in the other."""
    old, new = (BucketSpec("b", 100, 1, each) for each in (before, after))
    world = Books(TimedModel(), old, count=1)
    (node,) = world.nodes
    world.take(node, 60)
    for cost in (0, 10):
        key = None if cost == 0 else "k"
        ask = node.ledger._whole(node.bucket, node.place, key, cost, node.fence)
        assert ask is not None
        answer = world.store.run(ask.rules.arguments, ask.call)
        node.bucket.define(new)
        node.rules.follow(node.bucket, rules_of(node, new))
        node.ledger.book(ask, answer, node.fence)
        assert node.bucket.peek("k").remaining == 40 - cost
        node.bucket.define(old)
        node.rules.follow(node.bucket, rules_of(node, old))
    assert world.take(node, 30).remaining == 0
    assert world.take(node, 1) is not None
    assert not world.take(node, 1)


def test_a_quota_keeps_what_it_charged_through_changes() -> None:
    table = Table(max_keys=64, virtual=True)
    odd, plain = (BucketSpec("b", 100, rate, each) for rate, each in ((3, "1us"), (1, "1h")))
    for change in range(6):
        quota = Quota(table, (plain, odd)[change % 2], Fraction(1, 10), fleet=False)
        if change < 2:
            quota.charge("k", 10, ALONE)
        decision = quota.take("k", 1, ALONE)
        assert decision is not None
        assert not decision
