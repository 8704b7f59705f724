"""A take with a floor is admitted while the level stays above the floor; the floor itself costs
nothing."""

from __future__ import annotations

import pickle
import random
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import BucketSpec, CostExceedsCapacity, InvalidCost, Limiter
from crdtbucket._core import BucketCore
from crdtbucket.spec import priority
from crdtbucket.spec.priority import PRIORITIES, floor_tokens
from tests.core.specs import virtual_table

SECOND = 10**9
KEY = "k"


def bucket_of(capacity: int = 10, rate: int = 1) -> BucketCore:
    return BucketCore(virtual_table(), BucketSpec("api", capacity, rate))


@pytest.mark.parametrize(("floor", "admitted"), [(0, 10), (0.2, 8), ("batch", 5), (0.25, 7)])
def test_it_takes_while_the_level_stays_above_the_floor(floor: Any, admitted: int) -> None:
    bucket = bucket_of()
    assert [bucket.take(KEY, 1, floor).allowed for _ in range(11)].count(True) == admitted
    assert bucket.peek(KEY).remaining == 10 - admitted
    assert bucket.counters()["denied"] == 11 - admitted
    assert bucket.take(KEY, 10 - admitted or 1).allowed is (admitted < 10)  # it is for the others


def test_a_denial_says_when_the_same_call_could_pass() -> None:
    bucket = bucket_of()
    assert bucket.take(KEY, 8, 0.2)
    denied = bucket.take(KEY, 3, floor=0.2)
    assert denied.retry_after == 3.0
    bucket.table.set_time(bucket.table.now() + 3 * SECOND - 1)
    assert not bucket.peek(KEY, 3, 0.2)
    bucket.table.set_time(bucket.table.now() + 1)
    assert bucket.peek(KEY, 3, 0.2)
    assert bucket.take(KEY, 3, 0.2).remaining == 2


@given(
    st.integers(1, 1_000),
    st.lists(
        st.tuples(
            st.integers(1, 400), st.fractions(0, Fraction(9, 10), max_denominator=20),
            st.integers(0, 3 * SECOND),
        ),
        max_size=30,
    ),
)  # fmt: skip
def test_every_history_is_that_of_a_level_in_fractions(
    capacity: int, history: list[tuple[int, Fraction, int]]
) -> None:
    bucket, level = bucket_of(capacity, 7), Fraction(capacity)
    for cost, floor, ns in history:
        bucket.table.set_time(bucket.table.now() + ns)
        level = min(Fraction(capacity), level + Fraction(7 * ns, SECOND))
        left = ceil(floor * capacity)
        if cost > capacity:
            continue
        if cost + left > capacity:
            with pytest.raises(CostExceedsCapacity, match="even in a full bucket"):
                bucket.take(KEY, cost, float(floor) or 0)
            continue
        allowed = level >= cost + left
        assert bucket.take(KEY, cost, float(floor) or 0).allowed == allowed
        level -= cost * allowed


@pytest.mark.parametrize("floor", [-0.1, 1, 1.5, "urgent", None, True, float("nan"), [0.2]])
def test_what_is_no_floor_is_refused(floor: Any) -> None:
    bucket = bucket_of()
    with pytest.raises(InvalidCost, match=r"floor must be a share .* critical, normal, batch"):
        bucket.take(KEY, 1, floor)
    assert bucket.peek(KEY).remaining == 10


async def test_all_that_take_know_it() -> None:
    limiter = Limiter([BucketSpec("api", 10, 1, "1h"), BucketSpec("other", 4, 1, "1h")])
    api = limiter.bucket("api")
    assert await api.acquire(KEY, 4, "batch")
    assert not api.acquire_sync(KEY, 2, "batch")
    together = [("api", KEY, 2, "normal"), ("other", KEY, 1, 0.5)]
    assert limiter.take_all(together)
    denied = limiter.take_all([("api", KEY, 1), ("other", KEY, 2, 0.5)])
    assert [one.allowed for one in denied.decisions] == [True, False]
    assert await limiter.acquire_all([("other", KEY, 1, 0.5)])
    assert (api.peek(KEY).remaining, limiter.bucket("other").peek(KEY).remaining) == (4, 2)


def test_a_floor_of_a_large_bucket_is_checked_to_the_token() -> None:
    capacity = 2**40
    limiter = Limiter([BucketSpec("api", capacity, capacity, "1d")])
    floor = ceil(capacity / 2 * (1 - 1e-9))
    for take in (
        limiter.bucket("api").take,
        lambda key, cost, share: limiter.take_all([("api", key, cost, share)]),
    ):
        with pytest.raises(CostExceedsCapacity, match="even in a full bucket"):
            take(KEY, capacity - floor + 1, 0.5)
        assert take(KEY, 1, 0.5)


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_the_tokens_of_a_floor_are_counted_as_the_core_counts_them(
    capacity: int, share: float
) -> None:
    bucket, kept = bucket_of(capacity, capacity), floor_tokens(share, capacity)
    if kept < capacity:
        assert bucket.peek(KEY, capacity - kept, share)
    if kept:
        with pytest.raises(CostExceedsCapacity, match="even in a full bucket"):
            bucket.peek(KEY, capacity - kept + 1, share)


def test_a_cost_that_no_full_bucket_has_beside_its_floor_says_what_can_pass() -> None:
    limiter = Limiter([BucketSpec("api", 10, 1, "1h")])
    for take in (
        limiter.bucket("api").take,
        lambda key, cost, floor: limiter.take_all([("api", key, cost, floor)]),
    ):
        with pytest.raises(CostExceedsCapacity) as caught:
            take(KEY, 9, "normal")
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.cost, error.capacity, error.floor) == (9, 8, 2)
        assert str(error) == (
            "cost 9 leaves less than the floor of 2 tokens even in a full bucket 'api' "
            "of 10: split the call, or lower the floor"
        )


def test_the_priorities_are_the_documented_ones() -> None:
    assert PRIORITIES == {"critical": 0.0, "normal": 0.2, "batch": 0.5, "smooth": 0.2}


@pytest.mark.parametrize("floor", [0, "smooth"])
def test_smooth_calls_spread_denials_over_callers(
    floor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each second four callers ask in the same order, together for four times the refill."""
    monkeypatch.setattr(priority, "random", random.Random(7))
    bucket, got = bucket_of(100, 10), [0] * 4
    for second in range(200):
        for caller in range(4):
            got[caller] += sum(bool(bucket.take(KEY, 1, floor)) for _ in range(10))
        assert sum(got) <= 100 + 10 * second
        bucket.table.set_time(bucket.table.now() + SECOND)
    assert sum(got) >= 10 * 200
    if floor:
        assert min(got) >= sum(got) / 15
    else:
        assert got[3] < 100  # of the full bucket at the start


def test_a_smooth_call_of_the_whole_bucket_passes_when_it_is_full() -> None:
    limiter = Limiter([BucketSpec("api", 10, 1)])
    api = limiter.bucket("api")
    for _ in range(20):
        assert api.refund(api.take("k", 10, "smooth")) == 10
        both = limiter.take_all([("api", "k", 6, "smooth"), ("api", "k", 4, "smooth")])
        assert limiter.refund_all(both) == 10


async def test_a_strong_bucket_has_none() -> None:
    spec = BucketSpec("api", 10, 1, consistency="strong")
    limiter = Limiter([spec, BucketSpec("other", 1, 1)], node="eu-1", redis="redis://127.0.0.1:1")
    with pytest.raises(InvalidCost, match="needs an eventual bucket"):
        await limiter.bucket("api").acquire(KEY, 1, 0.5)
    with pytest.raises(InvalidCost, match="needs an eventual bucket"):
        limiter.bucket("api").acquire_sync(KEY, 1, "batch")
    with pytest.raises(InvalidCost, match="beside a strong bucket"):
        await limiter.acquire_all([("other", KEY, 1, 0.5), ("api", KEY)])
