"""Where the file of a shared table is, and who else may use that folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from crdtbucket.errors import SharedTableError
from crdtbucket.shared import shared_file
from crdtbucket.shared.shared_file import AUTO, SharedFile, path_for

DIRECTORY = shared_file.DIRECTORY
"""As it is without the tests."""


def test_tables_of_tests_are_removed_with_their_other_files(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    assert Path(path_for(AUTO, "eu-1")).is_relative_to(tmp_path_factory.getbasetemp())


def test_auto_is_a_file_in_memory_of_this_user_and_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_file, "DIRECTORY", DIRECTORY)
    uid = os.geteuid()
    assert path_for(AUTO, "eu-1") == f"/dev/shm/crdtbucket-{uid}/eu-1"
    assert path_for(AUTO, "a/../b") == f"/dev/shm/crdtbucket-{uid}/a%2f..%2fb"
    long = {path_for(AUTO, "x" * 150 + end) for end in "ab"}
    assert len(long) == 2
    assert all(len(os.path.basename(name)) < 160 for name in long)
    assert path_for("here", "n") == os.path.abspath("here")


def test_the_folder_of_auto_is_this_users_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_file, "DIRECTORY", str(tmp_path))
    path = path_for(AUTO, "eu-1")
    SharedFile(path).close()
    folder = Path(path).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    SharedFile(path).close()
    folder.chmod(0o750)
    with pytest.raises(SharedTableError, match=r"is no folder of user .* alone: remove it"):
        SharedFile(path)
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o700)
    folder.symlink_to(tmp_path / "elsewhere")  # somebody else may have made the link
    with pytest.raises(SharedTableError, match="is no folder"):
        SharedFile(path)
