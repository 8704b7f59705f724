"""Computes rates from two reads of the counters of a node."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.cli.node_load import SORTS, Load, Look, busiest


def bucket(name: str, **more: Any) -> dict[str, Any]:
    start = {"name": name, "mode": "eventual", "capacity": 100, "refill_per_second": 10.0}
    return {**start, "keys": 1, "allowed": 0, "denied": 0, **more}


def key(name: str, tokens: int, denied: int, remaining: int) -> dict[str, Any]:
    return {"key": name, "tokens": tokens, "error": 0, "denied": denied, "remaining": remaining}


BEFORE = Look(0, (bucket("a", allowed=100, denied=50), bucket("b")), {})
AFTER = Look(
    2 * NS_PER_SECOND,
    (
        bucket("a", allowed=140, denied=50, keys=2),
        bucket("b", allowed=2, denied=8, keys=9),
        bucket("c", keys=3),
    ),
    {"a": (key("x", 90, 0, 40), key("y", 50, 5, 80)), "b": (key("z", 10, 8, -3),), "c": ()},
)


def test_rates_are_of_the_time_between() -> None:
    a, b, c = Load.between(BEFORE, AFTER).buckets
    assert (a.allowed_per_second, a.denied_per_second, a.fill) == (20.0, 0.0, 0.4)
    assert (b.allowed_per_second, b.denied_per_second, b.fill) == (1.0, 4.0, 0.0)
    assert (c.allowed_per_second, c.denied_per_second, c.fill) == (0.0, 0.0, None)


def test_a_node_that_started_anew_counts_from_0() -> None:
    again = Look(4 * NS_PER_SECOND, (bucket("a", allowed=10, denied=60),), {})
    (a,) = Load.between(AFTER, again).buckets
    assert (a.allowed_per_second, a.denied_per_second) == (5.0, 5.0)


def test_two_looks_at_one_moment_are_no_division_by_zero() -> None:
    assert Load.between(AFTER, AFTER).buckets[0].allowed_per_second == 0.0


@pytest.mark.parametrize(
    ("order", "buckets", "keys"),
    [
        ("denied", "bac", "zyx"),
        ("allowed", "abc", "xyz"),
        ("fill", "bac", "zxy"),
        ("keys", "bca", "xyz"),
        ("name", "abc", "xyz"),
    ],
)
def test_each_order_sorts_buckets_and_keys(order: str, buckets: str, keys: str) -> None:
    load = Load.between(BEFORE, AFTER).sorted(order)
    assert "".join(one.name for one in load.buckets) == buckets
    assert "".join(one.key for one in load.keys) == keys


def test_every_order_is_tried() -> None:
    assert set(SORTS) == {"denied", "allowed", "fill", "keys", "name"}
    assert len({name[0] for name in SORTS}) == len(SORTS)  # letters of the live view


def test_the_busiest_buckets_are_asked_for_keys() -> None:
    assert busiest(AFTER.buckets, 2) == ["a", "b"]


def test_an_answer_of_another_shape_shows_nothing_dangerous() -> None:
    odd = ({"name": "\x1b[2J", "mode": 3, "allowed": "x", "capacity": None}, {})
    keys = {"\x1b[2J": ({"key": "k\r\x1b[1A", "remaining": "x"}, {})}
    load = Load.between(Look(0, odd, {}), Look(1, odd, keys))
    assert "\x1b" not in str(asdict(load))
    assert "\\x1b[1A" in load.keys[0].key
