"""The number of calls in flight, at a server whose answers take the time that a model says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.strong.window import LEAST, MOST, START, Window

MS = 1_000_000
US = 1_000
SPARE = 5 * MS


def play(window: Window, trip: int, each: int, rounds: int) -> None:
    """`rounds` windows of calls, all written at once to a server that needs `each` ns for one."""
    for _ in range(rounds):
        size = window.size
        for place in range(1, size + 1):
            window.answered(trip + place * each)


def test_a_server_that_is_busy_with_our_calls_gets_fewer() -> None:
    window = Window(SPARE)
    window.answered(300 * US)
    play(window, 100 * US, 200 * US, 20)
    assert LEAST <= window.size * 200 * US <= 2 * SPARE


def test_a_distant_server_gets_more() -> None:
    window = Window(SPARE)
    play(window, 40 * MS, 2 * US, 60)
    assert window.size == MOST


def test_a_server_that_becomes_slow_for_good_is_not_starved() -> None:
    window = Window(SPARE)
    play(window, 100 * US, 5 * US, 10)
    play(window, 60 * MS, 5 * US, 16)
    assert window.size == LEAST
    play(window, 60 * MS, 5 * US, 400)
    assert window.size > START


@given(
    st.integers(10 * US, 80 * MS),
    st.integers(1 * US, 2 * MS),
    st.integers(1, 100),
)
def test_it_stays_within_its_bounds(trip: int, each: int, rounds: int) -> None:
    window = Window(SPARE)
    play(window, trip, each, rounds)
    assert LEAST <= window.size <= MOST


@pytest.mark.parametrize("stalls", [1, 3])
def test_a_stall_is_soon_forgotten(stalls: int) -> None:
    window = Window(SPARE)
    play(window, 100 * US, 5 * US, 10)
    before = window.size
    play(window, 50 * MS, 5 * US, stalls)
    assert window.size < before
    play(window, 100 * US, 5 * US, 10)
    assert window.size >= before


def test_it_changes_once_for_each_window_of_answers() -> None:
    window = Window(SPARE)
    for size in (START, START * 5 // 4, START * 25 // 16):
        window.answered(MS, size - 1)
        assert window.size == size
        window.answered(MS)
    assert window.size == START * 125 // 64


@pytest.mark.parametrize(("late", "size"), [(SPARE, START * 5 // 4), (SPARE + 1, START * 3 // 4)])
def test_answers_that_waited_for_more_than_is_to_spare_make_it_smaller(
    late: int, size: int
) -> None:
    window = Window(SPARE)
    window.answered(MS)
    window.answered(MS + late, START - 1)
    assert window.size == size


@pytest.mark.parametrize(("late", "size"), [(SPARE, 60), (SPARE + 1, 36)])
def test_with_each_window_the_quickest_comes_nearer_by_a_thirty_second(
    late: int, size: int
) -> None:
    window = Window(SPARE)
    window.answered(MS)
    window.answered(33 * MS, START - 1)
    assert window.size == START * 3 // 4
    window.answered(2 * MS + late, window.size)
    assert window.size == size
