"""The highest of the last one to two minutes."""

from __future__ import annotations

from crdtbucket.base.windowed_maximum import MINUTE_NS, WindowedMaximum


def test_a_number_is_kept_for_one_to_two_minutes() -> None:
    seen = WindowedMaximum()
    seen.add(5, MINUTE_NS - 1)
    assert [seen.highest(t * MINUTE_NS - 1) for t in (1, 2)] == [5, 5]
    assert seen.highest(2 * MINUTE_NS) == 0


def test_the_highest_of_both_minutes_counts() -> None:
    seen = WindowedMaximum()
    for minute, number in enumerate([9, 3, 4, 1]):
        seen.add(number, minute * MINUTE_NS)
        seen.add(1, minute * MINUTE_NS + 1)
        assert seen.highest(minute * MINUTE_NS + 2) == [9, 9, 4, 4][minute]


def test_a_longer_gap_forgets() -> None:
    seen = WindowedMaximum()
    seen.add(9, 0)
    seen.add(1, 5 * MINUTE_NS)
    assert seen.highest(5 * MINUTE_NS) == 1
