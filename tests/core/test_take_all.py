"""`take_all` takes from several buckets: everything or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import _core
from crdtbucket._core import BucketCore, Decision
from crdtbucket.errors import CostExceedsCapacity, CrdtbucketError, InvalidCost, InvalidKey
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.specs import SECOND, bucket_of, virtual_table

SPECS = (BucketSpec("a", 10, 1), BucketSpec("b", 6, 2), BucketSpec("s", 4, 1, shadow=True))

wanted = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["k", "m"]), st.integers(1, 4)),
    min_size=1,
    max_size=6,
)


def take_all(items: Any) -> tuple[Decision, ...]:
    return _core.take_all(items).decisions


def buckets() -> list[BucketCore]:
    table = virtual_table(epoch=1)
    return [BucketCore(table, spec) for spec in SPECS]


@given(rounds=st.lists(st.tuples(st.integers(0, 2 * SECOND), wanted), max_size=8))
def test_it_equals_takes_where_nothing_is_denied_and_nothing_elsewhere(
    rounds: list[tuple[int, list[tuple[int, str, int]]]],
) -> None:
    together, apart = buckets(), buckets()
    now = 0
    for gap, items in rounds:
        now += gap
        together[0].table.set_time(now)
        apart[0].table.set_time(now)
        costs: dict[tuple[int, str], int] = {}
        for number, key, cost in items:
            costs[number, key] = costs.get((number, key), 0) + cost
        if any(cost > SPECS[number].capacity for (number, _), cost in costs.items()):
            with pytest.raises(CostExceedsCapacity):
                take_all([(together[number], key, cost) for number, key, cost in items])
            continue
        decisions = take_all([(together[number], key, cost) for number, key, cost in items])
        fits = {place: apart[place[0]].peek(place[1], cost) for place, cost in costs.items()}
        if all(fits.values()):
            fits = {place: apart[place[0]].take(place[1], cost) for place, cost in costs.items()}
        for (number, key, _), decision in zip(items, decisions, strict=True):
            expected = fits[number, key]
            assert decision.as_dict() == expected.as_dict()
        for number, one in enumerate(apart):
            for key in ("k", "m"):
                assert together[number].peek(key).as_dict() == one.peek(key).as_dict()
                assert together[number].columns(key) == one.columns(key)


def test_a_key_that_is_named_twice_has_one_decision() -> None:
    a, b, _ = buckets()
    first, other, second = take_all([(a, "k", 3), (b, "k", 1), (a, b"k", 4)])
    assert first is second
    assert first.cost == 7
    assert first.remaining == 3
    assert other.remaining == 5
    with pytest.raises(CostExceedsCapacity, match="'a'"):
        take_all([(a, "x", 6), (a, "x", 5)])
    assert a.peek("x", 10).allowed


def test_what_is_denied_counts_once_and_the_others_say_what_they_would_get() -> None:
    a, b, s = buckets()
    b.take("k", 6)
    decisions = take_all([(a, "k", 1), (s, "k", 1), (b, "k", 2)])
    assert [decision.allowed for decision in decisions] == [True, True, False]
    assert [decision.remaining for decision in decisions] == [10, 4, 0]
    assert decisions[2].retry_after == 1.0
    assert a.columns("k") == {}
    assert [one.counters()["denied"] for one in (a, s, b)] == [0, 0, 1]
    assert [one.counters()["allowed"] for one in (a, s, b)] == [0, 0, 1]


def test_the_one_that_waits_longest_is_denied() -> None:
    a, b, _ = buckets()
    a.take("k", 10)
    b.take("k", 6)
    take_all([(b, "k", 1), (a, "k", 1)])
    assert [one.counters()["denied"] for one in (a, b)] == [1, 0]


def test_a_shadow_denies_nobody() -> None:
    a, _, s = buckets()
    s.take("k", 4)
    decisions = take_all([(s, "k", 2), (a, "k", 2)])
    assert all(decisions)
    assert decisions[0].shadowed
    assert a.peek("k").remaining == 8
    assert s.counters()["shadowed"] == 1
    a.take("k", 8)
    assert [bool(one) for one in take_all([(s, "k", 2), (a, "k", 2)])] == [True, False]
    assert s.counters()["shadowed"] == 1


def test_what_was_taken_comes_back_when_a_later_key_finds_no_room() -> None:
    """A look cannot tell that, so it shows only after the first take."""
    table = virtual_table()
    a = BucketCore(table, BucketSpec("a", 10, 1))
    tight = BucketCore(table, BucketSpec("tight", 10, 1, max_keys=1))
    tight.take("k", 5)
    decisions = take_all([(a, "k", 4), (tight, "other", 1)])
    assert [decision.allowed for decision in decisions] == [True, False]
    assert [decision.remaining for decision in decisions] == [10, 10]
    assert a.debt("k") == 0
    assert a.counters()["refunded"] == 4
    assert list(a.columns("k").values()) == [(2, 4, 4)]


def test_a_hundred_buckets_are_taken_from_at_once() -> None:
    table = virtual_table(1000)
    all_of_them = [BucketCore(table, BucketSpec(f"b{i}", 10, 1)) for i in range(100)]
    decisions = take_all((one, "k", 1 + i % 3) for i, one in enumerate(all_of_them * 2))
    assert all(decisions)
    assert decisions[:100] == decisions[100:]
    assert [decision.cost for decision in decisions[:100]] == [
        2 + i % 3 + (i + 100) % 3 for i in range(100)
    ]
    assert sum(one.counters()["allowed"] for one in all_of_them) == 100


def test_decisions_are_ones_of_their_buckets() -> None:
    a, b, _ = buckets()
    decisions = take_all([(a, "k", 2), (b, "m", 3)])
    assert [decision.bucket for decision in decisions] == [a, b]
    assert [decision.key for decision in decisions] == ["k", "m"]
    assert [one.refund(decision) for one, decision in zip((a, b), decisions, strict=True)] == [2, 3]
    assert take_all([]) == ()


BAD: dict[str, tuple[Any, type[Exception]]] = {
    "no bucket": (lambda a, b: [(a, "k", 1), ("b", "k", 1)], TypeError),
    "no bucket at all": (lambda a, b: [(None, "k", 1)], TypeError),
    "one value": (lambda a, b: [(a, "k", 1), (b,)], InvalidKey),
    "a number": (lambda a, b: [(a, "k", 1), 7], InvalidKey),
    "no list": (lambda a, b: 7, TypeError),
    "another limiter's": (lambda a, b: [(a, "k", 1), (bucket_of(SPECS[0]), "k", 1)], TypeError),
    "empty key": (lambda a, b: [(a, "k", 1), (b, "", 1)], InvalidKey),
    "key of a number": (lambda a, b: [(a, "k", 1), (b, 7, 1)], InvalidKey),
    "no cost": (lambda a, b: [(a, "k", 1), (b, "k", 0)], InvalidCost),
    "cost of a word": (lambda a, b: [(a, "k", 1), (b, "k", "1")], InvalidCost),
    "too large a cost": (lambda a, b: [(a, "k", 1), (b, "k", 7)], CostExceedsCapacity),
    "more than there are": (lambda a, b: [(a, "k", 1), (b, "k", 2**63)], InvalidCost),
}


@pytest.mark.parametrize("kind", BAD)
def test_everything_is_checked_before_anything_is_taken(kind: str) -> None:
    a, b, _ = buckets()
    items, error = BAD[kind]
    with pytest.raises(error):
        take_all(items(a, b))
    assert len(a.table) == 0
    assert a.counters()["allowed"] == 0


def test_a_refusal_is_raised() -> None:
    a, b, _ = buckets()
    a.table.refuse(CrdtbucketError("not open"))
    with pytest.raises(CrdtbucketError, match="not open"):
        take_all([(a, "k", 1), (b, "k", 1)])


def test_what_was_taken_comes_back_when_a_callback_raises() -> None:
    """The call for an early flush is the one thing of others that runs between the takes."""
    table = virtual_table()
    table.nodes.configure(members=2)
    a, b = (BucketCore(table, BucketSpec(name, 40, 1)) for name in "ab")

    def fails() -> None:
        raise CrdtbucketError("a callback failed")

    table.on_wake = fails
    with pytest.raises(CrdtbucketError, match="a callback failed"):
        take_all([(a, "k", 30), (b, "k", 30)])
    assert a.peek("k").remaining == b.peek("k").remaining


def test_the_time_is_one() -> None:
    a, b, _ = buckets()
    decisions: tuple[Decision, ...] = take_all([(a, "k", 1), (b, "k", 2)])
    assert [decision.reset_after for decision in decisions] == [1.0, 1.0]
