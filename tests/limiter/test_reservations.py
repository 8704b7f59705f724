"""Reservations: every way in which an estimate becomes the true cost, or goes back."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import Limiter
from crdtbucket._core import Reservation
from crdtbucket.errors import (
    CostExceedsCapacity,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    LimiterClosed,
    ReservationDenied,
    ReservationError,
)
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.reservation_state import ReservationState
from tests.threads import in_threads
from tests.virtual_loop import VirtualTime, virtually

KEY = "tenant-42"
PART = 16_384
"""The most that are given back in one call."""


@pytest.fixture
def bucket(time: VirtualTime) -> Bucket:
    # One token an hour: nothing refills while a test looks.
    return Bucket(time.table, BucketSpec("llm", 1_000, 1, "1h"))


def left(bucket: Bucket) -> int:
    """Tokens left, negative in debt."""
    decision = bucket.peek(KEY)
    return decision.limit - -(-decision.debt // (3_600 * 10**9))


def test_entering_takes_the_estimate_and_leaving_gives_it_back(bucket: Bucket) -> None:
    reservation = bucket.reserve(KEY, estimate=800, ttl=60)
    assert left(bucket) == 1_000
    with reservation as entered:
        assert entered is reservation
        assert reservation.decision is not None
        assert reservation.decision.allowed
        assert left(bucket) == 200
    assert left(bucket) == 1_000


@pytest.mark.parametrize(
    ("actual", "after"),
    [(0, 1_000), (1, 999), (412, 588), (800, 200), (801, 199), (1_000, 0), (1_500, -500)],
)
def test_commit_charges_the_true_cost(bucket: Bucket, actual: int, after: int) -> None:
    with bucket.reserve(KEY, estimate=800, ttl=60) as reservation:
        reservation.commit(actual=actual)
        assert left(bucket) == after
        assert reservation.actual == actual
    assert left(bucket) == after
    assert bucket.reservations.held == 0


@virtually
async def test_an_estimate_leaves_its_floor_to_others(bucket: Bucket) -> None:
    for _ in range(2):
        with bucket.reserve(KEY, 400, floor=0.2) as reservation:
            reservation.commit(400)
    with pytest.raises(ReservationDenied), bucket.reserve(KEY, 100, floor="batch"):
        pass
    with pytest.raises(ReservationDenied):
        async with bucket.reserve(KEY, 1, floor="normal"):
            pass
    with bucket.reserve(KEY, 200) as reservation:
        reservation.commit(200)
    with (
        pytest.raises(CostExceedsCapacity, match="floor of 500"),
        bucket.reserve(KEY, 501, 60, 0.5),
    ):
        pass


def test_an_enormous_cost_saturates_at_the_most_debt(bucket: Bucket) -> None:
    with bucket.reserve(KEY, estimate=800) as reservation:
        reservation.commit(2**62)
    assert left(bucket) == -1_000


@virtually
async def test_async_with_is_the_same_without_a_task_switch(
    time: VirtualTime, bucket: Bucket
) -> None:
    others: list[int] = []
    asyncio.get_running_loop().call_soon(others.append, 1)
    async with bucket.reserve(KEY, estimate=800, ttl=60) as reservation:
        assert left(bucket) == 200
        reservation.commit(actual=412)
    async with bucket.reserve(KEY, estimate=500):
        assert left(bucket) == 88
    assert others == []
    assert left(bucket) == 588


def test_an_exception_gives_the_estimate_back_and_goes_on(bucket: Bucket) -> None:
    with pytest.raises(ZeroDivisionError), bucket.reserve(KEY, estimate=800):
        raise ZeroDivisionError
    assert left(bucket) == 1_000


def test_a_denied_reservation_says_when_to_come_back(bucket: Bucket) -> None:
    bucket.take(KEY, 300)
    reservation = bucket.reserve(KEY, estimate=701, ttl=60)
    told = "an estimate of 701 of 'llm' cannot be set aside now; retry after 3600"
    with pytest.raises(ReservationDenied, match=told) as caught, reservation:
        pytest.fail("the block must not run")
    assert caught.value.decision is not None
    assert caught.value.decision.retry_after == pytest.approx(3_600)
    assert not caught.value.decision
    assert left(bucket) == 700
    with pytest.raises(ReservationError, match="before"):
        reservation.commit(5)
    with pytest.raises(ReservationError, match="entered once"):
        reservation.__enter__()
    assert left(bucket) == 700


def test_impossible_and_malformed_arguments(bucket: Bucket) -> None:
    for key, estimate, error in (
        (KEY, 1_001, CostExceedsCapacity),
        (KEY, 0, InvalidCost),
        (KEY, 1.5, InvalidCost),
        ("", 5, InvalidKey),
    ):
        with pytest.raises(error):
            bucket.reserve(key, estimate).__enter__()  # type: ignore[arg-type]
    for ttl in (0, -1, float("nan"), float("inf"), None, True, [1]):
        with pytest.raises(InvalidSpec, match="ttl"):
            bucket.reserve(KEY, 5, ttl)  # type: ignore[arg-type]
    with bucket.reserve(KEY, 5) as reservation:
        for actual in (-1, 2**62 + 1, 1.0, "7", None, True):
            with pytest.raises(InvalidCost, match="actual"):
                reservation.commit(actual)  # type: ignore[arg-type]
        assert left(bucket) == 995


def test_the_same_commit_again_changes_nothing_and_another_is_an_error(bucket: Bucket) -> None:
    with bucket.reserve(KEY, estimate=800) as reservation:
        reservation.commit(412)
        reservation.commit(412)
        with pytest.raises(ReservationError, match="committed with 412 tokens already, not with 9"):
            reservation.commit(9)
    reservation.commit(412)
    assert left(bucket) == 588


def test_commit_needs_an_entered_reservation(bucket: Bucket) -> None:
    reservation = bucket.reserve(KEY, estimate=800)
    with pytest.raises(ReservationError, match="before"):
        reservation.commit(5)
    assert left(bucket) == 1_000
    with reservation, pytest.raises(ReservationError, match="entered once"):
        reservation.__enter__()
    assert left(bucket) == 1_000


def test_the_ttl_gives_the_estimate_back_when_anything_looks(
    time: VirtualTime, bucket: Bucket
) -> None:
    lost = bucket.reserve(KEY, estimate=800, ttl=60)
    lost.__enter__()
    time.advance(59.999)
    with bucket.reserve(KEY, estimate=1):
        assert left(bucket) == 199
    time.advance(0.001)
    with bucket.reserve("another key of the bucket", estimate=1):
        assert left(bucket) == 1_000
    assert bucket.reservations.expired == 1


def test_of_many_that_are_due_at_once_some_go_back_in_each_call(time: VirtualTime) -> None:
    """This happens after a machine was suspended. The one that is asked for has ended in any
    case."""
    bucket = Bucket(time.table, BucketSpec("llm", 1_000_000, 1000, "1h"))
    many = [bucket.reserve(KEY, 5, ttl=10).__enter__() for _ in range(PART + 10)]
    time.table.set_time(time.table.now() + 11 * 10**9)
    due = bucket.reservations.expire()
    assert due is not None
    assert due <= time.table.now()
    assert (bucket.reservations.expired, bucket.reservations.held) == (PART, 10)
    last = next(one for one in many if one.state is ReservationState.HELD)
    last.commit(5)
    assert (bucket.reservations.late_commits, bucket.reservations.held) == (1, 0)
    assert bucket.reservations.expire() is None
    assert bucket.reservations.expired == PART + 10


def test_expire_tells_when_the_next_is_due(time: VirtualTime, bucket: Bucket) -> None:
    assert bucket.reservations.expire() is None
    bucket.reserve(KEY, estimate=800, ttl=60).__enter__()
    bucket.reserve(KEY, estimate=50, ttl=10).__enter__()
    assert bucket.reservations.expire() == time.now_ns + 10 * 10**9
    time.advance(10)
    assert bucket.reservations.expire() == time.now_ns + 50 * 10**9
    assert left(bucket) == 200
    time.advance(50)
    assert bucket.reservations.expire() is None
    assert (left(bucket), bucket.reservations.expired, bucket.reservations.held) == (1_000, 2, 0)


def test_a_late_commit_is_charged_in_full_counted_and_logged(
    time: VirtualTime, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "crdtbucket"):
        for number in range(3):
            with bucket.reserve(KEY, estimate=100, ttl=5) as reservation:
                time.advance(5)
                # By now the estimate counts as gone, whether or not anyone has looked.
                reservation.commit(10)
                reservation.commit(10)
                assert reservation.actual == 10
            assert left(bucket) == 1_000 - 10 * (number + 1)
        assert len(caplog.records) == 1  # within a minute one line is enough
        time.advance(60)
        with bucket.reserve(KEY, estimate=100, ttl=5) as reservation:
            time.advance(5)
            reservation.commit(0)
    line = (
        "bucket llm: a reservation was committed after its estimate had gone back after a ttl of "
        "5 s; the cost of {} is charged in full. Give a longer ttl{}"
    )
    assert caplog.messages == [
        line.format(10, ""),
        line.format(0, " (2 more since the last such line)"),
    ]
    assert bucket.reservations.late_commits == 4
    assert bucket.reservations.expired == 4


def test_a_commit_after_the_block_is_late_too(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    """One of an answer that is streamed after its function has returned: no ttl helps."""
    with bucket.reserve(KEY, estimate=800) as reservation:
        pass
    assert left(bucket) == 1_000
    with caplog.at_level(logging.WARNING, "crdtbucket"):
        reservation.commit(412)
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "committed after its estimate had gone back at the end of its block; the cost of 412 is "
        "charged in full. Commit before the block ends"
    )
    assert left(bucket) == 588
    assert bucket.reservations.late_commits == 1
    with pytest.raises(ReservationError):
        reservation.commit(413)


@pytest.mark.parametrize("actual", [900, 800, 412, 0])
def test_a_commit_after_the_limiter_is_closed_is_refused_as_a_take_is(actual: int) -> None:
    limiter = Limiter([BucketSpec("llm", 1_000, 1, "1h")])
    bucket = limiter.bucket("llm")
    with bucket.reserve(KEY, estimate=800) as reservation:
        limiter.close()
        for _ in range(2):  # nor does the first one count as done
            with pytest.raises(LimiterClosed):
                reservation.commit(actual)
        assert (reservation.actual, reservation.state) == (None, ReservationState.HELD)


def test_what_was_committed_before_the_limiter_was_closed_is_done() -> None:
    limiter = Limiter([BucketSpec("llm", 1_000, 1, "1h")])
    with limiter.bucket("llm").reserve(KEY, estimate=800) as reservation:
        reservation.commit(412)
        limiter.close()
        reservation.commit(412)  # the same again changes nothing


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 9)), max_size=60))
def test_what_is_held_goes_back_in_the_order_of_its_time(plan: list[tuple[int, int]]) -> None:
    """Each item enters one with a ttl, and commits the one held at that place, if there is one."""
    time = VirtualTime()
    bucket = Bucket(time.table, BucketSpec("llm", 1_000, 1, "1d"))
    held: list[Reservation] = []
    for ttl, place in plan:
        held.append(bucket.reserve(KEY, 1, ttl).__enter__())
        if place < len(held) - 1:
            held.pop(place).commit(1)
        assert bucket.reservations.held == bucket.reservations.reserved == len(held)
    start, left_open = time.now_ns, len(held)
    for ttl in range(51):
        time.set_ns(start + ttl * 10**9)
        due = [one for one in held if one.deadline_ns <= time.now_ns]
        held = [one for one in held if one.deadline_ns > time.now_ns]
        first = min((one.deadline_ns for one in held), default=None)
        assert bucket.reservations.expire() == first
        assert {one.state for one in due} <= {ReservationState.RETURNED}
        assert {one.state for one in held} <= {ReservationState.HELD}
    assert bucket.reservations.expired == left_open
    assert bucket.reservations.held == bucket.reservations.reserved == 0


def test_a_reservation_is_safe_between_threads(time: VirtualTime, bucket: Bucket) -> None:
    """Commits and time-outs race for each reservation: exactly one of them ends it."""
    reservations = [bucket.reserve(KEY, estimate=2, ttl=1) for _ in range(400)]
    for reservation in reservations:
        reservation.__enter__()

    def commit() -> None:
        for reservation in reservations:
            reservation.commit(1)

    def expire() -> None:
        time.advance(1)
        for _ in reservations:
            bucket.reservations.expire()

    in_threads(commit, commit, expire)
    assert left(bucket) == 600
    assert bucket.reservations.held == 0
    assert bucket.reservations.expired == bucket.reservations.late_commits


@given(
    st.lists(
        st.tuples(
            st.integers(1, 300),  # estimate
            st.integers(1, 20),  # ttl
            st.integers(0, 25),  # seconds of work
            st.one_of(st.none(), st.integers(0, 600)),  # actual
        ),
        max_size=8,
    )
)
def test_in_the_end_exactly_the_true_costs_are_charged(
    plan: list[tuple[int, int, int, int | None]],
) -> None:
    time = VirtualTime()
    bucket = Bucket(time.table, BucketSpec("llm", 1_000, 1, "1d", max_debt=10_000))
    charged = 0
    for estimate, ttl, work, actual in plan:
        if charged + estimate > 1_000:
            with pytest.raises(ReservationDenied), bucket.reserve(KEY, estimate, ttl):
                pytest.fail("the block must not run")
            continue
        with bucket.reserve(KEY, estimate, ttl) as reservation:
            time.advance(work)
            if actual is not None:
                reservation.commit(actual)
                charged += actual
    decision = bucket.peek(KEY)
    assert decision.limit - -(-decision.debt // (86_400 * 10**9)) == 1_000 - charged
    assert bucket.reservations.held == 0
