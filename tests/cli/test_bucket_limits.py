"""Limits that differ between nodes, in words."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.cli.bucket_limits import MOST_BUCKETS, differing, read_limits

RATE = {"capacity": 200, "refill_per_second": 100 / 60, "slots": None}


@pytest.mark.parametrize(
    ("bucket", "words"),
    [
        ({"name": "api", **RATE}, {"api": "1.66667/s, at most 200"}),
        ({"name": "jobs", **RATE, "slots": 8_000}, {"jobs": "8,000 in flight"}),
        ({"name": "\x1b[2J", **RATE}, {"\\x1b[2J": "1.66667/s, at most 200"}),
        ({"name": "older"}, {}),
        ({"name": "wrong", "capacity": "200", "refill_per_second": 1.0}, {}),
        ({"name": "wrong", "capacity": 200, "refill_per_second": None}, {}),
    ],
)
def test_limits_are_read_where_a_node_sent_them(
    bucket: dict[str, Any], words: dict[str, str]
) -> None:
    assert read_limits({"buckets": [bucket]}) == words


def test_buckets_that_differ_are_named_with_the_nodes_of_each_limit() -> None:
    limits = [
        ("eu", {"api": "1/s, at most 5", "web": "2/s, at most 2"}),
        ("us", {"api": "1/s, at most 5", "web": "2/s, at most 2", "new": "3 in flight"}),
        ("ap", {"api": "9/s, at most 9", "web": "2/s, at most 2"}),
        ("silent", {}),
    ]
    assert list(differing(limits)) == [
        "bucket api differs: 1/s, at most 5 on eu, us; 9/s, at most 9 on ap",
        "bucket new differs: missing on eu, ap; 3 in flight on us",
    ]
    assert list(differing(limits[:1])) == []


def test_of_many_buckets_that_differ_the_first_ones_are_named() -> None:
    one, other = ({f"b{n}": limit for n in range(MOST_BUCKETS + 2)} for limit in ("1/s", "2/s"))
    found = list(differing([("eu", one), ("us", other)]))
    assert len(found) == MOST_BUCKETS + 1
    assert found[-1] == "2 more buckets differ: compare by `crdtbucket config diff`"
    del one["b0"], one["b1"], other["b0"], other["b1"]
    assert "more" not in " ".join(differing([("eu", one), ("us", other)]))
