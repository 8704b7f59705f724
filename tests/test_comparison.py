"""docs/comparison.md: a test shows what is said of us; what is said of others has a source."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_docs import rows

ROOT = Path(__file__).parents[1]
PAGE = "docs/comparison.md"
MARK = re.compile(r"\[(?:yes|no)\]\[(\w+)\]|\[part\]\[(\w+)\] (\d+)")


def test_every_mark_of_another_has_its_source() -> None:
    text = (ROOT / PAGE).read_text()
    sources = re.findall(r"^\[(\w+)\]: (https://\S+)$", text, re.MULTILINE)
    notes = {number for number, _ in re.findall(r"^(\d+)\. (.+)$", text, re.MULTILINE)}
    used, noted = set(), set()
    for wish, *others, ours in rows(PAGE, "Cell by cell"):
        assert len(others) == 10, wish
        assert ours == "no" or ours.startswith("[yes]"), wish
        for cell in others:
            mark = MARK.fullmatch(cell)
            assert mark is not None, (wish, cell)
            used.add(mark[1] or mark[2])
            noted.add(mark[3])
    assert used - {None} == {name for name, _ in sources}
    assert noted - {None} == notes


def test_every_mark_of_ours_names_a_test_that_there_is() -> None:
    shown = {wish: by for wish, _, by in rows(PAGE, "What users ask for")}
    claimed = {wish for wish, *_, ours in rows(PAGE, "Cell by cell") if ours != "no"}
    assert claimed <= shown.keys()
    for wish, by in shown.items():
        named = re.findall(r"`([^`]+)`", by)
        assert any("::" in one for one in named), wish
        for one in named:
            path, _, test = one.partition("::")
            assert (ROOT / path).exists(), one
            if test:
                defined = rf"^(async )?def {test}\("
                assert re.search(defined, (ROOT / path).read_text(), re.MULTILINE), one
