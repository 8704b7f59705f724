"""Numbers and tables as people read them."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.measure import Comparison, Row


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.5, "1.50"),
        (42.7, "42.7"),
        (999.6, "1,000"),
        (123_456, "123,456"),
        (1_000_000, "1 M"),
        (9_513_400, "9.51 M"),
        (1_234e6, "1,234 M"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def value(*repeats: float) -> dict[str, Any]:
    told = report.as_json(Comparison("t", ("ns",), []), [Row("x", (repeats,))], [])
    found: dict[str, Any] = told["rows"][0]["values"][0]
    return found


def test_the_spread_is_the_furthest_repeat() -> None:
    assert report.measured(value(100, 98, 130)) == "100 ±30 %"
    assert report.measured(value(100, 50, 101)) == "100 ±50 %"
    assert report.measured(value(7)) == "7.00"
    assert report.measured(value(0, 0)) == "0"


def test_the_same_table_for_terminals_and_documents() -> None:
    comparison = Comparison("one | two", ("ns", "bytes"), [], note="a note", versus="ours")
    rows = [
        Row("nothing", ((10.0, 10.0), (0.0, 0.0))),
        Row("ours", ((20.0, 20.0), (5.0, 5.0))),
        Row("a | b", ((80.0, 80.0), (6.0, 6.0))),
    ]
    told = report.as_json(comparison, rows, [("theirs", "failed: OSError")])
    assert report.markdown([told]) == (
        "**one | two**\n\n"
        "|  | ns | bytes | x baseline | x ours |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| nothing | 10.0 | 0 | 1.00 | 0.500 |\n"
        "| ours | 20.0 | 5.00 | 2.00 | 1.00 |\n"
        "| a / b | 80.0 | 6.00 | 8.00 | 4.00 |\n\n"
        "a note. theirs: failed: OSError."
    )
    console = Console(width=200)
    with console.capture() as printed:
        report.show(console, told)
    for cell in ("nothing", "20.0", "a | b", "8.00", "a note", "theirs: failed: OSError"):
        assert cell in printed.get()


def test_ratios_are_left_out_where_they_mean_nothing() -> None:
    comparison = Comparison("t", ("admitted",), [], ratios=False)
    told = report.as_json(comparison, [Row("a", ((200.0,),)), Row("b", ((400.0,),))], [])
    head, rows = report.cells(told)
    assert head == ["", "admitted"]
    assert rows == [["a", "200"], ["b", "400"]]


def test_a_table_without_rows_says_why() -> None:
    missing = [("a", "no server"), ("b", "no server"), ("c", "none")]
    told = report.as_json(Comparison("t", ("ns",), []), [], missing)
    assert report.markdown([told]) == "**t**\n\na; b: no server. c: none."


def test_a_note_of_several_tables_stands_below_the_last() -> None:
    tables = [
        report.as_json(Comparison(title, ("ns",), [], note=note), [], [])
        for title, note in (("t", "same"), ("u", "same"), ("v", "other"))
    ]
    assert report.markdown(tables) == "**t**\n\n**u**\n\nsame.\n\n**v**\n\nother."
