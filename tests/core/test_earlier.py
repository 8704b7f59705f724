"""A rise of a column is judged by every limit that held since its owner was last seen."""

from __future__ import annotations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import Peer, peers, send
from tests.core.specs import SECOND

LARGE = BucketSpec("b", 10_000, 2_000)
SMALL = BucketSpec("b", 100, 20)


def at(seconds: float, *nodes: Peer) -> None:
    for node in nodes:
        node.table.set_time(round(seconds * SECOND))


def apart(before: BucketSpec = LARGE) -> tuple[Peer, Peer]:
    """Two nodes that have merged each other's entries at one second, and none after that."""
    a, b = peers(2, before)
    at(1, a, b)
    a.bucket.take("k", 10)
    send(a, b)
    return a, b


def used_up(node: Peer, seconds: range, capacity: int) -> None:
    for second in seconds:
        at(second, node)
        node.bucket.take_burst("k", capacity)


def test_what_was_taken_under_a_limit_that_was_lowered_is_believed() -> None:
    a, b = apart()
    used_up(a, range(2, 30), 10_000)
    at(30, a, b)
    for one in (a, b):
        one.bucket.define(SMALL)
    at(40, a, b)
    a.bucket.take("k", 1)  # or its key stood under the old limit for one more round
    merged = send(a, b)
    assert (merged.refused_columns, merged.capped_columns) == (0, 0)
    assert b.bucket.columns("k")[1, a.epoch] == a.bucket.columns("k")[0, a.epoch]


def test_takes_under_a_larger_limit_empty_the_smaller_one_and_no_more() -> None:
    """Each lacks what the other took. At the rate of now it would keep both out for 1,000 s."""
    a, b = apart()
    for node in (a, b):
        used_up(node, range(2, 30), 10_000)
    at(36, a, b)  # all has refilled
    for one in (a, b):
        one.bucket.define(SMALL, min_debt=20_000)
        one.bucket.take("k", 1)
    at(40, a, b)
    send(a, b)
    assert b.bucket.peek("k").debt == 5 * SECOND


@pytest.mark.parametrize("changes", [1, 3, 9])
def test_the_largest_limit_of_the_time_counts_however_many_there_were(changes: int) -> None:
    a, b = apart()
    used_up(a, range(2, 30), 10_000)
    for number in range(changes):
        at(30 + number, a, b)
        for one in (a, b):
            one.bucket.define(BucketSpec("b", 100, 20 + number))
    at(60, a, b)
    a.bucket.take("k", 1)
    merged = send(a, b)
    assert (merged.refused_columns, merged.capped_columns) == (0, 0)


def test_it_counts_when_the_slots_of_definitions_have_been_used_again() -> None:
    """Half an hour of partition, and each minute a change of another bucket."""
    a, b = apart()
    used_up(a, range(2, 30), 10_000)
    at(30, a, b)
    for one in (a, b):
        one.bucket.define(SMALL)
        one.bucket.peek("k")
    for minute in range(30):
        at(100 + 60 * minute, a, b)
        for one in (a, b):
            one.table.definitions.define(BucketSpec("another", 10 + minute, 1))
            one.table.sweep(64)
    a.bucket.take("k", 1)
    merged = send(a, b)
    assert (merged.refused_columns, merged.capped_columns) == (0, 0)


def test_a_limit_that_was_gone_before_the_owner_was_seen_explains_nothing() -> None:
    a, b = apart()
    at(30, a, b)
    for one in (a, b):
        one.bucket.define(SMALL)
    at(31, a, b)
    a.bucket.take("k", 1)
    send(a, b)
    a.bucket.define(LARGE)
    used_up(a, range(32, 40), 10_000)
    a.bucket.define(SMALL)
    at(41, a, b)
    a.bucket.take("k", 1)
    assert send(a, b).capped_columns == 1


@pytest.mark.parametrize("keep", [True, False])
def test_what_was_taken_under_a_candidate_or_before_it_is_believed(keep: bool) -> None:
    a, b = apart(SMALL if not keep else LARGE)
    other = LARGE if not keep else SMALL
    for one in (a, b):
        one.bucket.stage(other, 1.0)
    used_up(a, range(2, 30), 10_000)
    at(30, a, b)
    for one in (a, b):
        one.bucket.unstage(keep=keep)
    at(31, a, b)
    a.bucket.take("k", 1)
    merged = send(a, b)
    assert (merged.refused_columns, merged.capped_columns) == (0, 0)
