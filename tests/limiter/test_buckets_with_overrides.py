"""Buckets with overrides: every call reaches the bucket that decides on its key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import (
    AcquireRequired,
    Bucket,
    BucketSpec,
    CostExceedsCapacity,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    Limiter,
    LimiterClosed,
    MeshConfig,
    RedisConfig,
    ReservationDenied,
)
from crdtbucket._core import BucketCore, ReservationBook, Table
from crdtbucket.config import Config
from crdtbucket.reconcile.buckets import BucketIndex
from crdtbucket.spec.globs import Choice
from crdtbucket.testing import SimulatedMesh
from tests.naive_limits import NaiveLimit
from tests.virtual_loop import VirtualTime

PLANS = [("gold-?", 20), ("gold-7", 99), ("solo", 5), ("s*", 15)]
CAPACITIES = dict(PLANS)
SPEC = BucketSpec(
    "api", 10, 1, overrides=[(glob, BucketSpec("x", capacity, 1)) for glob, capacity in PLANS]
)
KEYS = ["gold-1", "gold-7", "solo", "silver", "other", "Gold-1"]


def override(bucket: Any, overrides: list[tuple[str, Any]]) -> None:
    """Has the first glob that matches a key say which bucket decides on it."""
    bucket.choose_by(Choice(overrides, bucket).of, [one for _, one in overrides])


def glob_of(key: str) -> str:
    """The override of a key by the plain reading of the rule, "" for none."""
    return next((glob for glob, _ in PLANS if fnmatchcase(key, glob)), "")


def limiter_in(time: VirtualTime, *specs: BucketSpec, **more: Any) -> Limiter:
    return Limiter(specs or [SPEC], _table=time.table, **more)


@pytest.fixture
def limiter(time: VirtualTime) -> Limiter:
    return limiter_in(time)


@pytest.fixture
def bucket(limiter: Limiter) -> Bucket:
    return limiter.bucket("api")


# ---- against a naive model ----

STEPS = st.tuples(
    st.sampled_from(
        ["take", "burst", "many", "refund", "settle", "reserve", "acquire", "sync", "pass", "peek"]
    ),
    st.sampled_from(KEYS),
    st.booleans(),
    st.integers(1, 12),
)


@given(st.lists(STEPS, max_size=25))
def test_a_key_has_the_limit_of_the_first_glob_that_matches(steps: list[Any]) -> None:
    time = VirtualTime()
    bucket = limiter_in(time).bucket("api")
    model = {glob: NaiveLimit(CAPACITIES.get(glob, 10)) for glob in [*CAPACITIES, ""]}
    for what, name, as_bytes, n in steps:
        limit, key = model[glob_of(name)], name.encode() if as_bytes else name
        if what == "pass":
            time.advance(n)
            for one in model.values():
                one.pass_time(n)
        elif what == "settle":
            bucket.settle(key, n)
            limit.settle(name, n)
        elif n > limit.capacity:
            with pytest.raises(CostExceedsCapacity):
                bucket.take(key, n)
        elif what == "burst":
            assert bucket.take_burst(key, 2, n) == limit.take(name, n) + limit.take(name, n)
        elif what == "many":
            names, costs = [name, "gold-2", name, "free"], [n, 1, n, 1]
            wanted = [
                model[glob_of(one)].take(one, cost) for one, cost in zip(names, costs, strict=True)
            ]
            assert list(bucket.take_many(names, costs).allowed) == wanted
        elif what == "reserve":
            if limit.wait(name, n):
                with pytest.raises(ReservationDenied), bucket.reserve(key, n):
                    raise AssertionError("not entered")
            else:
                with bucket.reserve(key, n) as reservation:
                    reservation.commit(n + 3)
                limit.settle(name, n + 3)
        else:
            ask = {
                "peek": bucket.peek,
                "sync": bucket.acquire_sync,
                "acquire": lambda *one: time.run(bucket.acquire(*one)),
            }
            decision = ask.get(what, bucket.take)(key, n)
            assert decision.allowed is (limit.wait(name, n) == 0)
            assert decision.retry_after == limit.wait(name, n)
            assert decision.limit == limit.capacity
            if what != "peek":
                limit.take(name, n)
            if what == "refund" and decision:
                assert bucket.refund(decision) == n
                limit.settle(name, -n)
        assert bucket.peek(key).remaining == max(0, limit.left(name))


# ---- what stays as it was ----


@pytest.mark.parametrize(
    "call",
    [
        lambda bucket: bucket.take("gold"),
        lambda bucket: bucket.peek("gold"),
        lambda bucket: bucket.settle("gold", 1),
        lambda bucket: bucket.reset("gold"),
        lambda bucket: bucket.reserve("gold", 1),
        lambda bucket: bucket.take_burst("gold", 1),
        lambda bucket: bucket.spec_of("gold"),
    ],
)
def test_the_override_of_a_key_is_chosen_once_a_call(call: Callable[[BucketCore], object]) -> None:
    table = Table(virtual=True)
    bucket = BucketCore(table, BucketSpec("api", 10, 1))
    other = BucketCore(table, BucketSpec("gold", 20, 1))
    other.reservations = ReservationBook(other)
    asked: list[object] = []

    def choose(key: object) -> BucketCore:
        asked.append(key)
        return other

    bucket.redirect(choose, [other])
    call(bucket)
    assert asked == ["gold"]


def test_a_commit_of_the_core_charges_the_limit_that_the_key_has_then() -> None:
    table = Table(virtual=True)
    bucket = BucketCore(table, BucketSpec("api", 10, 1))
    other = BucketCore(table, BucketSpec("gold", 20, 1))
    other.reservations, other.named = ReservationBook(other), bucket
    bucket.redirect(lambda key: other, [other])
    with bucket.reserve("k", 2) as reservation:
        bucket.redirect(None, ())
        reservation.commit(5)
    assert (bucket.peek("k").remaining, other.peek("k").remaining) == (7, 18)


def test_a_bucket_without_overrides_pays_nothing() -> None:
    bucket = Limiter([BucketSpec("api", 10, 1)]).bucket("api")
    assert type(bucket) is Bucket
    for name in ("take", "peek", "settle", "refund", "reserve", "take_many", "take_burst"):
        assert getattr(type(bucket), name) is getattr(BucketCore, name)
    assert bucket.of("a") is bucket


def test_every_method_that_names_a_key_knows_overrides() -> None:
    of_this_bucket_alone = {"hash", "columns", "debt", "credit", "acquire_many"}
    # These know a key by its hash, or are called for the bucket that decides.
    inside = {"open_call", "close_call", "take_as", "own", "void", "advertised", "adopt"}
    inside |= {"shortage", "returned", "charged"}
    named = {
        name for name in dir(Bucket) if not name.startswith("_") and callable(getattr(Bucket, name))
    }
    other = {"define", "stage", "unstage", "on_candidate", "decided", "counters"}
    # What the core passes on to the bucket that decides; the model above tries each of them.
    core = {"take", "peek", "settle", "take_burst", "take_many", "take_here", "spec_of"}
    core |= {"of", "redirect", "reset", "reset_all", "reset_some", "reserve", "refund"}
    assert named - of_this_bucket_alone - inside - other - core <= set(vars(Bucket))


@pytest.mark.parametrize("key", [7, None, "", "x" * 513, ["a"], "a\ud800"])
def test_what_is_no_key_is_refused(bucket: Bucket, key: Any) -> None:
    for call in (bucket.take, bucket.peek, lambda key: bucket.take_many([key, "gold-1"])):
        with pytest.raises(InvalidKey):
            call(key)
    with pytest.raises(InvalidKey):
        bucket.take_many("gold-1")


def test_take_many_checks_all_before_it_takes(bucket: Bucket) -> None:
    with pytest.raises(CostExceedsCapacity, match=r"capacity of 20 of bucket 'api\[gold-\?\]'"):
        bucket.take("gold-1", 21)
    for costs, error in [([1, 21], CostExceedsCapacity), ([1, 0], InvalidCost), ([1], InvalidCost)]:
        with pytest.raises(error):
            bucket.take_many(["other", "gold-1"], costs)
    assert bucket.peek("other").remaining == 10
    answers = bucket.take_many(iter(["gold-1", "other", "gold-1", "solo"]), iter([15, 10, 10, 5]))
    assert list(answers.allowed) == [1, 1, 0, 1]
    assert list(answers.remaining) == [5, 0, 5, 0]
    assert list(answers.retry_after) == [0, 0, 5, 0]
    assert not bucket.take_many([]).allowed


# ---- the bucket of a key, and how it is shown ----


def test_an_override_is_a_bucket_with_a_name(limiter: Limiter, bucket: Bucket) -> None:
    assert list(limiter.buckets) == ["api", "api[gold-?]", "api[gold-7]", "api[solo]", "api[s*]"]
    assert bucket.of("gold-7") is limiter.bucket("api[gold-?]")
    assert bucket.of(b"solo") is limiter.bucket("api[solo]")
    assert bucket.of("other") is bucket
    decision = bucket.take("gold-7")
    assert decision.bucket is limiter.bucket("api[gold-?]")
    assert decision.bucket.spec.name == "api[gold-?]"


def test_stats_and_keys_tell_overrides_apart(limiter: Limiter, bucket: Bucket) -> None:
    for key in ["gold-1", "gold-2", "solo", "other"]:
        bucket.take(key)
    bucket.take("solo", 5)
    counts = {
        name: (one["allowed"], one["denied"]) for name, one in limiter.stats()["buckets"].items()
    }
    assert counts == {
        "api": (1, 0),
        "api[gold-?]": (2, 0),
        "api[gold-7]": (0, 0),
        "api[solo]": (1, 1),
        "api[s*]": (0, 0),
    }
    assert sorted(limiter.keys("api")) == ["gold-1", "gold-2", "other", "solo"]
    assert sorted(limiter.keys("api[gold-?]")) == ["gold-1", "gold-2"]


def test_a_refund_finds_its_override_and_no_other_bucket(time: VirtualTime) -> None:
    limiter = limiter_in(time, SPEC, BucketSpec("b", 10, 1))
    bucket, other = limiter.bucket("api"), limiter.bucket("b")
    assert bucket.refund(bucket.take("gold-1", 4), 3) == 3
    assert bucket.refund(bucket.take("other", 4), 3) == 3
    with pytest.raises(InvalidCost, match="of bucket 'b'"):
        bucket.refund(other.take("gold-1"))
    with pytest.raises(InvalidCost, match=r"api\[gold-\?\]"):
        other.refund(bucket.take("gold-1"))


def test_overrides_that_change_leave_what_is_out_refundable(limiter: Limiter) -> None:
    bucket = limiter.bucket("api")
    assert isinstance(bucket, Bucket)
    decision = bucket.take("gold-1", 9)
    override(bucket, [("other", limiter.bucket("api[solo]"))])
    assert bucket.take("gold-1").limit == 10
    assert bucket.take("other").limit == 5
    assert bucket.refund(decision) == 9
    assert limiter.bucket("api[gold-?]").peek("gold-1").remaining == 20


def test_who_waits_goes_by_the_override(time: VirtualTime, bucket: Bucket) -> None:
    bucket.take("solo", 5)
    bucket.take("other", 10)

    async def main() -> list[tuple[float, int]]:
        async def one(key: str) -> tuple[float, int]:
            decision = await bucket.wait(key, 2)
            return time.elapsed, decision.limit

        waiting = [asyncio.create_task(one(key)) for key in ("solo", "other", "solo")]
        await asyncio.sleep(0)
        assert len(bucket.waiters) == 3
        return await asyncio.gather(*waiting)

    assert time.run(main()) == [(2, 5), (2, 10), (4, 5)]


def test_reservations_are_of_the_override(bucket: Bucket) -> None:
    with bucket.reserve("gold-1", 12) as reservation:
        assert bucket.of("gold-1").reservations.held == 1
        assert bucket.reservations.held == 0
        reservation.commit(2)
    assert bucket.peek("gold-1").remaining == 18


def test_a_reset_is_of_the_override(bucket: Bucket) -> None:
    for key in KEYS:
        cost = bucket.peek(key).limit
        assert bucket.take(key, cost)
        assert bucket.reset(key) == cost
        assert bucket.peek(key).remaining == cost


def test_a_closed_limiter_decides_under_no_override(limiter: Limiter, bucket: Bucket) -> None:
    limiter.close()
    for key in ("gold-1", "other"):
        with pytest.raises(LimiterClosed):
            bucket.take(key)


def test_a_shadow_is_one_for_all_its_overrides() -> None:
    override = BucketSpec("x", 5, 1)
    bucket = Limiter([BucketSpec("api", 10, 1, overrides=[("a", override)], shadow=True)]).bucket(
        "api"
    )
    assert [bucket.take(key, 5).shadowed for key in ["a", "a", "b", "b", "b"]] == [
        False,
        True,
        False,
        False,
        True,
    ]


# ---- keys that change their override ----


def moved(time: VirtualTime, limiter: Limiter, glob: str) -> None:
    """The override with this glob is put first."""
    overrides = [(one, BucketSpec("x", size, 1, "1m")) for one, size in (("a*", 10), ("*1", 20))]
    overrides.sort(key=lambda override: override[0] != glob)
    limiter.reload(Config("f.yaml", (BucketSpec("api", 5, 1, "1m", overrides=overrides),)))


def test_a_key_that_changes_its_override_leaves_its_debt_there_and_finds_it_again(
    time: VirtualTime,
) -> None:
    limiter = limiter_in(time)
    moved(time, limiter, "a*")
    bucket = limiter.bucket("api")
    assert bucket.take("a1", 10).limit == 10
    moved(time, limiter, "*1")
    assert bucket.peek("a1").remaining == 20  # afresh
    assert bucket.take("a1", 15).limit == 20
    time.advance(120)  # both refill, each at its own rate
    moved(time, limiter, "a*")
    assert bucket.peek("a1").remaining == 2
    moved(time, limiter, "*1")
    assert bucket.peek("a1").remaining == 7


def test_moving_a_key_back_and_forth_gives_out_the_sum_of_its_overrides_and_no_more(
    time: VirtualTime,
) -> None:
    limiter = limiter_in(time)
    taken = 0
    for turn in range(20):
        moved(time, limiter, ("a*", "*1")[turn % 2])
        taken += limiter.bucket("api").take_burst("a1", 100)
        time.advance(3)  # a token in 60 s
    assert taken == 10 + 20


def test_in_a_mesh_a_moved_key_is_charged_once_under_each_override() -> None:
    first = [("a*", BucketSpec("x", 10, 1, "1h")), ("*1", BucketSpec("x", 20, 1, "1h"))]
    mesh = SimulatedMesh("ABC", [BucketSpec("api", 5, 1, "1h", overrides=first)], latency=0.01)
    assert mesh["A"].take("api", "a1", 8)
    mesh.advance(1.0)
    for name in "ABC":
        bucket = mesh[name].bucket("api")
        assert isinstance(bucket, Bucket)
        override(bucket, [(glob, mesh[name].bucket(f"api[{glob}]")) for glob in ("*1", "a*")])
    assert mesh["B"].take("api", "a1", 12)
    mesh.advance(1.0)
    assert [mesh[name].peek("api", "a1").remaining for name in "ABC"] == [8] * 3
    assert [mesh[name].peek("api[a*]", "a1").remaining for name in "ABC"] == [2] * 3


# ---- building ----


def test_names_of_overrides_are_names_of_buckets() -> None:
    with pytest.raises(InvalidSpec, match="two buckets are called 'api\\[solo\\]'"):
        Limiter([SPEC, BucketSpec("api[solo]", 1, 1)])


def test_buckets_and_overrides_are_so_many_that_a_frame_holds_them() -> None:
    overrides = [(f"k{n}", BucketSpec("x", 5, 1)) for n in range(500)]
    Limiter([BucketSpec("a", 1, 1, overrides=overrides)])
    with pytest.raises(InvalidSpec, match="at most 1000 buckets and overrides"):
        Limiter([BucketSpec(name, 1, 1, overrides=overrides) for name in "ab"])


@pytest.mark.parametrize(("own", "general"), [("strong", "eventual"), (None, "strong")])
def test_the_overrides_of_a_strong_bucket_are_strong(own: Any, general: str) -> None:
    spec = BucketSpec("api", 10, 1, consistency=own, overrides=[("gold-?", BucketSpec("x", 20, 1))])
    redis = RedisConfig(url="redis://127.0.0.1:1")
    bucket = Limiter([spec], node="n", redis=redis, consistency=general).bucket("api")
    for key in ("gold-1", "other"):
        with pytest.raises(AcquireRequired):
            bucket.take(key)
        assert not bucket.of(key).immediate
        assert bucket.peek(key).limit == (20 if key == "gold-1" else 10)
    with pytest.raises(AcquireRequired):
        bucket.take_many(["gold-1", "other"])


def test_the_overrides_of_an_eventual_bucket_are_eventual() -> None:
    spec = BucketSpec("api", 10, 1, consistency="eventual", overrides=SPEC.overrides)
    strong = BucketSpec("s", 10, 1)
    redis = RedisConfig(url="redis://127.0.0.1:1")
    limiter = Limiter([spec, strong], node="n", redis=redis, consistency="strong")
    assert limiter.bucket("api").take("gold-1").limit == 20
    assert not limiter.bucket("s").immediate


def test_a_table_of_one_s_own_takes_overrides_too() -> None:
    table = Table(virtual=True)
    bucket = Bucket(table, BucketSpec("api", 10, 1))
    assert bucket.take("gold-1").limit == 10
    override(bucket, [("gold-?", Bucket(table, BucketSpec("api[gold-?]", 20, 1)))])
    assert bucket.take("gold-1").limit == 20


def test_a_simulated_mesh_shares_the_limit_of_an_override() -> None:
    mesh = SimulatedMesh(["eu", "us"], [SPEC])
    assert mesh["eu"].take("api", "gold-1", 12)
    mesh.advance(1)
    us = mesh["us"]
    assert us.peek("api", "gold-1").limit == 20
    assert us.peek("api", "gold-1").remaining in (8, 9)  # one came back, less the way there
    assert us.columns("api", "gold-1") == {"eu": (12, 0)}
    assert us.peek("api", "other").limit == 10


def test_reconciliation_knows_overrides() -> None:
    spec = BucketSpec("api", 10, 1, consistency="strong", overrides=[("a", BucketSpec("x", 5, 1))])
    config = Config("file", redis=RedisConfig(url="redis://127.0.0.1:1"), buckets=(spec,))
    buckets = BucketIndex(config, MeshConfig(secret="a secret of this test"))
    assert {name: one.position for name, one in buckets.by_key.items()} == {"api": 0, "api[a]": 1}
    assert all(one.arguments is not None for one in buckets.by_hash.values())
    assert len(buckets.definitions) == 2
