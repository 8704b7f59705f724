"""The page on scaling is what the rows say, and exponents are what the points say."""

from __future__ import annotations

import json

import pytest

from benchmarks.growth_report import Rows, exponent, reduced
from tests.test_docs import ROOT, tool_of_docs


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(slope: float) -> None:
    points = [(size, 3.0 * size**slope) for size in (3.0, 10.0, 50.0, 200.0)]
    assert exponent(points) == pytest.approx(slope)


def test_the_page_is_what_the_rows_say_and_nobody_edited_it() -> None:
    tool = tool_of_docs("scaling")
    assert tool.PAGE.read_text() == tool.render(json.loads(tool.ROWS.read_text()))
    for picture in (tool.NODES_PICTURE, tool.KEYS_PICTURE):
        assert picture.read_bytes()[:4] == b"\x89PNG"


def test_every_number_of_the_page_comes_from_a_row_or_a_setting() -> None:
    """In the text itself no measured unit stands beside a number."""
    text = (ROOT / "docs" / "scaling.tmpl").read_text()
    for unit in ("kB", "us ", "ns ", "MB", "CPU ms"):
        assert f"0 {unit}" not in text


def test_values_are_looked_up_by_the_beginnings_of_their_names() -> None:
    about = dict.fromkeys(("date", "commit", "processor", "cores", "python", "load"), 1)
    medians = {"floor": 1.0, "10 nodes": 2.0, "1,000 nodes": 3.0}
    measured = [
        {"label": label, "values": [{"unit": "us a take", "median": median}]}
        for label, median in medians.items()
    ]
    comparison = {"title": "costs: of all", "rows": measured}
    results = {"environment": about, "answers": [{"comparisons": [comparison]}]}
    data = reduced(results)
    assert "load" not in data["environment"]
    rows = Rows(data)
    assert rows.value("costs", "floor", "us") == 1.0
    assert rows.line("costs", "us") == [(10.0, 2.0), (1000.0, 3.0)]
    assert rows.line("costs", "us", "10 nodes") == [(10.0, 2.0)]
