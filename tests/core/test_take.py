"""Takes, and what decides them beside the level: definitions, warming up, names, counters,
waking."""

from __future__ import annotations

import gc
import math
import weakref
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.errors import CostExceedsCapacity, CrdtbucketError, LimiterClosed, NodeConflict
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.oracle import Oracle
from tests.core.specs import SECOND, bucket_of, rate_of, virtual_table

SPEC = BucketSpec("b", 100, 100)


def test_a_decision_tells_what_it_decided() -> None:
    bucket = bucket_of(SPEC)
    passed = bucket.take("k", 30)
    assert (passed.allowed, passed.limit, passed.remaining) == (True, 100, 70)
    assert (passed.retry_after, passed.reset_after, passed.cost) == (0.0, 0.3, 30)
    denied = bucket.take("k", 90)
    assert not denied
    assert (denied.allowed, denied.remaining, denied.retry_after) == (False, 70, 0.2)
    assert bucket.take(b"k", 70)  # text and its UTF-8 are one key


def test_decisions_come_from_a_bucket_only() -> None:
    with pytest.raises(TypeError):
        Decision()


def test_keys_and_buckets_are_apart() -> None:
    table = virtual_table()
    one, two = BucketCore(table, SPEC), BucketCore(table, BucketSpec("c", 100, 100))
    one.take("k", 100)
    assert two.take("k", 100)
    assert one.take("K", 100)
    assert len(table) == 3


def test_a_cost_above_the_capacity_is_an_error_that_counts_nothing() -> None:
    bucket = bucket_of(SPEC)
    for call in (bucket.take, bucket.peek):
        with pytest.raises(CostExceedsCapacity) as caught:
            call("k", 101)
        error = caught.value
        assert (error.bucket, error.cost, error.capacity) == (SPEC.name, 101, 100)
    assert bucket.counters()["denied"] == 0
    assert len(bucket.table) == 0


def test_a_burst_is_the_same_as_its_takes() -> None:
    one, many = bucket_of(SPEC), bucket_of(SPEC)
    assert many.take_burst("k", 50, 3) == sum(bool(one.take("k", 3)) for _ in range(50)) == 33
    assert one.counters() == many.counters()
    assert one.debt("k") == many.debt("k")


def test_counters_tell_takes_denials_refunds_and_what_was_forgiven() -> None:
    bucket = bucket_of(SPEC)
    decision = bucket.take("k", 60)
    bucket.take("k", 60)
    bucket.refund(decision, 10)
    bucket.settle("k", 170)
    counters = bucket.counters()
    assert counters["allowed"] == counters["denied"] == 1
    assert (counters["granted"], counters["refunded"], counters["forgiven"]) == (210, 10, 20)


def test_a_refusal_stops_everything() -> None:
    bucket = bucket_of(SPEC)
    bucket.table.refuse(CrdtbucketError("duplicate name"))
    for call in (bucket.take, bucket.peek):
        with pytest.raises(CrdtbucketError, match="duplicate name"):
            call("k")
    with pytest.raises(CrdtbucketError, match="duplicate name"):
        bucket.take_many(["k"])
    with pytest.raises(CrdtbucketError, match="duplicate name"):
        bucket.settle("k", 1)
    assert len(bucket.table) == 0


def test_a_refusal_keeps_nothing_of_its_callers() -> None:
    """An error that is raised once more has the frames of all who got it, with their variables."""
    bucket = bucket_of(SPEC)
    bucket.table.refuse(NodeConflict("duplicate name"))

    def ask() -> weakref.ref[Table]:
        request = virtual_table(16)
        with pytest.raises(NodeConflict):
            bucket.take("k")
        return weakref.ref(request)

    asked = ask()
    gc.collect()
    assert asked() is None


def test_a_table_admits_again_what_it_refused_for_this_reason() -> None:
    bucket = bucket_of(SPEC)
    bucket.table.refuse(NodeConflict("duplicate name"))
    bucket.table.admit(LimiterClosed)
    with pytest.raises(NodeConflict, match="duplicate name"):
        bucket.take("k")
    bucket.table.admit(NodeConflict)
    assert bucket.take("k").allowed


def test_a_closed_table_is_refused_for_nothing_else() -> None:
    """Else the end of a conflict of names, which peers report while it closes, would open it
    again."""
    bucket = bucket_of(SPEC)
    bucket.table.refuse(LimiterClosed("closed"))
    bucket.table.refuse(NodeConflict("duplicate name"))
    bucket.table.admit(NodeConflict)
    with pytest.raises(LimiterClosed, match="closed"):
        bucket.take("k")


def test_names_are_listed_within_a_bound() -> None:
    bucket = BucketCore(virtual_table(64, max_names=3), SPEC)
    for i in range(6):
        bucket.take(f"key {i}")
    assert sorted(bucket.table.names.values()) == [("b", f"key {i}") for i in range(3)]


def test_names_go_with_their_entries() -> None:
    bucket = bucket_of(SPEC)
    bucket.take("old")
    bucket.table.outbox.collect()
    bucket.table.outbox.trim(bucket.table.outbox.version)
    bucket.table.set_time(60 * SECOND)
    bucket.take("new")
    assert bucket.table.sweep() == 1
    assert list(bucket.table.names.values()) == [("b", "new")]


class TestCaution:
    def test_a_node_without_memory_serves_its_share(self) -> None:
        """A part of it at once, the rest at three quarters of the refill."""
        bucket = bucket_of(SPEC)
        bucket.table.nodes.configure(members=4, warming_up_until=2 * SECOND)
        at_once = bucket.take_burst("k", 100)
        assert 1 <= at_once < 25
        wait = bucket.take("k").retry_after_ns
        assert wait == bucket.peek("k").retry_after_ns == -(-SECOND // 75)
        assert not bucket.take("other", at_once + 1)
        assert len(bucket.table) == 1
        bucket.table.set_time(wait - 1)
        assert not bucket.peek("k")
        bucket.table.set_time(wait)
        assert bucket.take_burst("k", 100) == 1
        bucket.table.set_time(SECOND)
        assert bucket.take_burst("k", 100) == 24 - at_once
        assert bucket.take("k").retry_after == 1.0
        bucket.table.set_time(2 * SECOND)
        assert bucket.take("k", 100)

    def test_what_is_left_to_others_is_not_taken_of_the_share(self) -> None:
        bucket = bucket_of(SPEC)
        bucket.table.nodes.configure(members=4, warming_up_until=2 * SECOND)
        looked = bucket.peek("k", 6, 0.5)
        assert looked.allowed
        assert bucket.take("k", 6, 0.5).allowed

    def test_a_shortage_ends_when_its_denial_said(self) -> None:
        bucket = bucket_of(SPEC)
        bucket.table.nodes.configure(members=4, warming_up_until=2 * SECOND)
        assert not bucket.peek("k", 26)
        bucket.table.nodes.configure(warming_up_until=0)
        assert bucket.peek("k", 100)


class TestWaking:
    def test_a_take_that_should_not_wait_for_the_round_wakes_once(self) -> None:
        bucket = bucket_of(SPEC)
        woken: list[bool] = []
        bucket.table.on_wake = lambda: woken.append(bucket.table.outbox.flush_wanted)
        bucket.take("k", 4)
        assert woken == []
        bucket.take("k", 1)  # a twentieth of the capacity
        bucket.take("k", 10)
        assert woken == [True]
        bucket.table.set_time(SECOND // 100)
        bucket.table.outbox.collect(True)
        bucket.take("k", 4)
        assert woken == [True]
        bucket.take("k", 1)
        assert woken == [True, True]

    def test_a_settle_wakes(self) -> None:
        bucket = bucket_of(SPEC)
        woken: list[int] = []
        bucket.table.on_wake = lambda: woken.append(1)
        bucket.settle("k", 50)
        assert woken == [1]

    def test_take_many_wakes(self) -> None:
        bucket = bucket_of(SPEC)
        woken: list[int] = []
        bucket.table.on_wake = lambda: woken.append(1)
        bucket.take_many(["k"] * 10)
        assert woken == [1]


rates = st.sampled_from(
    [
        BucketSpec("b", 100, 100),
        BucketSpec("b", 100, 50),
        BucketSpec("b", 1_000, 7),
        BucketSpec("b", 40, 7, max_debt=10),
        BucketSpec("b", 100, 999_999_937),
        BucketSpec("b", 100, 1, "1h"),
    ]
)


class TestDefinitionChanges:
    def test_debt_in_tokens_stays_when_the_rate_changes(self) -> None:
        bucket = bucket_of(SPEC)
        bucket.take("k", 60)
        bucket.define(BucketSpec("b", 100, 50))
        assert bucket.peek("k").remaining == 40
        assert bucket.peek("k").reset_after == 1.2

    def test_debt_stays_when_the_capacity_changes(self) -> None:
        bucket = bucket_of(SPEC)
        bucket.take("k", 60)
        bucket.define(BucketSpec("b", 200, 100))
        assert bucket.take("k", 100).remaining == 40
        bucket.define(BucketSpec("b", 50, 100, max_debt=200))
        assert bucket.peek("k").reset_after == 1.6
        assert not bucket.peek("k")

    def test_there_and_back_mints_nothing(self) -> None:
        """With a history of a thousand million tokens, which must not be charged again either."""
        half, whole = BucketSpec("b", 100_000_000, 50_000_000), BucketSpec("b", 100_000_000, 10**8)
        bucket = bucket_of(whole)
        for second in range(11):
            bucket.table.set_time(second * SECOND)
            assert bucket.take("k", 100_000_000)
        for spec in (half, whole) * 50:
            bucket.define(spec)
            assert bucket.peek("k").remaining == 0
        bucket.table.set_time(11 * SECOND)
        assert bucket.peek("k").remaining == 100_000_000

    def test_a_key_that_nobody_touches_refills_at_the_new_rate(self) -> None:
        bucket = bucket_of(SPEC)
        bucket.take("k", 100)
        bucket.define(BucketSpec("b", 100, 1))
        bucket.table.set_time(30 * SECOND)
        assert bucket.peek("k").remaining == 30

    def test_it_is_not_evicted_as_full_by_the_old_rate(self) -> None:
        bucket = bucket_of(SPEC)
        bucket.take("k", 100)
        bucket.table.outbox.collect()
        bucket.table.outbox.trim(bucket.table.outbox.version)
        bucket.define(BucketSpec("b", 100, 1))
        bucket.table.set_time(30 * SECOND)
        assert bucket.table.sweep() == 0
        bucket.table.set_time(100 * SECOND)
        assert bucket.table.sweep() == 1

    @given(
        steps=st.lists(
            st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 100), st.none() | rates),
            max_size=25,
        ),
        looks=st.booleans(),
    )
    def test_any_changes_keep_tokens(
        self, steps: list[tuple[int, int, BucketSpec | None]], looks: bool
    ) -> None:
        """Each change may cost a ns of debt to the bucket, and mints none."""
        bucket = bucket_of(SPEC)
        oracle = Oracle(rate_of(SPEC), Fraction(0))
        now = changes = 0
        held = False
        for gap, cost, spec in steps:
            now += gap
            bucket.table.set_time(now)
            if spec is not None:
                bucket.define(spec)
                oracle.change(rate_of(spec), now)
                changes += 1
                if looks:
                    bucket.peek("k")
                continue
            charged = bucket.settle("k", cost)
            held = True
            oracle.advance(now)
            oracle.tat += oracle.rate.emission * charged
            # A change scales what the earlier ones rounded up: to tokens and back.
            loosest = max(rate_of(s).emission for _, _, s in steps if s) if changes else 0
            exact = oracle.debt(now)
            shown = bucket.peek("k").debt
            slack = changes * (1 + Fraction(loosest)) if changes else 1
            assert math.ceil(exact) <= shown <= exact + slack + 1
        if held and not changes:
            assert bucket.counters()["keys"] == 1

    def test_looking_in_between_changes_no_later_answer(self) -> None:
        seen, unseen = bucket_of(SPEC), bucket_of(SPEC)
        for bucket in (seen, unseen):
            bucket.take("k", 90)
        for time, rate in ((1, 10), (2, 3), (3, 1_000)):
            for bucket in (seen, unseen):
                bucket.table.set_time(time * SECOND // 10)
                bucket.define(BucketSpec("b", 100, rate))
            seen.table.set_time(time * SECOND // 10 + SECOND // 20)
            seen.peek("k")
        for bucket in (seen, unseen):
            bucket.table.set_time(SECOND // 3)
        assert abs(seen.peek("k").debt - unseen.peek("k").debt) <= 3
        assert seen.peek("k").remaining == unseen.peek("k").remaining

    def test_quotas_follow_the_definition(self) -> None:
        bucket = bucket_of(SPEC)
        for key in "abc":
            bucket.take(key)
        bucket.define(BucketSpec("b", 100, 50))
        assert bucket.counters()["keys"] == 0
        for key in "ab":
            bucket.take(key)
        assert bucket.counters()["keys"] == 2
        bucket.table.sweep()
        assert bucket.counters()["keys"] == 3
