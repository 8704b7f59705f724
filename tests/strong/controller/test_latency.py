"""The rolling quantile, compared with one from a list of all answers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.strong.controller.latency import SLOTS, LatencyMeter

MS = 1_000_000
WINDOW = 1_000 * MS
SLOT = WINDOW // SLOTS


class NaiveMeter:
    """A meter that keeps all answers, and counts the window, the streak and the last fifth from
    these."""

    def __init__(self, quantile: str, least: int) -> None:
        self.quantile, self.least = Fraction(quantile), least
        self.answers: list[tuple[int, bool]] = []

    def window(self, slot: int, slots: int, count: int) -> list[bool]:
        first = slot - slots + 1
        return [slow for at, slow in self.answers[:count] if first <= at // SLOT <= slot]

    def over(self, answers: list[bool]) -> bool:
        """Whether the quantile by nearest rank, of slow = 1 and quick = 0, is 1."""
        ranked = sorted(answers)
        rank = -(-self.quantile * len(ranked) // 1)
        return bool(ranked) and ranked[max(1, rank) - 1]

    def count(self, now: int, slow: bool) -> bool:
        self.answers.append((now, slow))
        # At each start of a slot and each answer, in order: is the window's quantile too high?
        moments = [
            (at, self.window(at // SLOT, SLOTS, n + 1)) for n, (at, _) in enumerate(self.answers)
        ]
        first = self.answers[0][0] // SLOT
        for slot in range(first + 1, now // SLOT + 1):
            known = sum(at < slot * SLOT for at, _ in self.answers)
            moments.append((slot * SLOT, self.window(slot, SLOTS, known)))
        since = None
        for at, answers in sorted(moments, key=lambda moment: (moment[0], len(moment[1]))):
            if not self.over(answers):
                since = None
            elif since is None:
                since = at
        all_now = self.window(now // SLOT, SLOTS, len(self.answers))
        last = self.window(now // SLOT, SLOTS // 5, len(self.answers))
        long = since is not None and now - since >= WINDOW
        return long and len(all_now) >= self.least and self.over(last)


@given(
    st.sampled_from(["0.5", "0.9", "0.99"]),
    st.integers(1, 6),
    st.lists(
        st.tuples(
            st.sampled_from([1, 49, 50, 51, 120, 199, 350, 500, 501, 990, 1_000, 1_001]),
            st.booleans(),
        ),
        max_size=40,
    ),
)
def test_it_is_what_a_list_of_all_answers_says(
    quantile: str, least: int, answers: list[tuple[int, bool]]
) -> None:
    meter, naive, now = LatencyMeter(WINDOW, float(quantile), least), NaiveMeter(quantile, least), 0
    for wait, slow in answers:
        now += wait * MS
        assert meter.count(now, slow) == naive.count(now, slow)
        window = naive.window(now // SLOT, SLOTS, len(naive.answers))
        assert (meter.total, meter.slow) == (len(window), sum(window))


def test_what_leaves_the_window_ends_the_streak_between_two_answers() -> None:
    meter = LatencyMeter(WINDOW, 0.9, 1)
    assert not meter.count(0, slow=True)
    assert not meter.count(700 * MS, slow=False)
    # From 1,000 to 1,050 ms the quick answer was alone in the window.
    assert not meter.count(1_050 * MS, slow=True)
    assert not meter.count(2_049 * MS, slow=True)
    assert meter.count(2_050 * MS, slow=True)


def test_enough_quick_answers_end_the_streak_of_slow_ones() -> None:
    meter = LatencyMeter(WINDOW, 0.5, 1)
    meter.count(0, slow=True)
    assert meter.over
    meter.count(0, slow=False)
    assert not meter.over


def test_what_leaves_the_window_begins_the_streak_between_two_answers() -> None:
    meter = LatencyMeter(WINDOW, 0.9, 1)
    for at, slow in [(0, False)] * 10 + [(100, True), (1_080, True)]:
        assert not meter.count(at * MS, slow)
    # From 1,000 ms on the quick answers were out of it.
    assert not meter.count(1_999 * MS, slow=True)
    assert meter.count(2_000 * MS, slow=True)


def test_a_spike_is_not_found_for_as_long_as_it_is_in_the_window() -> None:
    meter = LatencyMeter(WINDOW, 0.9, 1)
    assert not any(meter.count(at * MS, slow=200 <= at < 400) for at in range(0, 3_000, 10))


@pytest.mark.parametrize("offset", [0, 1, SLOT - 1, 12_345_678_901])
@pytest.mark.parametrize("gap", [1, 10, 99])
def test_a_steady_slowness_is_found_after_one_window(offset: int, gap: int) -> None:
    meter = LatencyMeter(WINDOW, 0.99, 10)
    times = range(offset, offset + 2 * WINDOW, gap * MS)
    found = next(now for now in times if meter.count(now, slow=True))
    assert WINDOW <= found - offset < WINDOW + gap * MS


def test_slowness_after_much_that_was_quick_is_found_as_soon_as_a_hundredth_is_slow() -> None:
    meter = LatencyMeter(WINDOW, 0.99, 10)
    assert not any(meter.count(at * MS, slow=False) for at in range(5_000))
    found = next(at for at in range(5_000, 10_000) if meter.count(at * MS, slow=True))
    assert 6_000 <= found <= 6_011


def test_exactly_the_share_that_may_be_slow_is_not_over() -> None:
    meter = LatencyMeter(WINDOW, 0.9, 1)
    assert not any(meter.count(at * MS, slow=at % 10 == 0) for at in range(1, 5_000))
    meter = LatencyMeter(WINDOW, 0.9, 1)
    assert any(meter.count(at * MS, slow=at % 9 == 0) for at in range(1, 5_000))


def test_a_pause_forgets_and_clear_forgets() -> None:
    meter = LatencyMeter(WINDOW, 0.99, 1)
    meter.count(0, slow=True)
    assert not meter.count(10 * WINDOW, slow=True)
    assert meter.total == 1
    for _ in range(2):
        assert not any(meter.count((10_000 + at) * MS, slow=True) for at in range(990))
        meter.clear()
    assert meter.total == meter.slow == 0


def test_a_long_pause_costs_nothing() -> None:
    meter = LatencyMeter(WINDOW, 0.99, 1)
    assert not meter.count(10**18, slow=True)
    assert not meter.count(4 * 10**18, slow=True)
