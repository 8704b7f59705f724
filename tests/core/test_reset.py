"""Reset: a key is full again, as far as this node took from it, and every node merges that."""

from __future__ import annotations

import gc
import threading

import pytest

from crdtbucket._core import BucketReplica
from crdtbucket.errors import InvalidKey
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import peers, send, send_all
from tests.core.specs import ODD, SECOND, bucket_of

SPEC = BucketSpec("b", 100, 100)
SLOW = BucketSpec("b", 100, 1, "1h")


def test_a_key_in_debt_is_full_again() -> None:
    bucket = bucket_of(SLOW)
    bucket.take("k", 100)
    bucket.settle("k", 50)
    assert bucket.reset("k") == 150
    assert bucket.peek("k").remaining == 100
    assert bucket.columns("k").popitem()[1] == (1, 150, 150)
    assert bucket.counters()["refunded"] == 150


def test_what_time_gave_back_already_is_not_given_back_again() -> None:
    bucket = bucket_of(SPEC)
    bucket.take("k", 100)
    bucket.table.set_time(SECOND // 4)
    assert bucket.reset("k") == 75
    assert bucket.reset("k") == 0
    assert bucket.peek("k").remaining == 100


@pytest.mark.parametrize("spec", ODD.values(), ids=ODD)
def test_it_never_holds_more_than_a_full_bucket(spec: BucketSpec) -> None:
    bucket = bucket_of(spec)
    for at in (0, 1, 2):
        bucket.table.set_time(at)
        cost = min(spec.capacity, 3)
        if bucket.take("k", cost):
            assert 0 <= bucket.reset("k") <= cost
        assert bucket.debt("k") == 0
        assert bucket.peek("k").remaining == spec.capacity


def test_a_part_of_what_a_key_lacks_comes_back() -> None:
    bucket = bucket_of(SLOW)
    decision = bucket.take("k", 60)
    replica = BucketReplica(bucket)
    assert replica.give_back("k", 20) == 20
    assert bucket.peek("k").remaining == 60
    assert bucket.refund(decision, 15) == 15  # the rest of the take still stands
    assert replica.give_back("k", 100) == 25
    assert replica.give_back("k", 1) == 0
    assert bucket.columns("k").popitem()[1] == (1, 60, 60)


def test_an_unknown_and_a_full_key_stay_as_they_are() -> None:
    bucket = bucket_of(SPEC)
    assert bucket.reset("k") == 0
    assert bucket.columns("k") == {}
    with pytest.raises(InvalidKey):
        bucket.reset("")


def test_a_take_that_was_reset_is_not_given_back_again() -> None:
    bucket = bucket_of(SLOW)
    decision = bucket.take("k", 60)
    assert bucket.reset("k") == 60
    bucket.take("k", 30)
    assert bucket.refund(decision) == 0
    assert bucket.peek("k").remaining == 70


def test_the_other_nodes_learn_of_it() -> None:
    a, b = peers(2, SLOW)
    a.bucket.take("k", 60)
    send(a, b)
    assert b.bucket.peek("k").remaining == 40
    assert a.bucket.reset("k") == 60
    send(a, b)
    assert b.bucket.peek("k").remaining == 100


def test_only_what_was_taken_here_is_given_back() -> None:
    a, b = peers(2, SLOW)
    a.bucket.take("k", 60)
    b.bucket.take("k", 10)
    send_all(a, b)
    assert b.bucket.peek("k").remaining == 30
    assert b.bucket.reset("k") == 10
    assert b.bucket.peek("k").remaining == 40
    for columns in (one.bucket.columns("k") for one in (a, b)):
        assert all(refunded <= taken for _, taken, refunded in columns.values())


def test_two_nodes_that_reset_at_once_leave_it_full_and_no_more() -> None:
    a, b = peers(2, SLOW)
    for one in (a, b):
        one.bucket.take("k", 50)
    send(a, b)
    send(b, a)
    assert [one.bucket.reset("k") for one in (a, b)] == [50, 50]
    send(a, b)
    send(b, a)
    for one in (a, b):
        assert one.bucket.peek("k").remaining == 100
        assert one.bucket.debt("k") == 0


def test_a_collection_of_garbage_meets_no_lock_while_all_keys_are_reset() -> None:
    """A finalizer may take, and would wait for ever for the lock that its own thread holds."""
    keys = 8_000  # more pairs than Python keeps free ones
    bucket = bucket_of(SLOW, keys + 100)
    bucket.take_many([f"key {i}" for i in range(keys)])
    met: list[bool] = []

    def look(phase: str, _: object) -> None:
        if phase == "start":
            caller = threading.Thread(target=bucket.take, args=(f"new {len(met)}",))
            caller.start()
            caller.join(0.05)
            met.append(caller.is_alive())

    before = gc.get_threshold()
    gc.callbacks.append(look)
    try:
        gc.set_threshold(700)
        assert len(bucket.reset_all()) >= keys
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(look)
    assert not any(met)
