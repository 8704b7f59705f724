"""The folder of a server's workers: what is left of it is removed, and none that is in use."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from crdtbucket.http.server import worker_folder as module
from crdtbucket.http.server.worker_folder import PREFIX, remove_abandoned_folders, worker_folder
from tests.waits import until


def left_behind(inside: Path, name: str = "left") -> Path:
    """The folder of a server that was killed with its workers."""
    folder = inside / f"{PREFIX}{name}"
    folder.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(folder / "0"))
    return folder


def test_what_killed_servers_left_is_removed_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left_behind(tmp_path, "full")
    (tmp_path / f"{PREFIX}empty").mkdir()
    others = {tmp_path / "crdtbucket-workers", tmp_path / "another-folder"}
    for other in others:
        other.mkdir()
    kept, link = left_behind(tmp_path, "with more"), tmp_path / f"{PREFIX}link"
    (kept / "a letter").touch()
    link.symlink_to(tmp_path / "another-folder")
    remove_abandoned_folders(str(tmp_path))
    assert set(tmp_path.iterdir()) == {*others, kept, link}
    assert [path.name for path in kept.iterdir()] == ["a letter"]
    said = "which an ended server left, cannot be removed: [Errno"
    assert sorted(caplog.messages) == [
        f"{link}, {said} {errno.ENOTDIR}] Not a directory: '{link}'",
        f"{kept}, {said} {errno.ENOTEMPTY}] Directory not empty: '{kept}'",
    ]


def test_a_folder_in_use_stays_and_goes_with_its_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), worker_folder(str(tmp_path)) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        remove_abandoned_folders(str(tmp_path))
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
    assert not caplog.messages


def test_a_folder_in_use_by_a_worker_stays_when_the_first_process_is_killed(
    tmp_path: Path,
) -> None:
    told, tells = os.pipe()
    first = os.fork()
    if not first:
        with worker_folder(str(tmp_path)):
            worker = os.fork() or signal.pause()
            os.write(tells, str(worker).encode())
            signal.pause()
    worker = int(os.read(told, 32))
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    try:
        remove_abandoned_folders(str(tmp_path))
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        os.close(tells)
        os.kill(worker, signal.SIGKILL)
    assert os.read(told, 1) == b""  # it has ended, and gives its lock up next

    def removed() -> bool:
        remove_abandoned_folders(str(tmp_path))
        return not list(tmp_path.iterdir())

    until(removed)
    os.close(told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_stays(tmp_path: Path) -> None:
    folder = left_behind(tmp_path)
    os.chown(folder, 12345, -1)
    remove_abandoned_folders(str(tmp_path))
    assert len(list(folder.iterdir())) == 1


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = module.fcntl.flock, []

    def late(folder: int, how: int) -> Any:
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].rmdir()
        return lock(folder, how)

    monkeypatch.setattr(module.fcntl, "flock", late)
    with worker_folder(str(tmp_path)) as folder:
        assert [folder] == list(tmp_path.iterdir())
        assert folder != removed[0]
