"""docs/comparison.md: each mark of another limiter has its source, and each of ours its tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "comparison.md").read_text()
SOURCES = dict(re.findall(r"^\[(\w+)\]: (https://\S+)$", PAGE, re.MULTILINE))
NOTES = set(re.findall(r"^(\d+)\. ", PAGE, re.MULTILINE))


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading, the head among them, the line under it not."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    return rows


HEAD, *MATRIX = table("Cell by cell")
SHOWN = {
    wish: re.findall(r"`(tests/[^`]+)`", tests) for wish, _, tests in table("What users ask for")
}


def test_each_mark_of_another_links_to_a_source_of_that_one_and_part_of_it_to_a_note() -> None:
    letters: dict[str, set[str]] = {name: set() for name in HEAD[1:-1]}
    used, noted = set(), set()
    for wish, *theirs, _ in MATRIX:
        assert len(theirs) == len(letters), wish
        for name, cell in zip(letters, theirs, strict=True):
            mark = re.fullmatch(r"\[(yes|part|no)\]\[((\w)\d+)\](?: (\d+))?", cell)
            assert mark, (wish, name, cell)
            used.add(mark[2])
            letters[name].add(mark[3])
            assert (mark[1] == "part") == (mark[4] is not None), (wish, name)
            noted |= {mark[4]} - {None}
    assert used == set(SOURCES)
    assert noted == NOTES
    wrong = {name for name, of in letters.items() if len(of - {"g"}) != 1 and of != {"g"}}
    assert wrong == set()


@pytest.mark.parametrize(("wish", "mark"), [(row[0], row[-1]) for row in MATRIX])
def test_each_mark_of_ours_is_shown_by_tests(wish: str, mark: str) -> None:
    assert mark in {"[yes](#what-users-ask-for)", "no"}
    assert bool(SHOWN.get(wish)) == (mark != "no")
