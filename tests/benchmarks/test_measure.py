"""Cases are measured in turns; median and spread are reported; only other limiters may fail."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import measure, report
from benchmarks.measure import Case, Comparison

SMOKE = measure.SCALES["smoke"]


def test_the_cases_take_turns_and_the_median_is_reported() -> None:
    order: list[str] = []
    values = {"a": iter([9.0, 1.0, 2.0]), "b": iter([10.0, 60.0, 20.0])}

    def run(name: str) -> tuple[float]:
        order.append(name)
        return (next(values[name]),)

    comparison = Comparison(
        "t", ("ns",), [Case("a", lambda: run("a")), Case("b", lambda: run("b"), at=7)], repeats=3
    )
    rows, failed = measure.measure(comparison, SMOKE)
    assert order == ["a", "b"] * 3
    assert not failed
    assert [row.medians for row in rows] == [(2.0,), (20.0,)]
    assert rows[0].values == ((9.0, 1.0, 2.0),)
    told = report.as_json(comparison, rows, failed)
    assert told["rows"][1] == {
        "label": "b",
        "at": 7,
        "values": [
            {
                "median": 20.0,
                "least": 10.0,
                "most": 60.0,
                "ratio": 10.0,
                "repeats": [10.0, 60.0, 20.0],
            }
        ],
    }


def test_each_unit_has_its_own_median() -> None:
    values = iter([(1.0, 9.0), (2.0, 8.0), (9.0, 1.0)])
    comparison = Comparison("t", ("a", "b"), [Case("x", lambda: next(values))], repeats=3)
    rows, _ = measure.measure(comparison, SMOKE)
    assert rows[0].medians == (2.0, 8.0)


def test_a_peer_that_fails_late_is_left_out_and_not_asked_again() -> None:
    asked: list[int] = []

    def peer() -> tuple[float]:
        asked.append(1)
        if len(asked) == 2:
            raise OSError("gone")
        return (1.0,)

    ours = Case("ours", lambda: (2.0,))
    comparison = Comparison("t", ("ns",), [ours, Case("theirs", peer, peer=True)], repeats=4)
    rows, failed = measure.measure(comparison, SMOKE)
    assert failed == [("theirs", "failed: OSError: gone")]
    assert [row.label for row in rows] == ["ours"]
    assert len(rows[0].values[0]) == 4
    assert len(asked) == 2


def test_a_failure_of_our_own_is_raised() -> None:
    def broken() -> tuple[float]:
        raise OSError("ours")

    with pytest.raises(OSError, match="ours"):
        measure.measure(Comparison("t", ("ns",), [Case("ours", broken)]), SMOKE)


def test_a_case_that_measures_something_else_is_refused() -> None:
    comparison = Comparison("t", ("ns", "bytes"), [Case("x", lambda: (1.0,), peer=True)])
    with pytest.raises(ValueError, match="1 values"):
        measure.measure(comparison, SMOKE)


def test_an_awaited_take_is_made_once_for_each_key() -> None:
    seen: list[str] = []

    async def take(key: str) -> None:
        seen.append(key)

    loop = asyncio.new_event_loop()
    try:
        (spent,) = measure.awaited(take, ["a", "b"], loop)()
    finally:
        loop.close()
    assert seen == ["a", "b"]
    assert spent >= 0
