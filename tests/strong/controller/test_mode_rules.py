"""The rules of the mode controller one by one: a few calls each, and the moment that decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.mode_controller import Change, Controller
from crdtbucket.strong.controller.outage import Failure
from tests.strong.controller_world import MS, S

STRONG, EVENTUAL, FALLBACK = Mode.STRONG, Mode.EVENTUAL, Mode.FALLBACK
START = 100 * S
GAP = 60 * S
SLOW = 30 * MS
STEP = 50 * MS
RULES = ControllerSettings(latency_window=0.1, latency_quantile=0.9, least_samples=4)


class Calls:
    """A controller, the time, and one call after the other."""

    def __init__(self, degraded: Mode = EVENTUAL, **settings: float) -> None:
        self.controller = Controller(replace(RULES, **settings), START, degraded)
        self.now = START

    @property
    def mode(self) -> Mode:
        return self.controller.mode

    def answer(
        self, latency: int = MS, *, after: int = 0, late: bool = False, answers: int = 1
    ) -> Change | None:
        """A call that is answered at once, so long after the one before."""
        self.now += after
        self.controller.asked(self.now)
        return self.controller.answered(self.now, latency, late=late, answers=answers)

    def fail(self, *, after: int = 0, failure: Failure = Failure.LOST) -> Change | None:
        self.now += after
        return self.controller.failed(self.now, failure, "why")

    def lose(self, *, after: int = 0) -> Change | None:
        """A call passes its deadline."""
        self.now += after
        return self.controller.timed_out(self.now)

    def slow_down(self) -> Change:
        """Slow answers each 10 ms until the mode changes."""
        return self._until_it_changes(lambda: self.answer(SLOW, after=10 * MS))

    def go(self) -> Change:
        """Refusals each 50 ms until the mode changes."""
        return self._until_it_changes(lambda: self.fail(after=STEP, failure=Failure.REFUSED))

    def until(self, now: int) -> Calls:
        assert now >= self.now
        self.now = now
        return self

    def come_back(self, latency: int = MS) -> Change:
        """Answers each 50 ms until the mode changes."""
        return self._until_it_changes(lambda: self.answer(latency, after=STEP))

    def _until_it_changes(self, call: Callable[[], Change | None]) -> Change:
        return next(change for _ in range(3_000) if (change := call()) is not None)

    def until_not_slow(self) -> int:
        """Quick answers each 10 ms; how long it takes until slowness is not said any more (ns)."""
        last = self.now
        for _ in range(3_000):
            self.answer(after=10 * MS)
            if not self.controller.slow:
                break
        return self.now - last


def returns_after(calls: Calls) -> int:
    """How long answers must be quick before strong is back (ns)."""
    first = calls.now + STEP
    change = calls.come_back()
    assert change.after is STRONG
    return change.at_ns - first


# -- the beginning


def test_it_begins_strong_and_waits_for_nothing() -> None:
    controller = Controller(RULES, START)
    assert (controller.mode, controller.slow) == (STRONG, False)
    assert (controller.next_tick(START), controller.tick(START + GAP)) == (None, None)
    assert (controller.outage_after, controller.latency_limit_ns) == (0.5, 20 * MS)


def test_slowness_leads_to_no_other_mode_than_these() -> None:
    with pytest.raises(InvalidSpec) as caught:
        Controller(RULES, 0, STRONG)
    assert caught.value.field == "degraded"
    assert str(caught.value).startswith(f"degraded is {STRONG!r}")
    assert caught.value.fix == "latency can lead to eventual or fallback"


# -- slow


def test_after_a_whole_window_of_slow_answers_strong_is_left_and_the_reason_has_the_figures() -> (
    None
):
    calls = Calls()
    change = calls.slow_down()
    why = (
        "10 of 10 answers within 0.1 s took over 20 ms, for 0.1 s or longer; "
        "p90 must be within 20 ms"
    )
    assert change == Change(STRONG, EVENTUAL, why, START + 110 * MS)  # the first was at 10 ms
    assert (calls.controller.mode, calls.controller.slow) == (EVENTUAL, True)


def test_an_answer_that_takes_the_limit_is_quick() -> None:
    calls = Calls()
    for _ in range(50):
        assert calls.answer(20 * MS, after=10 * MS) is None
    assert calls.controller.slowness.startswith("0 of 10 answers")


def test_a_deadline_that_passes_is_a_slow_answer_and_what_comes_late_is_no_second_one() -> None:
    calls = Calls()
    for _ in range(5):
        assert calls.lose(after=10 * MS) is None
        assert calls.answer(SLOW, after=10 * MS, late=True) is None
    assert calls.controller.slowness.startswith("5 of 5 answers")


def test_answers_that_come_together_are_so_many() -> None:
    calls = Calls()
    calls.answer(SLOW, answers=3)
    calls.answer(MS, answers=4)
    assert calls.controller.slowness.startswith("3 of 7 answers")


def test_where_slowness_was_left_for_nothing_of_it_counts_again_in_strong() -> None:
    calls = Calls()
    calls.slow_down()
    calls.come_back()
    assert (calls.mode, calls.controller.slow) == (STRONG, False)
    assert calls.controller.slowness.startswith("0 of 0 answers")


def test_an_answer_is_one_that_came_in_time_and_for_a_write_unless_it_is_said_otherwise() -> None:
    calls = Calls()
    calls.fail(failure=Failure.READONLY)
    calls.controller.answered(START, SLOW)
    assert calls.controller.slowness.startswith("1 of 1 answers")
    assert calls.fail(after=S, failure=Failure.READONLY) is None


# -- slow, alone


def test_alone_nothing_is_said_of_what_was_never_slow() -> None:
    calls = Calls(FALLBACK)
    for _ in range(10):
        calls.answer(after=S)
        assert calls.controller.slow is False


def test_alone_slowness_is_said_until_answers_were_quick_for_as_long_as_any_return_needs() -> None:
    calls = Calls(FALLBACK)
    for _ in range(10):
        calls.answer(SLOW, after=10 * MS)
        assert not calls.controller.slow
    calls.answer(SLOW, after=10 * MS)
    assert (calls.mode, calls.controller.slow) == (STRONG, True)
    # A tenth may be slow: so from the ninth quick one on the quantile is quick.
    assert calls.until_not_slow() == 5 * S + 90 * MS


def test_alone_some_slow_answers_in_between_begin_the_quick_while_anew() -> None:
    calls = Calls(FALLBACK)
    for _ in range(11):
        calls.answer(SLOW, after=10 * MS)
    for _ in range(300):
        calls.answer(after=10 * MS)
    for _ in range(2):
        calls.answer(SLOW, after=10 * MS)
    assert calls.until_not_slow() == 5 * S + 90 * MS
    assert calls.mode is STRONG


def test_alone_a_whole_window_in_which_most_deadlines_pass_is_an_end_of_strong() -> None:
    calls = Calls(FALLBACK)
    for _ in range(10):
        assert calls.lose(after=10 * MS) is None
        calls.answer(SLOW, late=True)  # else it would be silent
    change = calls.lose(after=10 * MS)
    assert change is not None
    assert (change.after, change.at_ns) == (FALLBACK, START + 110 * MS)
    assert change.reason == (
        "10 of 10 calls within 0.1 s had no answer by their deadline, for 0.1 s or longer"
    )
    assert not calls.controller.slow  # it is worse


@pytest.mark.parametrize("together", [1, 2])
def test_alone_half_of_the_calls_may_be_lost(together: int) -> None:
    calls = Calls(FALLBACK)
    for _ in range(60):
        for _ in range(together):
            assert calls.lose() is None
        assert calls.answer(SLOW, late=True) is None
        assert calls.answer(after=10 * MS, answers=together) is None
    assert calls.mode is STRONG


def test_alone_lost_calls_of_before_a_failover_count_no_more() -> None:
    calls = Calls(FALLBACK)
    for _ in range(10):
        calls.lose(after=10 * MS)
    assert calls.controller.slow is False
    calls.controller.moved(calls.now)
    for _ in range(10):
        assert calls.lose(after=10 * MS) is None


def test_a_failover_ends_what_was_said_of_slowness() -> None:
    calls = Calls(FALLBACK)
    for _ in range(11):
        calls.answer(SLOW, after=10 * MS)
    assert calls.controller.slow
    calls.controller.moved(calls.now)
    assert not calls.controller.slow
    assert calls.controller.slowness.startswith("0 of 0 answers")


# -- gone


def test_refusals_are_an_end_of_strong_with_their_cause() -> None:
    change = Calls().go()
    assert (change.after, change.at_ns) == (FALLBACK, START + 150 * MS)
    assert change.reason == "refused 3 times in a row: why"


def test_a_failure_without_a_cause_has_none() -> None:
    controller = Controller(RULES, START)
    assert controller.failed(START, Failure.LOST) is None
    change = controller.failed(START + S, Failure.LOST)
    assert change is not None
    assert change.reason == "2 failures and no good answer for 1.00 s, last: lost"


@pytest.mark.parametrize("late", [False, True])
def test_any_answer_ends_a_silence(late: bool) -> None:
    calls = Calls()
    calls.controller.asked(START)
    assert calls.controller.next_tick(START) == START + 500 * MS
    calls.controller.answered(START + 499 * MS, MS, late=late)
    assert calls.controller.next_tick(START + 499 * MS) is None


def test_a_silence_is_an_outage_when_a_deadline_shows_it() -> None:
    calls = Calls()
    calls.lose()
    assert calls.lose(after=499 * MS) is None
    change = calls.lose(after=MS)
    assert change is not None
    assert change.after is FALLBACK
    assert change.reason == "no answer for 0.50 s to the calls made"


@pytest.mark.parametrize(("wrote", "gone"), [(True, False), (False, True)])
def test_only_an_answer_with_a_write_refutes_that_nothing_can_be_written(
    wrote: bool, gone: bool
) -> None:
    calls = Calls()
    calls.fail(failure=Failure.READONLY)
    calls.controller.answered(START + MS, MS, wrote=wrote)
    assert (calls.fail(after=S, failure=Failure.READONLY) is not None) is gone


def test_a_failover_forgives_what_the_old_primary_did() -> None:
    calls = Calls()
    calls.fail()
    calls.controller.moved(START)
    assert calls.fail(after=S) is None


def test_in_fallback_nothing_can_be_gone_once_more() -> None:
    calls = Calls()
    calls.go()
    for _ in range(5):
        assert calls.fail(after=GAP, failure=Failure.REFUSED) is None
        assert calls.lose(after=GAP) is None
        assert calls.controller.tick(calls.now) is None


def test_from_eventual_a_redis_that_is_gone_leads_to_fallback() -> None:
    calls = Calls()
    calls.slow_down()
    change = calls.go()
    assert (change.before, change.after) == (EVENTUAL, FALLBACK)
    assert not calls.controller.slow


def test_in_eventual_a_silence_is_an_outage_when_a_deadline_shows_it() -> None:
    calls = Calls()
    calls.slow_down()
    calls.lose()
    assert calls.lose(after=499 * MS) is None
    change = calls.lose(after=MS)
    assert change is not None
    assert (change.before, change.after) == (EVENTUAL, FALLBACK)


def left_twice() -> tuple[Calls, int, int]:
    """Eventual, strong and eventual within seconds; and when strong was left first, and back."""
    calls = Calls()
    first = calls.slow_down().at_ns
    back = calls.come_back().at_ns
    calls.slow_down()
    return calls, first, back


def test_eventual_is_left_for_fallback_when_there_is_room_and_not_before() -> None:
    calls, first, _ = left_twice()
    calls.fail(after=S, failure=Failure.LOST)
    assert calls.fail(after=S) is None  # an outage it is
    room = first + GAP
    assert calls.controller.probe(calls.now)
    # The probe that never ends is next, then each time that a probe is due, at last the outage.
    assert calls.controller.next_tick(calls.now) == calls.now + S
    assert calls.controller.next_tick(room - 1) == room
    assert calls.controller.tick(room - 1) is None
    change = calls.controller.tick(room)
    assert change is not None
    assert (change.before, change.after) == (EVENTUAL, FALLBACK)


def test_a_silence_in_eventual_is_due_when_there_is_room_too() -> None:
    calls, first, _ = left_twice()
    room = first + GAP
    calls.controller.asked(room - 10 * S)
    assert calls.controller.next_tick(room - 10 * S) == room
    calls.controller.answered(room - 9 * S, MS)
    calls.controller.asked(room - 100 * MS)
    assert calls.controller.next_tick(room - 50 * MS) == room + 400 * MS


# -- back


def test_strong_is_back_when_answers_were_quick_for_the_stable_while() -> None:
    calls = Calls()
    calls.go()
    assert calls.answer(after=S) is None
    first = calls.now
    assert calls.answer(after=4 * S) is None
    assert calls.answer(after=S - 1) is None
    change = calls.answer(after=1, answers=5)
    assert change == Change(
        FALLBACK, STRONG, "8 answers in 5.00 s; p90 must be within 20 ms", first + 5 * S
    )


def test_a_tenth_of_the_answers_may_be_slow_and_more_begin_the_while_anew() -> None:
    calls = Calls()
    calls.go()
    calls.answer(answers=9)
    first = calls.now
    assert calls.answer(SLOW, after=S) is None
    assert calls.answer(after=4 * S) is not None
    calls.until(first + GAP).go()
    calls.until(first + 3 * GAP).answer(answers=9)
    calls.answer(SLOW, answers=2)
    assert calls.answer(after=5 * S) is None
    assert calls.answer(after=5 * S) is not None


def test_a_probe_whose_deadline_passes_is_a_slow_answer() -> None:
    calls = Calls()
    calls.go()
    calls.answer(answers=8)
    calls.lose(after=MS)
    assert calls.answer(after=5 * S) is None


def test_a_failure_begins_the_while_anew() -> None:
    calls = Calls()
    calls.go()
    calls.answer(answers=99)
    calls.fail(after=S)
    assert calls.answer(after=4 * S) is None
    assert calls.answer(after=5 * S) is not None


@pytest.mark.parametrize(("silence", "back"), [(500 * MS - 1, True), (500 * MS, False)])
def test_a_silence_begins_the_while_anew_though_an_answer_ends_it(silence: int, back: bool) -> None:
    calls = Calls()
    calls.go()
    calls.answer(answers=99)
    calls.controller.asked(calls.now + 2 * S)
    calls.controller.answered(calls.now + 2 * S + silence, MS)
    assert (calls.answer(after=5 * S) is not None) is back


def test_what_answers_slowly_for_the_stable_while_is_eventual() -> None:
    calls = Calls()
    calls.go()
    assert calls.answer(SLOW, after=S) is None
    first = calls.now
    assert calls.answer(SLOW, after=5 * S - 1) is None
    change = calls.answer(SLOW, after=1)
    why = "it has answered for 5.00 s, but in over 20 ms"
    assert change == Change(FALLBACK, EVENTUAL, why, first + 5 * S)
    assert calls.controller.slow
    assert calls.answer(SLOW, after=5 * S) is None  # and there it stays
    assert calls.mode is EVENTUAL


def test_fallback_is_left_for_eventual_when_there_is_room_and_not_before() -> None:
    calls = Calls()
    first = calls.go().at_ns
    calls.come_back()
    calls.go()
    change = calls.come_back(SLOW)
    assert (change.after, change.at_ns) == (EVENTUAL, first + GAP)


def test_alone_answers_in_time_are_quick_and_late_ones_are_not() -> None:
    calls = Calls(FALLBACK)
    calls.go()
    for _ in range(30):
        assert calls.answer(SLOW, after=S, late=True) is None
    assert calls.answer(SLOW, after=S) is None
    assert calls.answer(SLOW, after=5 * S - 1) is None
    change = calls.answer(SLOW, after=1)
    assert change is not None
    assert change.after is STRONG
    assert change.reason == "3 answers in 5.00 s; p90 must be within the deadline"


def test_a_second_return_is_a_gap_after_the_first() -> None:
    calls = Calls()
    calls.go()
    back = calls.come_back().at_ns
    calls.go()
    change = calls.come_back()
    assert (change.after, change.at_ns) == (STRONG, back + GAP)


# -- back after a failover


def test_a_new_primary_is_believed_sooner() -> None:
    calls = Calls()
    calls.go()
    calls.answer(after=S)  # of the old one, which says nothing of the new one
    calls.controller.moved(calls.now)
    assert returns_after(calls) == S


@pytest.mark.parametrize(("after", "needed"), [(GAP - 1, S), (GAP, 5 * S)])
def test_a_failover_hurries_what_recovers_within_a_gap(after: int, needed: int) -> None:
    calls = Calls()
    calls.go()
    calls.controller.moved(calls.now)
    calls.now += after - STEP
    assert returns_after(calls) == needed


def test_without_a_gap_between_returns_a_new_primary_is_believed_sooner_too() -> None:
    calls = Calls(least_return_gap=0)
    for _ in range(2):
        calls.go()
        calls.controller.moved(calls.now)
        assert returns_after(calls) == S


@pytest.mark.parametrize(("after", "needed"), [(GAP - 1, 5 * S), (GAP, S)])
def test_a_failover_soon_after_a_return_hurries_nothing(after: int, needed: int) -> None:
    calls = Calls()
    calls.go()
    back = calls.come_back().at_ns
    calls.until(back + after - S).go()
    calls.controller.moved(back + after)
    assert returns_after(calls.until(back + 2 * GAP - S)) == needed


def test_one_failover_hurries_one_return() -> None:
    calls = Calls(least_return_gap=10)
    calls.go()
    calls.controller.moved(calls.now)
    assert returns_after(calls) == S
    calls.now += 6 * S
    calls.go()
    assert returns_after(calls) == 5 * S


# -- probes


def test_probes_are_one_at_a_time_rarer_while_they_fail_and_never_in_strong() -> None:
    calls = Calls()
    assert not calls.controller.probe(START + GAP)
    calls.go()
    due = calls.now + 100 * MS
    for wait in (200, 400, 800, 1_000, 1_000):
        assert calls.controller.next_tick(calls.now) == due
        assert not calls.controller.probe(due - 1)
        assert calls.controller.probe(due)
        assert not calls.controller.probe(due)
        calls.until(due).fail()
        due += wait * MS
    assert calls.controller.next_tick(due) is None  # it is due: `tick` has nothing to add


@pytest.mark.parametrize("end", ["answer", "lose", "fail"])
def test_however_a_probe_ends_the_next_may_go(end: str) -> None:
    calls = Calls()
    calls.go()
    assert calls.controller.probe(calls.now + 100 * MS)
    assert calls.controller.next_tick(calls.now + 100 * MS) == calls.now + 1_100 * MS
    getattr(calls, end)(after=110 * MS)
    wait = 100 if end == "answer" else 200
    assert calls.controller.next_tick(calls.now) == calls.now + (wait - 10) * MS


def test_a_new_primary_is_probed_at_once() -> None:
    calls = Calls()
    calls.go()
    assert not calls.controller.probe(calls.now)
    calls.controller.moved(calls.now)
    assert calls.controller.probe(calls.now)


def test_after_each_change_of_mode_the_first_probe_is_an_interval_away() -> None:
    calls = Calls()
    calls.slow_down()
    assert calls.controller.next_tick(calls.now) == calls.now + 100 * MS
    calls.now += 30 * MS
    calls.go()
    assert calls.controller.next_tick(calls.now) == calls.now + 100 * MS
