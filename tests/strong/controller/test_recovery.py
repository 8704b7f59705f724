"""What is asked of an endpoint that was left, and who may ask it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.strong.controller.recovery import Probes, Recovery


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
    assert probes.claim(1_150)  # the first never told its end


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
