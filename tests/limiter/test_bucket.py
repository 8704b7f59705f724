"""The bucket that users hold: compiled decisions, and the mode of each."""

from __future__ import annotations

import asyncio

import pytest

from crdtbucket._core import BucketCore
from crdtbucket.errors import CostExceedsCapacity, InvalidCost, InvalidKey
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.spec.mode import Mode
from tests.virtual_loop import VirtualTime, virtually


@pytest.mark.parametrize("name", ["take", "peek", "settle", "take_many", "counters"])
def test_the_hot_methods_are_the_compiled_ones(name: str) -> None:
    assert getattr(Bucket, name) is getattr(BucketCore, name)


def test_a_bucket_has_no_room_for_strays(time: VirtualTime) -> None:
    with pytest.raises(AttributeError):
        time.bucket().tacke = 1  # type: ignore[attr-defined]


def test_a_decision_has_the_bucket_that_users_know(time: VirtualTime) -> None:
    bucket = time.bucket(10, 10)
    known: Bucket = bucket.take("a").bucket  # for type checkers as well
    assert known is bucket


def test_take_peek_and_refund_tell_the_same_story(time: VirtualTime) -> None:
    bucket = time.bucket(10, 10)
    decision = bucket.take("a", cost=3)
    assert decision
    assert (decision.allowed, decision.limit, decision.remaining) == (True, 10, 7)
    assert (decision.retry_after, decision.reset_after) == (0, pytest.approx(0.3))
    assert decision.mode is Mode.EVENTUAL
    assert decision.mode == "eventual"
    denied = bucket.take("a", 8)
    assert not denied
    assert denied.retry_after == pytest.approx(0.1)
    assert bucket.refund(decision, 2) == 2
    assert bucket.peek("a").remaining == 9
    assert bucket.refund(decision) == 1
    assert bucket.refund(decision) == 0
    with pytest.raises(InvalidCost):
        bucket.refund(decision, 1)
    with pytest.raises(InvalidCost):
        bucket.refund(denied)


def test_take_many_answers_in_arrays(time: VirtualTime) -> None:
    bucket = time.bucket(10, 10)
    answers = bucket.take_many(["a", "b", "a"], [6, 1, 6])
    assert list(answers.allowed) == [1, 1, 0]
    assert list(answers.remaining) == [4, 9, 4]
    assert list(answers.retry_after) == [0, 0, pytest.approx(0.2)]


@virtually
async def test_acquire_is_a_take_without_a_task_switch(time: VirtualTime) -> None:
    bucket = time.bucket(10, 10)
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    assert (await bucket.acquire("a", 4)).remaining == 6
    assert (await bucket.acquire("a")).remaining == 5
    assert not await bucket.acquire("a", 6)  # it does not wait for tokens
    for key, cost, error in (
        ("a", 11, CostExceedsCapacity),
        ("a", 0, InvalidCost),
        ("", 1, InvalidKey),
    ):
        with pytest.raises(error):
            await bucket.acquire(key, cost)
    assert others == []


def test_repr_names_what_matters(time: VirtualTime) -> None:
    assert repr(time.bucket(10, 10)) == "Bucket('api', capacity=10, mode='eventual')"
