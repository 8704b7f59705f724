"""Slots of definitions: endless changes do not use them up, and mix up no keys."""

from __future__ import annotations

import gc
from fractions import Fraction
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore
from crdtbucket.errors import CrdtbucketError
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.specs import SECOND, bucket_of

SLOTS = 4096
MINUTE = 60 * SECOND
FAST, SLOW = BucketSpec("b", 100, 100), BucketSpec("b", 100, 1)


def test_the_same_definition_again_changes_nothing() -> None:
    bucket = bucket_of(FAST)
    bucket.take("k", 60)
    debt = bucket.debt("k")
    for _ in range(2 * SLOTS):
        bucket.define(BucketSpec("b", 100, 6_000, "1m"))
    assert bucket.table.definitions.made == 1
    assert bucket.debt("k") == debt


def test_nobody_waits_while_a_definition_is_read() -> None:
    """Else a fork in another thread would leave its child at a held lock, for ever."""
    bucket = bucket_of(FAST)
    waited: list[bool] = []

    class Spec(BucketSpec):
        @property
        def emission(self) -> tuple[int, int]:
            other = Thread(target=bucket.table.verify)
            other.start()
            other.join(60)
            waited.append(other.is_alive())
            return super().emission

    again = BucketCore(bucket.table, Spec("b", 10, 1))
    again.define(Spec("b", 20, 1))
    assert waited
    assert not any(waited)


@pytest.mark.parametrize("way", ["define", "stage"])
def test_nobody_waits_while_a_definition_is_refused(way: str) -> None:
    """The error is an object: making it may run the garbage collector, and that the code of the
    program, which may take a key."""
    bucket = bucket_of(FAST)
    definitions = bucket.table.definitions
    for number in range(SLOTS - 1):
        definitions.define(BucketSpec(f"b{number}", 5, 1))
    before = definitions.current()
    waited: list[bool] = []

    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            other = Thread(target=bucket.table.verify, daemon=True)
            other.start()
            other.join(10)
            waited.append(other.is_alive())

    class Spec(BucketSpec):
        @property
        def period(self) -> None:
            """It is read last of all."""
            Garbage()
            gc.enable()
            gc.set_threshold(1)

    spec, thresholds = Spec("b0" if way == "stage" else "late", 6, 1), gc.get_threshold()
    gc.disable()
    try:
        with pytest.raises(CrdtbucketError, match="are in use, or were within the last minute"):
            definitions.define(spec) if way == "define" else definitions.stage(spec, 1)
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    gc.collect()
    assert waited
    assert not any(waited)
    assert definitions.current() == before
    bucket.table.verify()


def test_many_changes_use_up_no_slots_of_definitions() -> None:
    bucket = bucket_of(FAST)
    for change in range(3 * SLOTS):
        bucket.table.set_time(change * MINUTE)
        bucket.take("k", 10)
        bucket.define((SLOW, FAST)[change % 2])
    assert bucket.table.definitions.made == 3 * SLOTS + 1
    assert bucket.table.definitions.free >= SLOTS - 3
    assert len(bucket.table.definitions.all()) <= 3


def test_no_slot_left_is_refused_and_changes_nothing() -> None:
    bucket = bucket_of(FAST)
    bucket.take("k", 60)
    for change in range(SLOTS - 1):
        bucket.define((SLOW, FAST)[change % 2])
    assert bucket.table.definitions.free == 0
    before = bucket.spec
    with pytest.raises(CrdtbucketError, match="4096 definitions are in use"):
        bucket.define(BucketSpec("b", 7, 7))
    assert bucket.spec is before
    assert bucket.peek("k").remaining == 40
    bucket.table.set_time(MINUTE)
    bucket.define(BucketSpec("b", 7, 7))
    assert bucket.peek("k").limit == 7


def test_a_decision_keeps_its_numbers_for_a_minute() -> None:
    bucket = bucket_of(FAST)
    seen = bucket.take("k", 60)
    bucket.define(SLOW)
    bucket.peek("k")
    bucket.table.set_time(MINUTE - 1)
    bucket.define(BucketSpec("b", 7, 7))
    assert (seen.limit, seen.remaining) == (100, 40)


def test_a_slot_that_keys_still_need_is_not_taken() -> None:
    """`old` was not touched since the first of three: it passes through the second."""
    bucket = bucket_of(FAST)
    bucket.settle("old", 200)
    bucket.define(SLOW)
    bucket.table.set_time(MINUTE)
    bucket.define(FAST)
    bucket.table.set_time(2 * MINUTE)
    other = BucketCore(bucket.table, BucketSpec("other", 5, 5))
    other.take("x", 5)
    assert bucket.table.definitions.made == 4 == len(bucket.table.definitions.all())
    bucket.table.set_time(MINUTE + SECOND // 2)
    assert bucket.peek("old", 1).debt == (140 * SECOND // 100) - SECOND // 2


def test_counters_go_on_under_a_new_definition() -> None:
    bucket = bucket_of(FAST)
    bucket.take("k", 60)
    bucket.take("k", 60)
    bucket.define(SLOW)
    bucket.take("k", 10)
    counters = bucket.counters()
    assert (counters["allowed"], counters["denied"], counters["granted"]) == (2, 1, 70)


def test_peers_learn_when_a_slot_gets_another_definition() -> None:
    bucket = bucket_of(FAST)
    roster = Roster(bucket.table, "a")
    tables, _ = roster.announced()
    bucket.define(SLOW)
    bucket.table.set_time(MINUTE)
    other = BucketCore(bucket.table, BucketSpec("other", 5, 5))
    assert len(bucket.table.definitions.all()) == 2
    after, _ = roster.announced()
    assert after.version == tables.version + 1
    assert after.definitions[0][0] == other.name_hash


specs = st.sampled_from([FAST, SLOW, BucketSpec("b", 100, 7), BucketSpec("b", 200, 30)])


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from("xyz"), st.integers(1, 50), specs),
        max_size=40,
    )
)
def test_keys_follow_through_every_change_however_slots_are_used(
    steps: list[tuple[int, str, int, BucketSpec]],
) -> None:
    """Against one level a key in exact tokens; other buckets take slots in between."""
    bucket = bucket_of(FAST)
    owed: dict[str, Fraction] = dict.fromkeys("xyz", Fraction(0))
    now = loosest = 0
    for number, (seconds, key, tokens, spec) in enumerate(steps):
        now += seconds * SECOND
        rate = Fraction(bucket.spec.refill_rate, bucket.spec.interval_ns)
        owed = {k: max(Fraction(0), v - rate * seconds * SECOND) for k, v in owed.items()}
        bucket.table.set_time(now)
        owed[key] += bucket.settle(key, tokens)
        BucketCore(bucket.table, BucketSpec(f"other-{number}", 5, 5))
        bucket.define(spec, min_debt=10_000)
        loosest += spec.interval_ns // spec.refill_rate + 2
    for key, tokens in owed.items():
        if bucket.debt(key) is not None:
            q, p = bucket.spec.emission
            exact = tokens * q / p
            assert exact <= bucket.peek(key).debt <= exact + loosest
