"""Processes that share a limit: a failure of one of them is reported."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import ways, workers
from benchmarks.measure import SCALES
from benchmarks.peers import Limit
from benchmarks.ways import OURS_ALONE, OURS_SHARED, WAYS, Place, Way
from benchmarks.workers import FEW, Task, together


class Named(Exception):
    """The error of a way that does not work."""


def prepared(place: Place) -> str:
    return str(place.folder)


def dies(given: str, limit: Limit) -> Callable[[], Any]:
    os._exit(3)


def raises(given: str, limit: Limit) -> Callable[[], Any]:
    raise Named(given)


@pytest.mark.parametrize(
    ("join", "message"), [(raises, "Named: /"), (dies, "ended without an answer")]
)
def test_a_process_that_fails_is_reported_and_the_others_end(
    join: Callable[[Any, Limit], Callable[[], Any]],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "BOUND", 2.0)
    with pytest.raises(RuntimeError, match=message):
        together(Task(Way(prepared, join), FEW, tries=1), 2, None)


def test_an_own_way_that_denies_is_no_measurement() -> None:
    task = Task(WAYS[OURS_ALONE], FEW, seconds=0.01)
    with pytest.raises(AssertionError, match="denied"):
        workers._work(lambda: False, task)


def test_tries_that_passed_are_counted() -> None:
    answers = iter([True, False, True])
    passed, _ = workers._work(lambda: next(answers), Task(WAYS[OURS_ALONE], FEW, tries=3))
    assert passed == 2


@pytest.mark.parametrize("there", [True, False])
def test_the_shared_table_is_asked_where_there_is_one(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "has_shared", lambda: there)
    monkeypatch.setattr(workers, "PROGRAMS", [])
    for told in workers.comparisons(SCALES["smoke"]):
        assert (OURS_SHARED in [case.label for case in told.cases]) is there
        assert ((OURS_SHARED, "this version has none") in told.missing) is not there


def test_the_report_of_a_shared_table_names_the_argument_of_the_limiter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class WithShared:
        def __init__(self, buckets: list[Any], *, shared: str | None = None) -> None: ...

    class Without:
        def __init__(self, buckets: list[Any]) -> None: ...

    for kind, expected in ((WithShared, True), (Without, False)):
        monkeypatch.setattr(ways, "Limiter", kind)
        assert ways.has_shared() is expected


def test_the_hand_written_ways_deny_beyond_the_limit() -> None:
    decide, at, passed = ways._gcra(Limit(3, 0)), 0, 0
    for _ in range(5):
        after = decide(at)
        if after is not None:
            at, passed = after, passed + 1
    assert passed == 3
