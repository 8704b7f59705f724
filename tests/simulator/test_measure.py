from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.simulator.measure import Ideal, OverAdmission, Starvation, share_range
from crdtbucket.simulator.run_settings import NS, Settings

SETTINGS = Settings(capacity=100, refill_rate=100)
HISTORY = st.lists(
    st.tuples(st.integers(0, 300_000_000), st.integers(0, 60)), min_size=1, max_size=25
)


@given(HISTORY)
def test_over_admission_is_the_worst_of_all_windows(history: list[tuple[int, int]]) -> None:
    over_admission, takes, now = OverAdmission(SETTINGS), [], 0
    for gap, tokens in history:
        now += gap
        takes.append((now, tokens))
        over_admission.add(now, tokens)
    worst = max(
        sum(n for _, n in takes[first : last + 1])
        - Fraction(takes[last][0] - takes[first][0], NS) * 100
        for first in range(len(takes))
        for last in range(first, len(takes))
    )
    if any(n for _, n in takes):
        assert over_admission.tokens() == pytest.approx(float(worst - 100), abs=1e-9)


@given(HISTORY)
def test_ideal_never_exceeds_and_never_denies_what_fits(history: list[tuple[int, int]]) -> None:
    ideal, over_admission = Ideal(SETTINGS), OverAdmission(SETTINGS)
    level, now = Fraction(100), 0
    for gap, calls in history:
        now += gap
        level = min(Fraction(100), level + Fraction(gap, NS) * 100)
        passed = ideal.offer(now, calls, 1)
        assert passed == min(calls, level // 1)
        level -= passed
        over_admission.add(now, passed)
    assert over_admission.tokens() <= 0


def test_ideal_counts_tokens_of_costly_calls() -> None:
    ideal = Ideal(SETTINGS)
    assert ideal.offer(0, 5, 30) == 3
    assert ideal.admitted == 90
    assert ideal.offer(199_999_999, 1, 30) == 0
    assert ideal.offer(200_000_000, 1, 30) == 1


def test_time_starved_runs_between_admissions_and_while_demand_lasts() -> None:
    starvation = Starvation(3)
    for node in range(3):
        starvation.demand(node, True, 0)
    starvation.admitted(0, 4)
    starvation.admitted(0, 9)
    starvation.demand(1, False, 3)
    starvation.demand(1, True, 7)
    starvation.demand(1, True, 8)
    starvation.finish(12)
    assert starvation.worst_ns == [5, 5, 12]


def test_shares_are_by_demand_and_none_without_any() -> None:
    assert share_range([10, 30, 0], [10, 10, 0]) == (400 / 600, 2.0)
    assert share_range([0, 0], [0, 0]) == (None, None)
    assert share_range([5, 0], [0, 0]) == (None, None)
