"""`take_many` gives the same decisions as its takes one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore
from crdtbucket.errors import CostExceedsCapacity, InvalidCost, InvalidKey
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import Peer, send
from tests.core.specs import SECOND, bucket_of, virtual_table

SPEC = BucketSpec("b", 20, 7)

calls = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=120)


@given(
    rounds=st.lists(st.tuples(st.integers(0, 2 * SECOND), calls), max_size=4),
    max_keys=st.sampled_from([16, 64]),
    single=st.none() | st.integers(1, 20),
)
def test_it_equals_its_takes_one_by_one(
    rounds: list[tuple[int, list[tuple[int, int]]]], max_keys: int, single: int | None
) -> None:
    one, many = bucket_of(SPEC, max_keys), bucket_of(SPEC, max_keys)
    now = 0
    for gap, items in rounds:
        now += gap
        one.table.set_time(now)
        many.table.set_time(now)
        keys = [f"key {i}" for i, _ in items]
        costs = [single or cost for _, cost in items]
        expected = [one.take(key, cost) for key, cost in zip(keys, costs, strict=True)]
        got = many.take_many(keys, single or costs)
        assert list(got.allowed) == [int(d.allowed) for d in expected]
        assert list(got.remaining) == [d.remaining for d in expected]
        assert list(got.retry_after) == [d.retry_after for d in expected]
    assert one.counters() == many.counters()
    assert sorted(one.table.names.values()) == sorted(many.table.names.values())
    for i in range(41):
        assert one.debt(f"key {i}") == many.debt(f"key {i}")


def test_many_new_keys() -> None:
    bucket = bucket_of(SPEC, 5_000)
    keys = [str(i) for i in range(3_000)]
    assert sum(bucket.take_many(keys * 2, 10).allowed) == 6_000
    assert len(bucket.table) == 3_000
    assert set(bucket.table.names.values()) == {("b", key) for key in keys}


def test_no_keys_get_no_decisions() -> None:
    got = bucket_of(SPEC).take_many([])
    assert [list(column) for column in got] == [[], [], []]


def test_any_iterable_of_keys_and_costs() -> None:
    bucket = bucket_of(SPEC)
    keys: list[str | bytes] = ["a", b"a"]
    got = bucket.take_many(iter(keys), (c for c in (5, 6)))
    assert list(got.remaining) == [15, 9]


@pytest.mark.parametrize(
    ("keys", "costs", "error"),
    [
        (["a", ""], 1, InvalidKey),
        (["a", 5], 1, InvalidKey),
        (["a", "b"], [1], InvalidCost),
        (["a", "b"], [1, 0], InvalidCost),
        (["a", "b"], [1, 21], CostExceedsCapacity),
        (["a", "b"], 1.5, InvalidCost),
        (["a", "b"], True, InvalidCost),
        (["a", "b"], None, InvalidCost),
        (["a", "x" * 513], 1, InvalidKey),
        ("ab", 1, InvalidKey),
        (b"ab", 1, InvalidKey),
    ],
)
def test_all_arguments_are_checked_before_anything_is_taken(
    keys: Any, costs: Any, error: type[Exception]
) -> None:
    bucket = bucket_of(SPEC)
    with pytest.raises(error):
        bucket.take_many(keys, costs)
    assert len(bucket.table) == 0
    assert bucket.counters()["allowed"] == 0


def test_a_key_learned_from_a_peer_gets_its_name() -> None:
    a, b = Peer(0, SPEC), Peer(1, SPEC)
    a.bucket.take("k", 5)
    send(a, b)
    assert b.table.names == {}
    b.bucket.take_many(["k"])
    assert list(b.table.names.values()) == [("b", "k")]


def test_an_evicted_key_gives_its_name_to_nobody() -> None:
    """The entry of the first key is given to a later one of the same call."""
    a = Peer(0, SPEC)
    b = Peer(1, SPEC, max_keys=16)
    a.bucket.take("low", 1)
    send(a, b)
    for i in range(15):
        b.bucket.take(f"deep {i}", 15)
    b.bucket.take_many(["low", "new"], [1, 20])
    assert b.bucket.debt("low") is None
    assert ("b", "low") not in b.table.names.values()
    assert len(b.table.names) == 16


def test_after_a_new_definition_and_epoch() -> None:
    bucket = BucketCore(virtual_table(), SPEC)
    bucket.take_many(["a", "b"], 10)
    bucket.table.epochs.open(77)
    bucket.define(BucketSpec("b", 30, 7))
    got = bucket.take_many(["a", "b", "a"], 10)
    assert list(got.remaining) == [10, 10, 0]
    assert bucket.columns("a")[0, 77][1] == 20


def test_a_limit_that_another_process_lowers_meanwhile_admits_no_more_than_it_has() -> None:
    """... also where the time in which the cost refills is more ns than fit."""
    one = bucket_of(BucketSpec("b", 10_000, 10_000))
    other = BucketCore(one.table, one.spec)
    one.take("k")

    class Lowers:
        def __index__(self) -> int:
            other.define(BucketSpec("b", 10, 1, "30d", on_table_full="allow"))
            other.take("k")
            return 1

    answers = one.take_many(["k", "l"], [4_000, Lowers()])
    assert list(answers.allowed) == [0, 1]
    assert one.peek("k").remaining == 8
    assert [taken for _, taken, _ in one.columns("k").values()] == [2]
