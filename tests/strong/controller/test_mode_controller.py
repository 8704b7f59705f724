"""Which mode follows from the outcomes of calls, and how soon, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.mode_controller import Controller
from crdtbucket.strong.controller.outage import Failure
from crdtbucket.strong.controller.recovery import ReturnOutlook
from tests.strong.controller_world import MS, ControllerWorld, S, good_until, within_budget

MINUTE = 60 * S
GAPS = [MS, 7 * MS, 40 * MS, 100 * MS]
STRONG, EVENTUAL, FALLBACK = Mode.STRONG, Mode.EVENTUAL, Mode.FALLBACK


# -- slow


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("latency", [21 * MS, 49 * MS, 60 * MS, 400 * MS])
def test_slow_answers_lead_to_eventual_soon_after_the_evidence(gap: int, latency: int) -> None:
    start = 5 * S
    world = ControllerWorld(good_until(start, latency))
    world.callers(gap, 0, 10 * S)
    (change,) = world.run(10 * S)
    # The p99 is over 20 ms once 1 % of the window is, which the first slow answers (or deadlines)
    # show.
    over = start + gap + 10 * MS + min(latency, 50 * MS)
    assert change.after is EVENTUAL
    assert over + S - gap - 10 * MS <= change.at_ns <= over + S + 100 * MS
    assert "p99 must be within 20 ms" in change.reason


def test_a_latency_at_the_limit_is_not_over_it() -> None:
    world = ControllerWorld(lambda _: 20 * MS)
    world.callers(5 * MS, 0, 10 * S)
    assert world.run(20 * S) == []


@pytest.mark.parametrize("spike", [100 * MS, 500 * MS, 790 * MS])
def test_a_spike_changes_nothing(spike: int) -> None:
    world = ControllerWorld(good_until(5 * S, 45 * MS, 5 * S + spike))
    world.callers(2 * MS, 0, 10 * S)
    assert world.run(20 * S) == []


@pytest.mark.parametrize(("one_in", "modes"), [(50, [EVENTUAL]), (200, [])])
def test_it_is_the_quantile_that_counts(one_in: int, modes: list[Mode]) -> None:
    calls = iter(range(1 << 60))
    world = ControllerWorld(lambda _: 45 * MS if next(calls) % one_in == 0 else MS)
    world.callers(MS, 0, 4 * S)
    world.run(4 * S)
    assert world.modes == modes


def test_a_call_that_is_late_counts_once() -> None:
    calls = iter(range(1 << 60))
    world = ControllerWorld(lambda _: 60 * MS if next(calls) % 130 == 0 else MS)
    world.callers(MS, 0, 6 * S)
    assert world.run(6 * S) == []


def test_few_answers_say_nothing_about_latency() -> None:
    world = ControllerWorld(lambda _: 45 * MS)
    world.callers(200 * MS, 0, MINUTE)
    assert world.run(MINUTE) == []


@pytest.mark.parametrize("gap", [3 * MS, 7 * MS, 40 * MS])
@pytest.mark.parametrize("latency", [21 * MS, 25 * MS, 49 * MS, 50 * MS])
def test_alone_an_answer_within_the_deadline_is_worth_more_than_a_quota(
    gap: int, latency: int
) -> None:
    world = ControllerWorld(good_until(S, latency, MINUTE), degraded=FALLBACK)
    world.callers(gap, 0, 70 * S)
    assert world.run(S + 900 * MS) == []
    assert not world.controller.slow
    assert world.run(3 * S) == []
    assert world.controller.slow
    assert "answers within 1 s took over 20 ms" in world.controller.slowness
    assert world.run(MINUTE + 5 * S) == []
    assert world.controller.slow  # not before it has been quick for as long as any return needs
    assert world.run(70 * S) == []
    assert not world.controller.slow


def test_alone_deadlines_that_pass_lead_to_fallback() -> None:
    world = ControllerWorld(good_until(S, 60 * MS, 20 * S), degraded=FALLBACK)
    world.callers(5 * MS, 0, MINUTE)
    world.run(MINUTE)
    assert world.modes == [FALLBACK, STRONG]
    assert 2 * S < world.times[0] <= 2.2 * S
    assert "had no answer by their deadline" in world.changes[0].reason
    with pytest.raises(InvalidSpec, match="eventual or fallback"):
        Controller(ControllerSettings(), 0, STRONG)


@pytest.mark.parametrize(("one_in", "modes"), [(3, []), (1, [FALLBACK])])
def test_alone_it_is_most_of_the_calls_that_count(one_in: int, modes: list[Mode]) -> None:
    calls = iter(range(1 << 60))
    world = ControllerWorld(
        lambda _: 60 * MS if next(calls) % one_in == 0 else MS, degraded=FALLBACK
    )
    world.callers(5 * MS, 0, 10 * S)
    world.run(10 * S)
    assert world.modes == modes


def test_alone_a_server_that_is_slow_after_an_outage_is_strong_again() -> None:
    world = ControllerWorld(
        lambda now: MS if now < S else None if now < 10 * S else 25 * MS, degraded=FALLBACK
    )
    world.callers(5 * MS, 0, MINUTE)
    world.run(MINUTE)
    assert world.modes == [FALLBACK, STRONG]
    assert world.controller.slow


def test_slow_is_said_in_eventual_mode_and_not_of_what_is_gone() -> None:
    world = ControllerWorld(
        lambda now: MS if now < S else 30 * MS if now < 4 * S else None if now < 10 * S else MS
    )
    world.callers(5 * MS, 0, 3 * MINUTE)
    slow = {}
    for at in (S, 3 * S, 6 * S, 3 * MINUTE):
        world.run(at)
        slow[at] = (world.controller.mode, world.controller.slow)
    assert list(slow.values()) == [
        (STRONG, False), (EVENTUAL, True), (FALLBACK, False), (STRONG, False),
    ]  # fmt: skip


def test_slow_but_alive_is_not_gone() -> None:
    world = ControllerWorld(lambda _: 450 * MS)
    world.callers(10 * MS, 0, 5 * MINUTE)
    world.run(5 * MINUTE)
    assert world.modes == [EVENTUAL]


# -- gone


@pytest.mark.parametrize("gap", [*GAPS, 250 * MS])
@pytest.mark.parametrize("outcome", [None, *Failure])
def test_an_outage_leads_to_fallback_within_a_second(outcome: Failure | None, gap: int) -> None:
    start = 5 * S
    world = ControllerWorld(good_until(start, outcome))
    world.callers(gap, 0, 20 * S)
    (change,) = world.run(20 * S)
    assert change.after is FALLBACK
    assert start < change.at_ns <= start + S
    assert change.before is STRONG


def test_what_is_both_slow_and_gone_is_gone() -> None:
    settings = ControllerSettings(latency_window=0.1, least_samples=1, outage_after=0.15)
    controller = Controller(settings, 0)
    controller.asked(0)
    assert controller.timed_out(50 * MS) is None
    assert controller.timed_out(100 * MS) is None
    change = controller.timed_out(150 * MS)
    assert change is not None
    assert change.after is FALLBACK


def test_callers_that_are_refused_together_are_refused_once() -> None:
    controller = Controller(ControllerSettings(), 0)
    for now in range(0, 40 * MS, MS):
        assert controller.failed(now, Failure.REFUSED) is None
    assert controller.failed(50 * MS, Failure.REFUSED) is None
    assert controller.failed(99 * MS, Failure.REFUSED) is None
    assert controller.failed(100 * MS, Failure.REFUSED) is not None


def test_one_good_answer_among_failures_is_no_outage() -> None:
    calls = iter(range(1 << 60))
    world = ControllerWorld(lambda _: MS if next(calls) % 10 == 0 else Failure.SCRIPT)
    world.callers(10 * MS, 0, MINUTE)
    assert world.run(MINUTE) == []


def test_an_idle_endpoint_never_switches_by_itself() -> None:
    world = ControllerWorld(good_until(S, None))
    world.callers(10 * MS, 0, S)
    assert world.run(MINUTE) == []
    assert world.controller.next_tick(world.now) is None
    assert world.controller.tick(10 * MINUTE) is None
    # A lone failure is none either, however long ago.
    assert world.controller.failed(11 * MINUTE, Failure.LOST) is None
    assert world.controller.tick(20 * MINUTE) is None


def test_silence_is_detected_by_time_alone() -> None:
    controller = Controller(ControllerSettings(), 0)
    controller.asked(S)
    assert controller.next_tick(S) == S + 500 * MS
    assert controller.tick(S + 500 * MS - 1) is None
    change = controller.tick(S + 500 * MS)
    assert change is not None
    assert (change.after, controller.mode, change.at_ns) == (FALLBACK, FALLBACK, S + 500 * MS)


def _until(controller: Controller, now: int, latency: int, mode: Mode) -> int:
    """Calls and probes that take so long until a mode is reached; returns when it is."""
    while controller.mode is not mode:
        now += 20 * MS
        if controller.mode is STRONG or controller.probe(now):
            controller.asked(now)
            controller.answered(now, latency)
    return now


def test_an_outage_for_which_there_is_no_room_yet_is_due_when_there_is() -> None:
    spans = ControllerSettings(latency_window=0.1, least_samples=1, outage_after=0.5)
    controller = Controller(spans, 0)
    controller.moved(0)
    now = _until(controller, 0, 30 * MS, EVENTUAL)
    now = _until(controller, now, MS, STRONG)
    now = _until(controller, now, 30 * MS, EVENTUAL)
    for _ in range(2):
        now += 600 * MS
        assert controller.failed(now, Failure.LOST) is None
    now += MINUTE // 3
    due = controller.next_tick(now)
    assert due is not None
    assert now < due <= MINUTE + S
    assert controller.tick(due - 1) is None
    change = controller.tick(due)
    assert change is not None
    assert change.after is FALLBACK


def test_from_slow_to_gone_to_slow() -> None:
    def server(now: int) -> int | None:
        return MS if now < S else None if 4 * S <= now < 10 * S else 30 * MS

    world = ControllerWorld(server)
    world.callers(5 * MS, 0, 3 * MINUTE)
    world.run(3 * MINUTE)
    assert world.modes == [EVENTUAL, FALLBACK, EVENTUAL]
    assert world.times[1] <= 4 * S + S
    assert world.times[2] >= 15 * S
    assert "answered for" in world.changes[2].reason


# -- back


def test_back_after_a_stable_while_with_one_probe_at_a_time() -> None:
    world = ControllerWorld(good_until(5 * S, None, 30 * S))
    world.callers(5 * MS, 0, MINUTE)
    world.run(MINUTE)
    assert world.modes == [FALLBACK, STRONG]
    # The longest pause between probes, the stable while, a probe.
    assert 35 * S <= world.times[1] <= 36 * S + 200 * MS
    assert world.most_open_probes == 1
    gaps = [b - a for a, b in zip(world.probes, world.probes[1:], strict=False)]
    assert min(gaps) >= 100 * MS
    assert len([at for at in world.probes if 10 * S <= at < 30 * S]) <= 20


def test_a_slow_probe_begins_the_stable_while_anew() -> None:
    def server(now: int) -> int | None:
        return None if 5 * S <= now < 10 * S else 30 * MS if 12 * S <= now < 12.2 * S else MS

    world = ControllerWorld(server)
    world.callers(5 * MS, 0, MINUTE)
    world.run(MINUTE)
    assert world.modes == [FALLBACK, STRONG]
    assert 17 * S <= world.times[1] <= 17.5 * S


def test_answers_that_come_a_second_late_are_slow_and_no_return_to_strong() -> None:
    world = ControllerWorld(good_until(S, 900 * MS))
    world.callers(5 * MS, 0, 5 * MINUTE)
    world.run(5 * MINUTE)
    assert world.modes == [FALLBACK, EVENTUAL]
    assert world.times[1] >= 5 * S


def test_a_probe_without_an_answer_is_no_quick_one() -> None:
    calls = iter(range(1 << 60))
    world = ControllerWorld(good_until(S, None))
    world.callers(5 * MS, 0, 2 * S)
    world.run(2 * S)
    world.server = lambda _: MS if next(calls) % 5 else None
    world.run(MINUTE)
    assert world.modes == [FALLBACK]


@pytest.mark.parametrize("failure", Failure)
def test_a_failure_begins_the_stable_while_anew(failure: Failure) -> None:
    world = ControllerWorld(good_until(S, None))
    world.callers(5 * MS, 0, 2 * S)
    world.run(2 * S)
    world.server = lambda now: failure if now // MS % 3_000 < 150 else MS
    world.run(MINUTE)
    assert world.modes == [FALLBACK]


def test_who_is_silent_for_a_while_again_and_again_is_not_alive() -> None:
    """Not by probes that are answered slowly in between."""
    world = ControllerWorld(good_until(S, None))
    world.callers(5 * MS, 0, 2 * S)
    world.run(2 * S)
    assert world.modes == [FALLBACK]
    world.server = lambda now: 30 * MS if now // S % 3 else None
    world.run(MINUTE)
    assert world.modes == [FALLBACK]


@pytest.mark.parametrize("before", [None, Failure.REFUSED, Failure.READONLY])
def test_a_new_primary_is_back_within_three_seconds(before: Failure | None) -> None:
    world = ControllerWorld(good_until(5 * S, before, 20 * S))
    world.callers(5 * MS, 0, MINUTE)
    world.at(20 * S, lambda: world.controller.moved(world.now))
    world.run(MINUTE)
    assert world.modes == [FALLBACK, STRONG]
    assert 21 * S <= world.times[1] <= 21.2 * S


def test_a_failover_that_nobody_noticed_clears_what_was_known() -> None:
    controller = Controller(ControllerSettings(), 0)
    controller.asked(0)
    controller.failed(400 * MS, Failure.LOST)
    controller.moved(450 * MS)
    assert controller.failed(600 * MS, Failure.LOST) is None
    assert controller.next_tick(600 * MS) is None


def test_a_second_failover_soon_after_waits_as_any_return() -> None:
    def server(now: int) -> int | None:
        return None if 5 * S <= now < 10 * S or 15 * S <= now < 20 * S else MS

    world = ControllerWorld(server)
    world.callers(5 * MS, 0, 3 * MINUTE)
    for at in (10 * S, 20 * S):
        world.at(at, lambda: world.controller.moved(world.now))
    world.run(3 * MINUTE)
    assert world.modes == [FALLBACK, STRONG, FALLBACK, STRONG]
    assert world.times[1] <= 12 * S
    assert 0 <= world.times[3] - world.times[1] - MINUTE <= S


def test_a_second_failover_within_the_gap_is_not_hurried() -> None:
    settings = ControllerSettings(least_return_gap=4, stable_after=5, stable_after_failover=1)
    world = ControllerWorld(good_until(S, None, 2 * S), settings)
    world.callers(5 * MS, 0, 20 * S)
    world.at(2 * S, lambda: world.controller.moved(world.now))
    world.run(5 * S)
    assert world.modes == [FALLBACK, STRONG]
    world.server = good_until(5 * S, None, 6 * S)
    world.at(6 * S, lambda: world.controller.moved(world.now))
    world.run(20 * S)
    assert world.modes == [FALLBACK, STRONG, FALLBACK, STRONG]
    assert world.times[1] < 4 * S
    assert world.times[3] >= 11 * S


# -- how often


def test_three_in_a_minute_are_the_price_of_a_quick_return() -> None:
    """Leaving never waits and a return may come after seconds: so left, back and left again."""

    def server(now: int) -> int | None:
        return None if 60 * S <= now < 62 * S or 70 * S <= now < 71 * S else MS

    world = ControllerWorld(server)
    world.callers(5 * MS, 0, 4 * MINUTE)
    world.run(4 * MINUTE)
    assert world.modes == [FALLBACK, STRONG, FALLBACK, STRONG]
    assert world.times[2] - world.times[0] < 12 * S
    assert world.times[3] - world.times[1] >= MINUTE


@given(
    st.lists(
        st.tuples(
            st.integers(50, 20_000),
            st.sampled_from([MS, MS, 30 * MS, 80 * MS, None, Failure.REFUSED, Failure.OOM]),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([EVENTUAL, FALLBACK]),
    st.booleans(),
)
def test_whatever_flaps_there_are_two_switches_a_minute_and_strong_is_left_at_once(
    phases: list[tuple[int, int | Failure | None]], degraded: Mode, moves: bool
) -> None:
    ends, total = [], 0
    for length, outcome in phases:
        total += length * MS
        ends.append((total, outcome))

    def server(now: int) -> int | Failure | None:
        return next(outcome for end, outcome in ends if now % total < end)

    end = 6 * MINUTE
    world = ControllerWorld(server, degraded=degraded)
    world.callers(100 * MS, 0, end)
    if moves:
        for at in range(total, end, total):
            world.at(at, lambda: world.controller.moved(world.now))
    world.run(end)
    assert within_budget(world.times, MINUTE)
    assert len(world.times) <= 2 * 6 + 1
    assert world.most_open_probes <= 2  # one of before the switch may end and free the next
    assert degraded in world.modes or EVENTUAL not in world.modes
    assert all(a.after is b.before for a, b in zip(world.changes, world.changes[1:], strict=False))
    # In the end all is well: never stuck.
    world.server = lambda _: MS
    world.callers(100 * MS, end, end + 2 * MINUTE)
    world.run(end + 2 * MINUTE)
    assert world.controller.mode is STRONG


@pytest.mark.parametrize("dead", [None, Failure.REFUSED, 30 * MS])
def test_a_redis_that_flaps_for_an_hour(dead: int | Failure | None) -> None:
    world = ControllerWorld(lambda now: dead if now // S % 10 < 3 else MS)
    world.callers(20 * MS, 0, 60 * MINUTE)
    world.run(60 * MINUTE)
    assert 60 <= len(world.times) <= 121
    assert within_budget(world.times, MINUTE)


def test_without_a_gap_there_is_no_bound() -> None:
    settings = ControllerSettings(least_return_gap=0, stable_after=0.5, stable_after_failover=0.5)
    world = ControllerWorld(lambda now: None if now // S % 4 < 2 else MS, settings)
    world.callers(20 * MS, 0, MINUTE)
    world.run(MINUTE)
    assert len(world.times) == 30


def test_in_strong_nobody_probes() -> None:
    controller = Controller(ControllerSettings(), 0)
    assert controller.mode is Mode.STRONG
    assert not controller.probe(10 * S)


@pytest.mark.parametrize("degraded", [EVENTUAL, FALLBACK])
@pytest.mark.parametrize("outage", [False, True])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 30, 400]),  # ms since the one before
            st.sampled_from([1, 1, 1, 21, 60]),  # ms of latency
            st.sampled_from([True, True, False]),  # wrote
            st.sampled_from([False, False, False, True]),  # late
            st.sampled_from([1, 7, 80]),  # answers
        ),
        min_size=10,
        max_size=30,
    ),
)
def test_answers_that_come_together_count_as_if_each_came_alone(
    degraded: Mode, outage: bool, reads: list[tuple[int, int, bool, bool, int]]
) -> None:
    settings = ControllerSettings(
        least_samples=5,
        latency_quantile=0.9,
        stable_after=1.0,
        stable_after_failover=0.5,
        least_return_gap=0.0,
    )
    together, alone = (Controller(settings, 0, degraded) for _ in range(2))
    now = S
    for controller in (together, alone) if outage else ():
        controller.failed(0, Failure.LOST)
        assert controller.failed(now, Failure.LOST)
    for gap, latency, wrote, late, answers in reads:
        now += gap * MS
        for controller in (together, alone):
            controller.asked(now)
        how = {"wrote": wrote, "late": late}
        change = together.answered(now, latency * MS, **how, answers=answers)
        each = [alone.answered(now, latency * MS, **how) for _ in range(answers)]
        first = next((one for one in each if one), None)
        if change or first:
            # What is left of the answers after a switch counts in the new mode, or nowhere.
            assert change
            assert first
            assert (change.after, change.at_ns) == (first.after, first.at_ns)
            return
        assert (together.slow, together.slowness) == (alone.slow, alone.slowness)


def test_the_outlook_says_what_is_lacking_before_strong_is_back() -> None:
    controller = Controller(ControllerSettings(), 0)
    assert controller.outlook(0) is None

    def goes(at: int) -> None:
        for moment in (at - S, at):
            controller.asked(moment)
            controller.failed(moment, Failure.LOST)
        assert controller.mode is FALLBACK

    def answers(first: int, last: int) -> None:
        for moment in range(first, last + 1):
            controller.asked(moment * S)
            controller.answered(moment * S, MS)

    goes(2 * S)
    assert controller.outlook(3 * S) == ReturnOutlook(None, 0, 5 * S, 0)
    answers(4, 7)
    assert controller.outlook(7 * S) == ReturnOutlook(3 * S, 3 * S, 5 * S, 0)
    answers(8, 9)
    assert controller.mode is STRONG
    assert controller.outlook(9 * S) is None
    goes(12 * S)
    # Of any four switches the first and the last are a gap apart: 9 s, 12 s, and then two more.
    assert controller.outlook(13 * S) == ReturnOutlook(None, 0, 5 * S, 56 * S)
    answers(14, 30)
    assert controller.outlook(30 * S) == ReturnOutlook(16 * S, 16 * S, 5 * S, 39 * S)
    controller.answered(31 * S, 100 * MS)
    controller.answered(31 * S, 100 * MS)
    assert controller.outlook(32 * S) == ReturnOutlook(18 * S, 0, 5 * S, 37 * S)
    answers(33, 69)
    assert controller.mode is STRONG


def test_a_server_that_has_fallen_silent_again_does_not_answer() -> None:
    controller = Controller(ControllerSettings(), 0)
    controller.failed(S, Failure.LOST)
    controller.failed(2 * S, Failure.LOST)
    controller.asked(3 * S)
    controller.answered(3 * S, MS)
    controller.asked(5 * S)
    assert controller.outlook(5 * S + 400 * MS) == ReturnOutlook(2400 * MS, 2400 * MS, 5 * S, 0)
    assert controller.outlook(5 * S + 500 * MS) == ReturnOutlook(None, 0, 5 * S, 0)


def test_the_outlook_after_a_failover_is_shorter() -> None:
    controller = Controller(ControllerSettings(), 0)
    controller.failed(S, Failure.LOST)
    controller.failed(2 * S, Failure.LOST)
    controller.moved(3 * S)
    assert controller.outlook(4 * S) == ReturnOutlook(None, 0, S, 0)
