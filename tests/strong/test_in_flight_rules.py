"""What else is in flight beside a request, rule by rule: counted by hand, without a store."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.in_flight import RequestsInFlight
from crdtbucket.strong.store_request import StoreRequest

BUCKET = BucketCore(Table(max_keys=16, virtual=True), BucketSpec("b", 10, 10))


def request(cost: int = 1, key: int = 1, *, threaded: bool = False) -> StoreRequest:
    nothing: Any = None
    made = StoreRequest(BUCKET, None, cost, (key, key), nothing, nothing, nothing)
    made.threaded = threaded
    return made


def thread(cost: int = 1, key: int = 1) -> StoreRequest:
    return request(cost, key, threaded=True)


def counted(*begun: StoreRequest) -> RequestsInFlight:
    """All is counted by key from the beginning, and these have begun in this order."""
    in_flight = RequestsInFlight()
    in_flight.count_by_key()
    for one in begun:
        in_flight.began(one)
    return in_flight


def test_threads_wait_for_all_that_began_before_anything_was_counted_by_key() -> None:
    in_flight, before = RequestsInFlight(), [request(), request()]
    assert not in_flight.ready_for_threads
    for one in before:
        in_flight.began(one)
        assert in_flight.alone(one)  # there is one connection only
    in_flight.count_by_key()
    later = request()
    in_flight.began(later)
    assert [in_flight.alone(one) for one in (*before, later)] == [False, False, True]
    for unseen, one in ((2, before[0]), (1, before[0]), (1, before[1]), (0, later), (0, later)):
        assert in_flight.unseen == unseen
        assert in_flight.ready_for_threads is (unseen == 0)
        in_flight.ended(one)
    assert in_flight.unseen == 0


def test_what_is_ended_twice_ended_once() -> None:
    one, other = thread(3), thread(4)
    in_flight = counted(one, other)
    for _ in range(3):
        in_flight.ended(one)
    assert not one.is_in_flight
    assert in_flight.unbooked(request()) == 4


def test_a_thread_may_meet_what_all_others_charged_and_the_loop_what_threads_charged() -> None:
    loop, again, one, other = request(10), request(20), thread(3), thread(4)
    elsewhere = thread(500, key=2)
    in_flight = counted(loop, one, again, other, elsewhere)
    assert [in_flight.unbooked(r) for r in (loop, again, one, other, elsewhere)] == [
        7, 7, 34, 33, 0,
    ]  # fmt: skip
    in_flight.ended(again)
    in_flight.ended(one)
    assert [in_flight.unbooked(r) for r in (loop, other)] == [4, 10]
    # What was given up may be answered still: then the threads that are left count.
    assert [in_flight.unbooked(r) for r in (again, one)] == [4, 4]
    in_flight.ended(other)
    assert in_flight.unbooked(loop) == 0
    in_flight.ended(loop)
    assert [in_flight.unbooked(r) for r in (loop, one)] == [0, 0]


def test_requests_of_one_connection_are_alone_however_many() -> None:
    several = [request() for _ in range(3)]
    in_flight = counted(*several)
    in_flight.ended(several[0])
    assert all(in_flight.alone(one) for one in several[1:])


@pytest.mark.parametrize("key", [1, 2])
def test_the_loop_is_alone_unless_a_thread_is_about_the_same_key(key: int) -> None:
    before, after = request(), request()
    one = thread(key=key)
    in_flight = counted(before, one, after)
    apart = key == 2
    assert [in_flight.alone(r) for r in (before, one, after)] == [apart, apart, apart]
    in_flight.ended(one)  # it was there all the same
    assert [in_flight.alone(r) for r in (before, after)] == [apart, apart]
    in_flight.ended(before)
    later = request()
    in_flight.began(later)
    assert in_flight.alone(later)


@pytest.mark.parametrize("threaded", [True, False])
def test_a_thread_is_alone_while_nothing_else_is_about_its_key(threaded: bool) -> None:
    first, second = thread(), request(threaded=threaded)
    in_flight = counted(first)
    assert in_flight.alone(first)
    in_flight.began(second)
    assert not in_flight.alone(first)
    in_flight.ended(first)
    assert not in_flight.alone(second)
    in_flight.ended(second)
    third = thread()
    in_flight.began(third)
    assert in_flight.alone(third)


def test_after_several_threads_the_loop_compares_with_all_that_began() -> None:
    threads = [thread() for _ in range(3)]
    in_flight = counted(request(), *threads)
    for one in threads:
        in_flight.ended(one)
    first = request()
    in_flight.began(first)
    assert in_flight.alone(first)
    in_flight.began(thread())
    assert not in_flight.alone(first)
