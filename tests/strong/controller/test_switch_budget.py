"""Two times stand for all switches there ever were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.strong.controller.switch_budget import SwitchBudget
from tests.strong.controller_world import within_budget

GAP = 100


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 0, 1, 30, 50, 99, 100, 101, 350]), st.booleans()), max_size=25
    )
)
def test_there_is_room_exactly_when_all_switches_so_far_leave_it(
    waits: list[tuple[int, bool]],
) -> None:
    now, budget, times = 0, SwitchBudget(GAP, 0), []
    for wait, two in waits:
        now += wait
        assert (now >= budget.one_at) == within_budget([*times, now], GAP)
        both = within_budget([*times, now, now], GAP) and now >= budget.one_at
        assert (now >= budget.two_at) == both
        if now >= (budget.two_at if two else budget.one_at):
            for _ in range(1 + two):
                assert now >= budget.one_at
                budget.spend(now)
                times.append(now)
    assert within_budget(times, GAP)


def test_three_at_once_then_two_a_gap() -> None:
    budget, times = SwitchBudget(GAP, 0), []
    for now in range(10 * GAP + 1):
        while now >= budget.one_at and len(times) < 50:
            budget.spend(now)
            times.append(now)
    assert times == [0, 0, 0] + [at for k in range(1, 11) for at in (k * GAP, k * GAP)]


def test_without_a_gap_there_is_always_room() -> None:
    budget = SwitchBudget(0, 5)
    for _ in range(9):
        budget.spend(5)
        assert budget.one_at <= budget.two_at <= 5
