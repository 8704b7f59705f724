"""The buckets that the oracle compares with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.truth import IdealBucket, LateBucket

SECOND = 10**9
SPEC = BucketSpec("b", 100, 10)


@given(st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 60)), max_size=30))
def test_a_bucket_that_is_not_late_is_the_ideal_one(calls: list[tuple[int, int]]) -> None:
    late, ideal, now = LateBucket(IdealBucket(SPEC), 0), IdealBucket(SPEC), 0
    for after, number in calls:
        now += after + 1
        assert late.admits(number, 2, now) == ideal.admits(number, 2, now)


def test_what_was_taken_lately_has_not_refilled() -> None:
    bucket = LateBucket(IdealBucket(SPEC), SECOND)
    assert bucket.admits(120, 1, 10 * SECOND) == 100
    assert bucket.admits(1, 1, 11 * SECOND - 1) == 0
    assert bucket.admits(20, 1, 12 * SECOND) == 10


def test_a_light_load_is_given_by_a_late_bucket_that_holds_what_comes_meanwhile() -> None:
    bucket = LateBucket(IdealBucket(SPEC), 9 * SECOND)
    for second in range(100):
        assert bucket.admits(9, 1, second * SECOND) == 9


def test_a_bucket_that_is_too_late_denies_a_light_load() -> None:
    bucket = LateBucket(IdealBucket(SPEC), 20 * SECOND)
    assert sum(bucket.admits(9, 1, second * SECOND) for second in range(100)) < 900
