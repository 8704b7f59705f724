"""Latencies by their upper bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.base.histogram import BOUNDS_S, Histogram


def test_a_bound_belongs_to_what_is_at_most_it() -> None:
    seen = Histogram()
    for ns in (0, 250_000, 250_001, 20_000_000, 20_000_001, 2_500_000_000, 2_500_000_001):
        seen.add(ns)
    at_most = dict(seen.cumulative())
    assert (at_most[0.00025], at_most[0.0005]) == (2, 3)
    assert (at_most[0.01], at_most[0.02], at_most[0.05]) == (3, 4, 5)
    assert (at_most[2.5], at_most[None]) == (6, 7)


@given(st.lists(st.integers(0, 10**11), max_size=50))
def test_it_is_what_counting_says(latencies: list[int]) -> None:
    seen = Histogram()
    for ns in latencies:
        seen.add(ns)
    assert seen.cumulative() == [
        (bound, sum(ns <= bound * 1e9 for ns in latencies)) for bound in BOUNDS_S
    ] + [(None, len(latencies))]
    assert seen.sum_ns == sum(latencies)
