"""The state directory: one process for each name, complete files, clear errors."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crdtbucket.errors import MeshError, NodeConflict
from crdtbucket.mesh.state_dir import StateDir


def test_a_snapshot_is_read_back(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "deep" / "er", "eu-1")
    state.open()
    assert state.snapshot.load() is None
    state.snapshot.save(b"first")
    state.snapshot.save(b"second")
    state.close()
    again = StateDir(tmp_path / "deep" / "er", "eu-1")
    again.open()
    assert again.snapshot.load() == b"second"
    again.close()


def test_a_second_process_of_the_name_is_refused(tmp_path: Path) -> None:
    first = StateDir(tmp_path, "eu-1")
    first.open()
    # It may be a second worker of the node, whom another name would give a limit of its own.
    with pytest.raises(NodeConflict, match=r"eu-1.*set `shared: auto`.*one node"):
        StateDir(tmp_path, "eu-1").open()
    other = StateDir(tmp_path, "eu-2")
    other.open()
    other.close()
    first.close()
    StateDir(tmp_path, "eu-1").open()


def test_epochs_are_counted_and_an_epoch_is_never_used_twice(tmp_path: Path) -> None:
    state = StateDir(tmp_path, "eu-1")
    state.open()
    assert state.begin_epoch(7) == 1
    assert state.begin_epoch(8) == 2
    with pytest.raises(MeshError, match="used before"):
        state.begin_epoch(8)


def test_a_damaged_file_of_the_epoch_says_what_to_do(tmp_path: Path) -> None:
    state = StateDir(tmp_path, "eu-1")
    state.open()
    state.begin_epoch(7)
    (tmp_path / "eu-1.epoch").write_text("{")
    with pytest.raises(MeshError, match=r"eu-1\.epoch.*remove it"):
        state.begin_epoch(8)


def test_names_cannot_leave_the_directory(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    state = StateDir(inside, "../evil/..")
    state.open()
    state.begin_epoch(1)
    state.close()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    record = (inside / "..%2fevil%2f...epoch").read_text().splitlines()[0]
    assert json.loads(record)["name"] == "../evil/.."


def test_files_are_private(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "new", "eu-1")
    state.open()
    state.snapshot.save(b"x")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert set(modes.values()) == {0o600}
    assert os.stat(tmp_path / "new").st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MeshError, match=r"state_dir .*: File exists; name a folder that"):
        StateDir(tmp_path / "file", "eu-1").open()
