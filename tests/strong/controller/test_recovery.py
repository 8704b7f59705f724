"""Probes of an endpoint that was left, and who may send them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.strong.controller.recovery import Probes, Recovery, SwitchBudget
from tests.strong.controller_world import within_budget


def test_quick_and_alive_begin_with_their_first_answer() -> None:
    seen = Recovery(0.9)
    assert (seen.alive_since, seen.quick_since) == (None, None)
    seen.answered(10, slow=True)
    assert (seen.alive_since, seen.quick_since) == (10, None)
    seen.answered(20, slow=False)
    seen.answered(30, slow=False)
    assert (seen.alive_since, seen.quick_since, seen.answers) == (10, 20, 2)
    seen.clear()
    assert (seen.alive_since, seen.quick_since, seen.answers) == (None, None, 0)


def test_as_many_may_be_slow_as_the_quantile_says() -> None:
    seen = Recovery(0.9)
    for at in range(9):
        seen.answered(at, slow=False)
    seen.slowed()  # 1 of 10
    assert seen.quick_since == 0
    seen.answered(11, slow=True)  # 2 of 11
    assert (seen.alive_since, seen.quick_since, seen.answers) == (0, None, 0)


@given(st.lists(st.booleans(), max_size=60), st.sampled_from([50, 75, 90]))
def test_what_is_quick_holds_its_quantile(slows: list[bool], percent: int) -> None:
    seen = Recovery(percent / 100)
    for at, slow in enumerate(slows):
        seen.answered(at, slow)
        if seen.quick_since is not None:
            run = slows[seen.quick_since : at + 1]
            assert seen.answers == len(run)
            assert 100 * sum(run) <= (100 - percent) * len(run)


def test_one_caller_gets_the_probe_that_is_due() -> None:
    probes = Probes(100, 1_000)
    assert probes.due_at() == 100
    probes.start(50)
    assert not probes.claim(149)
    assert probes.claim(150)
    assert not probes.claim(150)
    assert not probes.claim(1_149)
    assert probes.claim(1_150)  # the first never reported its end


def test_probes_grow_rare_while_they_fail_and_frequent_when_one_is_answered() -> None:
    probes, now, gaps = Probes(100, 1_000), 0, []
    probes.start(0)
    for good in (False, False, False, False, False, True, False):
        gaps.append(probes.due_at() - now)
        now = probes.due_at()
        assert probes.claim(now)
        probes.ended(good)
    gaps.append(probes.due_at() - now)
    assert gaps == [100, 200, 400, 800, 1_000, 1_000, 100, 200]


def test_calls_of_before_make_probes_no_rarer() -> None:
    probes = Probes(100, 1_000)
    probes.start(0)
    for _ in range(50):
        probes.ended(good=False)
    assert probes.due_at() == 100


def test_a_new_server_is_asked_at_once() -> None:
    probes = Probes(100, 1_000)
    probes.start(0)
    assert probes.claim(100)
    probes.ended(good=False)
    probes.hurry(150)
    assert probes.claim(150)
    assert not probes.claim(151)


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
