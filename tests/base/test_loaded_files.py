"""Objects that are made of files are made again when the files change."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from crdtbucket.base.loaded_files import LoadedFiles
from crdtbucket.errors import CrdtbucketError

LOG = logging.getLogger("crdtbucket.test")


def write(path: Path, text: str) -> None:
    """Replaces the file, as tools do that renew certificates."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_it_is_made_again_when_one_of_the_files_has_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    made: list[str] = []

    def load() -> str:
        made.append(one.read_text() + two.read_text())
        if "x" in made[-1]:
            raise CrdtbucketError("x is no number")
        return made[-1]

    loaded = LoadedFiles([str(one), str(two)], load, LOG)
    assert [loaded.now(), loaded.now()] == ["12", "12"]
    write(two, "3")
    assert [loaded.now(), loaded.now()] == ["13", "13"]
    assert made == ["12", "13"]
    write(one, "x")
    two.unlink()
    assert [loaded.now(), loaded.now()] == ["13", "13"]
    write(two, "4")
    assert [loaded.now(), loaded.now()] == ["13", "13"]
    write(one, "5")
    assert loaded.now() == "54"
    said = [(one.levelname, one.getMessage().rpartition("; ")[2]) for one in caplog.records]
    assert [level for level, _ in said] == ["INFO", "ERROR", "ERROR", "INFO"]
    assert "No such file" in said[1][1]
    assert said[2][1] == "what was in use stays: x is no number"


def test_what_cannot_be_loaded_at_first_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError):
        LoadedFiles([str(missing)], missing.read_text, LOG)


def test_where_there_are_no_files_nothing_is_made_again() -> None:
    made: list[None] = []
    loaded = LoadedFiles((), lambda: made.append(None), LOG)
    loaded.now()
    assert made == [None]
