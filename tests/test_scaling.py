"""The page on scaling has the values of its rows, and exponents are those of the points."""

from __future__ import annotations

import json

import pytest

from benchmarks import growth_nodes
from benchmarks.growth_report import Rows, exponent, reduced
from benchmarks.measure import Comparison, Row
from benchmarks.report import as_json
from tests.test_docs import ROOT, tool_of_docs


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(slope: float) -> None:
    points = [(size, 3.0 * size**slope) for size in (3.0, 10.0, 50.0, 200.0)]
    assert exponent(points) == pytest.approx(slope)


@pytest.mark.parametrize("load", list(growth_nodes.LOADS))
@pytest.mark.parametrize("nodes", [3, 10])
def test_a_node_among_scripted_peers_sends_what_one_among_real_ones_does(
    nodes: int, load: str
) -> None:
    scripted = growth_nodes.scripted(nodes, load, 3.0)
    real = growth_nodes.real(nodes, load, 3.0)
    assert scripted[0] == pytest.approx(real[0], rel=0.1)
    assert scripted[2] == pytest.approx(real[2], rel=0.05)


def test_what_a_node_cannot_tell_apart_is_refused_and_counted() -> None:
    assert growth_nodes.linked(600) == (510.0, 89.0)


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
    rows = [Row(label, ((median,),)) for label, median in medians.items()]
    told = as_json(Comparison("costs: of all", ("us a take",), []), rows, [])
    results = {"environment": about, "answers": [{"comparisons": [told]}]}
    data = reduced(results)
    assert "load" not in data["environment"]
    found = Rows(data)
    assert found.value("costs", "floor", "us") == 1.0
    assert found.line("costs", "us") == [(10.0, 2.0), (1000.0, 3.0)]
    assert found.line("costs", "us", "10 nodes") == [(10.0, 2.0)]
