"""The age of a frame, by the clocks of two nodes that only run at the same speed."""

from __future__ import annotations

import random

import pytest

from crdtbucket.mesh.protocol.clock_watch import DRIFT_PPM, MOST_NS
from crdtbucket.mesh.protocol.travel_times import (
    HALF_WINDOW_NS,
    HELD_UP_NS,
    MINUTE_NS,
    TravelTimes,
    WindowedMaximum,
)

MS = 1_000_000
SECOND = 1_000 * MS
STEP = 100 * MS


class Pair:
    """A peer whose clock is ahead, and runs fast; frames take as long as a test says."""

    def __init__(self, ahead: int = 0, ppm: int = 0) -> None:
        self.travel, self.ahead, self.ppm = TravelTimes(), ahead, ppm

    def frame(self, at: int, back: int, there: int | None = None) -> int:
        """The age of a frame that comes at `at`, after so long; `there`: of the frame before it in
        the round trip, None for none."""
        sent = at - back
        trip = None if there is None else there + back
        return self.travel.age(sent + self.ahead + sent * self.ppm // 1_000_000, trip, at)

    def steady(self, start: int, seconds: int, back: int = 40 * MS) -> int:
        """Frames each 100 ms; returns the time after."""
        for at in range(start, start + seconds * SECOND, STEP):
            self.frame(at, back, 40 * MS)
        return start + seconds * SECOND


AHEADS = [0, 3600 * SECOND, -3600 * SECOND]


@pytest.mark.parametrize("ahead", AHEADS)
def test_before_a_round_trip_the_first_frame_is_no_older_than_the_quickest(ahead: int) -> None:
    pair = Pair(ahead)
    assert pair.frame(SECOND, 70 * MS) == 0
    assert pair.frame(2 * SECOND, 90 * MS) == pytest.approx(20 * MS, abs=2 * MS)
    assert pair.frame(3 * SECOND, 40 * MS) == 0


@pytest.mark.parametrize("ahead", AHEADS)
@pytest.mark.parametrize("late", [0, 1, 500, 2_900, 8_000])
def test_what_is_late_is_so_much_older(ahead: int, late: int) -> None:
    pair = Pair(ahead)
    at = pair.steady(0, 5)
    age = pair.frame(at + late * MS, (40 + late) * MS, 40 * MS)
    assert age == pytest.approx((40 + late) * MS, abs=10 * MS)


def test_the_way_there_makes_nothing_older() -> None:
    """Half of the round trip would be a second and a half."""
    pair = Pair()
    at = pair.steady(0, 5)
    assert pair.frame(at, 40 * MS, 3 * SECOND) == 40 * MS


def test_a_round_trip_is_usual_up_to_so_much_more_than_the_smallest() -> None:
    pair = Pair()
    pair.frame(SECOND, 40 * MS, 40 * MS)
    assert pair.travel.is_usual(80 * MS + HELD_UP_NS)
    assert not pair.travel.is_usual(80 * MS + HELD_UP_NS + 1)


def test_the_age_is_right_while_a_link_drains() -> None:
    pair = Pair()
    at = pair.steady(0, 5)
    for passed in range(0, 6 * SECOND, STEP):
        late = 3 * SECOND - passed // 2
        age = pair.frame(at + passed, 40 * MS + late, 40 * MS + late)
        assert age == pytest.approx(40 * MS + late, abs=15 * MS)


@pytest.mark.parametrize("ppm", [-1_000, -400, -16, 16, 400, 1_000])
def test_a_drift_of_a_thousandth_makes_nothing_late(ppm: int) -> None:
    """A millisecond a minute, which is 17 millionths, would make each frame of two clocks 400 ppm
    apart 12 to 24 ms late."""
    pair = Pair(ppm=ppm)
    for at in range(0, 300 * SECOND, STEP):
        age = pair.frame(at, 40 * MS, 40 * MS)
        assert age == pytest.approx(40 * MS, abs=MS // 2)


@pytest.mark.parametrize("ppm", [-400, 400])
def test_a_long_silence_is_no_window(ppm: int) -> None:
    """The first frames after it are late, and must not be measured by themselves."""
    pair = Pair(ppm=ppm)
    at = pair.steady(0, 100) + 300 * SECOND
    drifted = 320 * SECOND * 1_400 // 1_000_000
    for passed in range(0, HALF_WINDOW_NS // 2, STEP):
        age = pair.frame(at + passed, 3 * SECOND, 40 * MS)
        assert 3 * SECOND - drifted <= age <= 3 * SECOND + 40 * MS


def test_a_way_that_became_longer_is_not_late_for_ever() -> None:
    pair = Pair()
    at = pair.steady(0, 100)
    assert pair.frame(at, 240 * MS, 40 * MS) > 200 * MS
    at = pair.steady(at, 2 * HALF_WINDOW_NS // SECOND, 240 * MS)
    assert pair.frame(at, 240 * MS, 40 * MS) == 140 * MS


@pytest.mark.parametrize("by", [-3600 * SECOND, -2 * SECOND, 2 * SECOND, 3600 * SECOND])
def test_no_frame_is_older_than_the_round_trip_that_ends_with_it(by: int) -> None:
    """The peer's clock jumps: it sends nothing from the past."""
    pair = Pair()
    at = pair.steady(0, 100)
    pair.ahead += by
    for passed in range(0, 100 * SECOND, STEP):
        assert 40 * MS <= pair.frame(at + passed, 40 * MS, 40 * MS) <= 80 * MS


def test_nonsense_moves_nothing() -> None:
    pair = Pair()
    at = pair.steady(0, 5)
    for sent in (2**63 - 1, -(2**63)):
        assert pair.travel.age(sent, None, at) == 40 * MS
    assert pair.frame(at, 540 * MS, 40 * MS) == pytest.approx(540 * MS, abs=10 * MS)


@pytest.mark.parametrize("seed", range(10))
def test_an_age_is_off_by_what_the_quickest_frames_took_at_most(seed: int) -> None:
    """Any delays on ways of any length, any offset and drift, and any pauses in between."""
    rng = random.Random(seed)
    pair, at = Pair(rng.randrange(-(10**15), 10**15), rng.randrange(-1_000, 1_000)), 0
    there, back = rng.randrange(1, 400) * MS, rng.randrange(1, 400) * MS
    pair.frame(at, back, there)
    for _ in range(500):
        gap = rng.choice([10 * MS, STEP, 10 * SECOND])
        at += gap
        late = rng.choice([0, 0, rng.randrange(5 * SECOND)])
        after = rng.choice([0, rng.randrange(5 * SECOND)])
        age, true = pair.frame(at, back + late, there + after), back + late
        if not late and not after:
            assert abs(age - true) <= max(there, back)
        since = 2 * (2 * HALF_WINDOW_NS + 10 * SECOND) // 1_000
        assert true - age <= max(there, back) + since
        assert age <= true + there + after


def test_the_quickest_frame_counts_to_the_end_of_the_half_minute_after_its_own() -> None:
    def late(at: int) -> int:
        """How late a frame is that took 90 ms and comes at `at`, after one that took 40 ms and,
        half a minute later, two that took 70 ms and came together. The peer's clock runs slow by
        as much as is allowed for."""
        travel = TravelTimes()
        arrivals = [(0, 40 * MS), *[(HALF_WINDOW_NS, 70 * MS)] * 2, (at, 90 * MS)]
        ages = [
            travel.age(now - took - now * DRIFT_PPM // 1_000_000, None, now)
            for now, took in arrivals
        ]
        assert ages[:3] == [0, 30 * MS, 30 * MS]
        return ages[3]

    assert late(2 * HALF_WINDOW_NS - 1) == 50 * MS
    assert late(2 * HALF_WINDOW_NS) == 20 * MS


def test_what_two_clocks_may_drift_apart_is_not_late_to_the_nanosecond() -> None:
    travel = TravelTimes()
    assert travel.age(0, None, 0) == 0
    drift = 29 * SECOND * DRIFT_PPM // 1_000_000
    assert travel.age(29 * SECOND - drift - 7, None, 29 * SECOND) == 7


def test_a_time_that_no_clock_shows_makes_nothing_late_and_the_last_possible_one_does() -> None:
    for sign in (-1, 1):
        travel = TravelTimes()
        assert travel.age(SECOND - sign * (MOST_NS - 5), None, SECOND) == 0
        assert travel.age(SECOND - sign * MOST_NS, None, SECOND) == max(0, 5 * sign)
    # Nor does one that is as far before zero as the own clock is after it.
    travel, now = TravelTimes(), 3 * MOST_NS // 4
    assert travel.age(0, None, now) == travel.age(-now, None, now) == 0


def test_half_of_an_odd_round_trip_is_a_whole_number_of_nanoseconds() -> None:
    travel = TravelTimes()
    assert travel.is_usual(HELD_UP_NS)
    assert not travel.is_usual(
        HELD_UP_NS + 1
    )  # as if the smallest took nothing, before there is one
    for trip in (41, None):
        age = travel.age(0, trip, 0)
        assert (age, type(age)) == (20, int)


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


def test_what_was_not_seen_is_no_number() -> None:
    seen = WindowedMaximum()
    assert seen.highest(0) == 0
    for minute in (0, 1, 5):
        seen.add(0, minute * MINUTE_NS)
        assert seen.highest(minute * MINUTE_NS) == 0


def test_the_minute_before_the_last_in_which_anything_was_seen_counts_no_more() -> None:
    seen = WindowedMaximum()
    seen.add(9, 0)
    seen.add(3, MINUTE_NS)
    assert [seen.highest(at) for at in (2 * MINUTE_NS - 1, 2 * MINUTE_NS)] == [9, 3]
