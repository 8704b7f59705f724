"""What counts as an outage, event by event."""

from __future__ import annotations

import pytest

from crdtbucket.strong.controller.outage import REFUSAL_SPACING_NS, Failure, OutageWatch
from crdtbucket.strong.redis.resp import RedisErrorReply

AFTER = 500
SPACED = REFUSAL_SPACING_NS


def watch(after: int = AFTER) -> OutageWatch:
    return OutageWatch(after)


def test_silence_is_measured_from_the_first_open_call() -> None:
    seen = watch()
    assert seen.found(10**12) == ""
    seen.asked(100)
    seen.asked(300)
    seen.timed_out(400)
    assert (seen.found(599), seen.silence_ns(599)) == ("", 0)
    assert "no answer for" in seen.found(600)
    assert seen.silence_ns(600) == AFTER
    seen.clear()
    assert seen.found(10**12) == ""


def test_a_deadline_of_a_call_of_before_counts_from_itself() -> None:
    seen = watch()
    seen.timed_out(100)
    assert seen.silent_since == 100


@pytest.mark.parametrize("failure", Failure)
def test_two_failures_so_far_apart_with_nothing_good_between(failure: Failure) -> None:
    seen = watch()
    seen.failed(1_000, failure)
    assert seen.found(10**12) == ""
    seen.failed(1_499, failure)
    assert seen.found(10**12) == ""
    seen.failed(1_500, failure)
    assert failure.value in seen.found(1_500)
    assert seen.found(1_500).startswith("3 failures and no good answer")


def test_failures_count_from_the_call_that_nobody_answered() -> None:
    seen = watch()
    seen.asked(1_000)
    seen.failed(1_300, Failure.LOST)
    seen.failed(1_500, Failure.LOST)
    assert seen.found(1_500)


def test_one_failure_alone_is_none_however_long_its_call_was_open() -> None:
    seen = watch()
    seen.asked(1_000)
    seen.failed(1_600, Failure.LOST)
    assert seen.found(10**12) == ""


def test_after_a_failure_silence_begins_with_the_next_call() -> None:
    seen = watch()
    seen.asked(1_000)
    seen.failed(1_100, Failure.LOST)
    assert (seen.silent_since, seen.silence_ns(10**12)) == (None, 0)
    seen.asked(9_000)
    assert seen.silence_ns(9_499) == 0
    assert seen.silence_ns(9_500) == 500


def test_a_good_answer_between_forgives() -> None:
    seen = watch()
    seen.failed(1_000, Failure.OOM)
    seen.clear()
    seen.failed(1_600, Failure.OOM)
    assert seen.found(1_600) == ""


@pytest.mark.parametrize(("failure", "refuted"), [(Failure.LOST, True), (Failure.OOM, False)])
def test_an_answer_without_a_write_refutes_what_does_not_concern_writes(
    failure: Failure, refuted: bool
) -> None:
    seen = watch()
    seen.failed(1_000, failure)
    seen.asked(1_100)
    seen.answered_without_write()
    assert seen.silence_ns(10**12) == 0
    seen.failed(1_500, failure)
    assert (seen.found(1_500) == "") == refuted


def test_time_outs_beside_a_failure_are_bad_and_alone_they_are_not() -> None:
    seen = watch()
    seen.timed_out(1_000)
    seen.clear()
    seen.timed_out(1_600)
    assert seen.found(1_600) == ""
    seen = watch()
    seen.failed(1_000, Failure.LOST)
    seen.timed_out(1_500)
    assert seen.found(1_500).startswith("2 failures")


def test_three_refusals_in_a_row_need_no_patience() -> None:
    seen = watch(100 * SPACED)
    for number in range(3):
        assert seen.found(number * SPACED) == ""
        seen.failed(number * SPACED, Failure.REFUSED)
    assert "refused 3 times" in seen.found(2 * SPACED)


def test_refusals_of_one_moment_are_one_and_another_failure_ends_the_row() -> None:
    seen = watch(100 * SPACED)
    for at in (0, 1, SPACED - 1, SPACED, 2 * SPACED - 1):
        seen.failed(at, Failure.REFUSED)
    assert seen.found(2 * SPACED) == ""
    seen.failed(2 * SPACED, Failure.LOST)
    seen.failed(2 * SPACED, Failure.REFUSED)
    seen.failed(3 * SPACED, Failure.REFUSED)
    assert seen.found(3 * SPACED) == ""
    seen.failed(4 * SPACED, Failure.REFUSED)
    assert seen.found(4 * SPACED)


def test_an_outage_is_described_in_a_sentence() -> None:
    seen = watch(500_000_000)
    seen.asked(0)
    assert seen.found(1_250_000_000) == "no answer for 1.25 s to the calls made"
    seen.failed(0, Failure.LOST)
    seen.failed(500_000_000, Failure.LOST)
    told = "2 failures and no good answer for 0.50 s, last: lost"
    assert seen.found(500_000_000) == told
    seen.failed(500_000_000, Failure.LOST, "reset by peer")
    assert seen.found(500_000_000) == f"3{told[1:]}: reset by peer"


def test_every_kind_of_error_is_a_failure() -> None:
    for code in ("READONLY", "LOADING", "OOM", "NOAUTH", "MASTERDOWN", "ERR", "MOVED", "BUSY"):
        assert Failure(RedisErrorReply(f"{code} text").kind)
