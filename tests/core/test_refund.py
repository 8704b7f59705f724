"""Refunds: what comes back, when nothing does, and that no refund creates tokens."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore
from crdtbucket.errors import InvalidCost
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.oracle import Oracle
from tests.core.specs import ODD, SECOND, bucket_of, rate_of

SPEC = BucketSpec("b", 100, 100)


@pytest.fixture
def bucket() -> BucketCore:
    return bucket_of(SPEC)


def test_all_or_part_of_a_take_comes_back(bucket: BucketCore) -> None:
    decision = bucket.take("k", 60)
    assert bucket.refund(decision, 20) == 20
    assert bucket.peek("k").remaining == 60
    assert bucket.refund(decision) == 40
    assert bucket.peek("k").remaining == 100
    assert bucket.columns("k").popitem()[1] == (1, 60, 60)


def test_twice_comes_back_once(bucket: BucketCore) -> None:
    bucket.take("k", 40)
    decision = bucket.take("k", 40)
    assert bucket.refund(decision) == 40
    assert bucket.refund(decision) == 0
    assert bucket.peek("k").remaining == 60


def test_more_than_was_taken_is_an_error(bucket: BucketCore) -> None:
    decision = bucket.take("k", 10)
    bucket.refund(decision, 4)
    for tokens in (7, 11, 2**53):
        with pytest.raises(InvalidCost):
            bucket.refund(decision, tokens)
    assert bucket.peek("k").remaining == 94


def test_a_denied_decision_and_one_of_another_bucket_are_errors(bucket: BucketCore) -> None:
    other = BucketCore(bucket.table, BucketSpec("c", 100, 100))
    with pytest.raises(InvalidCost):
        other.refund(bucket.take("k", 100))
    with pytest.raises(InvalidCost):
        bucket.refund(bucket.take("k", 1))


def test_after_it_was_full_nothing_comes_back(bucket: BucketCore) -> None:
    decision = bucket.take("k", 60)
    bucket.table.set_time(SECOND)
    assert bucket.refund(decision) == 0
    bucket.take("k", 10)
    assert bucket.refund(decision) == 0
    assert bucket.peek("k").remaining == 90


def test_before_it_was_full_only_what_the_refill_has_not_given(bucket: BucketCore) -> None:
    """Taken 60, 50 came back by time: with the refund it is full, not above."""
    decision = bucket.take("k", 60)
    bucket.table.set_time(SECOND // 2)
    assert bucket.refund(decision) == 60
    assert bucket.take("k", 100)
    assert not bucket.take("k", 1)


def test_after_eviction_nothing_comes_back(bucket: BucketCore) -> None:
    decision = bucket.take("k", 60)
    bucket.table.outbox.collect()
    bucket.table.outbox.trim(bucket.table.outbox.version)
    bucket.table.set_time(60 * SECOND)
    assert bucket.table.sweep() == 1
    assert bucket.refund(decision) == 0
    again = bucket.take("k", 60)
    assert bucket.refund(decision) == 0
    assert bucket.peek("k").remaining == 40
    assert bucket.refund(again) == 60


@pytest.mark.parametrize("touched", [False, True])
def test_after_a_new_epoch_nothing_comes_back(bucket: BucketCore, touched: bool) -> None:
    decision = bucket.take("k", 60)
    old = bucket.table.epochs.running
    bucket.table.epochs.open(77)
    if touched:
        bucket.take("k", 1)
    assert bucket.refund(decision) == 0
    assert bucket.columns("k")[0, old] == (1, 60, 0)


def test_after_a_new_definition_nothing_comes_back(bucket: BucketCore) -> None:
    decision = bucket.take("k", 60)
    bucket.define(BucketSpec("b", 100, 50))
    assert bucket.refund(decision) == 0
    assert bucket.peek("k").remaining == 40


def test_at_the_floor_what_was_charged_comes_back(bucket: BucketCore) -> None:
    decision = bucket.take("k", 60)
    assert bucket.settle("k", 2**62) == 140
    assert bucket.refund(decision) == 60
    assert bucket.debt("k") == SECOND * 140 // 100


def test_a_refund_makes_a_key_dirty(bucket: BucketCore) -> None:
    decision = bucket.take("k", 60)
    bucket.table.outbox.collect()
    assert bucket.table.outbox.collect() == 0
    bucket.refund(decision)
    assert bucket.table.outbox.collect() == 1


histories = st.lists(
    st.tuples(
        st.one_of(st.just(0), st.integers(0, 10**8), st.integers(0, 3 * SECOND)),
        st.sampled_from(["take", "settle", "refund", "refund"]),
        st.integers(1, 2**40),
        st.integers(0, 5),
    ),
    max_size=40,
)


@pytest.mark.parametrize("spec", ODD.values(), ids=ODD.keys())
@given(history=histories)
def test_refund_never_creates(spec: BucketSpec, history: list[tuple[int, str, int, int]]) -> None:
    """C + refill = tokens + admitted - refunded + wasted; what is forgiven is never admitted."""
    bucket = bucket_of(spec)
    oracle = Oracle(rate_of(spec), Fraction(0))
    emission = oracle.rate.emission
    kept: list[tuple[Any, int]] = []
    now = 0
    for gap, what, amount, which in history:
        now += gap
        bucket.table.set_time(now)
        if what == "take":
            decision = bucket.take("k", 1 + amount % spec.capacity)
            oracle.advance(now)
            if decision:
                oracle.charge(decision.cost, now)
                kept.append((decision, oracle.fills))
        elif what == "settle":
            oracle.charge(bucket.settle("k", amount), now)
        elif kept:
            decision, fills = kept[which % len(kept)]
            back = bucket.refund(decision)
            if back:
                assert oracle.refund(back, fills, now) == back == decision.cost
    if bucket.debt("k") is None:
        return
    oracle.advance(now)
    counters = bucket.counters()
    _, taken, refunded = next(iter(bucket.columns("k").values()), (0, 0, 0))
    assert taken == counters["granted"] == oracle.taken
    assert refunded == counters["refunded"] == oracle.refunded
    tokens = spec.capacity - Fraction(bucket.peek("k").debt) / emission
    made = spec.capacity + now / emission
    spent = tokens + taken - refunded + oracle.wasted / emission
    assert abs(made - spent) * emission <= 2  # ns
    assert math.ceil(oracle.debt(now)) <= bucket.peek("k").debt
