"""The documents contain the results that are kept, and no other figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import claims, document
from benchmarks.environment import ROOT
from benchmarks.kept import NotMeasured, Results
from benchmarks.plots import PICTURES, draw
from benchmarks.report import number
from benchmarks.runner import QUESTIONS, RESULTS

TEMPLATES = [document.HERE / name for name in ("page.md", "summary.md")]


@pytest.fixture(scope="module")
def results() -> Results:
    return Results.load()


def test_the_page_is_what_the_kept_results_give(results: Results) -> None:
    assert document.PAGE.read_text() == document.page(results), "make bench-page"


def test_the_readme_is_what_the_kept_results_give(results: Results) -> None:
    text = document.README.read_text()
    assert text == document.with_summary(text, results), "make bench-page"


def places(*kinds: str) -> list[str]:
    found = document.PLACE.findall(TEMPLATES[0].read_text())
    return [what for kind, what in found if kind in kinds]


def test_every_question_and_picture_is_on_the_page() -> None:
    assert places("question") == list(QUESTIONS)
    assert places("picture") == list(PICTURES)


def test_every_question_has_a_table_or_a_picture() -> None:
    shown = {what.partition(":")[0] for what in places("tables", "picture")}
    assert shown == set(QUESTIONS)


def test_the_page_has_the_tables_that_its_template_names(results: Results) -> None:
    both = document.shown("strong: one caller; 64 callers", results)
    assert [one["title"] for one in both] == ["one caller", "64 callers in one process"]


def test_a_table_that_was_not_measured_cannot_be_shown() -> None:
    with pytest.raises(NotMeasured, match="take: no table 'other'"):
        document.render("{{tables take: a table; other}}", result(2.0, 1.0))


def test_a_figure_is_the_median_of_a_row() -> None:
    text = "It takes {{figure take: a table; row 1; ns}} ns."
    assert document.render(text, result(2.0, 1234.5)) == "It takes 1,234 ns."


def test_all_ways_but_two_admit_the_limit_as_the_page_says(results: Results) -> None:
    rows = results.comparison("workers", claims.EXACT)["rows"]
    assert {row["label"] for row in rows if any(one["median"] != 200 for one in row["values"])} == {
        claims.ALONE,
        "pyrate-limiter, SQLite store",
    }


def test_machines_are_a_sentence_for_each() -> None:
    def file(date: str, processor: str) -> dict[str, Any]:
        return {
            "environment": {
                "date": f"{date}T10:00:00", "processor": processor, "cores": 2,
                "python": "CPython 3.11.7",
            }
        }  # fmt: skip

    files = {
        "take": file("2026-11-30", "one"),
        "merge": file("2026-11-29", "one"),
        "join": file("2026-11-28", "other"),
    }
    assert document.machines(Results(files)) == (
        "one, 2 cores, CPython 3.11.7, 2026-11-29 to 2026-11-30: take, merge.\n"
        "other, 2 cores, CPython 3.11.7, 2026-11-28: join."
    )


def test_every_claim_is_made_and_every_ratio_is_a_claim() -> None:
    made = {
        what
        for template in TEMPLATES
        for kind, what in document.PLACE.findall(template.read_text().replace("\n", " "))
        if kind == "ratio"
    }
    assert made == set(claims.CLAIMS)


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_a_claim_is_the_ratio_of_two_medians(name: str, results: Results) -> None:
    ratio = claims.CLAIMS[name].ratio(results)
    assert float(claims.written(name, results).replace(",", "")) == pytest.approx(ratio, rel=0.05)


def test_no_other_page_has_a_ratio_or_a_time_of_a_call() -> None:
    compared = re.compile(
        r"\d times (as (fast|long|slow)|slower|faster)"
        r"|\d (ns|µs|us) (a|for one|per) (take|call|key|decision)"
    )
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        if path.name == "README.md":
            head, _, rest = text.partition(document.BEGIN)
            text = head + rest.partition(document.END)[2]
        if path != document.PAGE:
            assert not compared.search(text), f"{path.name}: {compared.search(text)}"


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_drawn_and_kept(name: str, results: Results, tmp_path: Path) -> None:
    drawn = tmp_path / document.image(name)
    draw(name, results, drawn)
    assert drawn.read_text().startswith("<?xml")
    kept = (document.IMAGES / document.image(name)).read_text()
    assert words(kept, name, results) == words(drawn.read_text(), name, results)


@pytest.mark.parametrize("name", PICTURES)
def test_no_two_lines_of_a_picture_look_alike(name: str, results: Results) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    PICTURES[name][0](results, figure)
    for axes in figure.axes:
        named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
        looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in named]
        assert len(set(looks)) == len(looks)


def words(svg: str, name: str, results: Results) -> list[str]:
    """The texts in a picture, without the numbers at the axes, which matplotlib chooses."""
    medians = {
        number(value["median"])
        for told in results.comparisons(name)
        for row in told["rows"]
        for value in row["values"]
    }
    found = re.findall(r"<text [^>]*>([^<]+)</text>", svg)
    assert found
    return sorted(text for text in found if text in medians or re.search(r"[a-z]", text))


def result(*medians: float) -> Results:
    rows: list[dict[str, Any]] = [
        {"label": f"row {n}", "at": None, "values": [{"median": median}]}
        for n, median in enumerate(medians)
    ]
    told = {"title": "a table", "units": ["ns"], "rows": rows, "missing": []}
    return Results({"take": {"answer": {"question": "what?", "comparisons": [told]}}})


@pytest.mark.parametrize(
    ("over", "text"),
    [(29.64, "30"), (6.14, "6.1"), (0.8249, "0.82"), (1234.0, "1,200"), (1, "1.0")],
)
def test_ratios_have_two_digits(over: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(claims.CLAIMS, "x", claims.Claim("take", "a table", "row 0", "row 1"))
    assert document.render("It is {{ratio x}} times.", result(over, 1.0)) == f"It is {text} times."


@pytest.mark.parametrize(
    "claim", [claims.Claim("take", "a table", "row 0", "row 9"), claims.Claim("take", "no", "", "")]
)
def test_what_was_not_measured_cannot_be_claimed(
    claim: claims.Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(claims.CLAIMS, "x", claim)
    with pytest.raises(NotMeasured, match=r"row 9|no table"):
        document.render("{{ratio x}}", result(2.0, 1.0))


def test_a_question_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="python -m benchmarks take --save"):
        Results.load(tmp_path)


def test_results_of_another_format_are_not_read(tmp_path: Path) -> None:
    for name in QUESTIONS:
        text = (RESULTS / f"{name}.json").read_text()
        (tmp_path / f"{name}.json").write_text(text.replace('"format": 1', '"format": 0', 1))
    with pytest.raises(NotMeasured, match="another format"):
        Results.load(tmp_path)


def test_a_readme_without_its_marks_is_not_written_to(results: Results) -> None:
    with pytest.raises(ValueError, match="benchmarks: written by"):
        document.with_summary("# crdtbucket\n", results)
