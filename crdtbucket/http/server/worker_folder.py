"""The folder of the private sockets of a server's workers, and what a killed server left of it.

The first process locks the folder, and the workers that it forks inherit the lock: it is free only
when all of them have ended, however that was. So whoever gets the lock may remove the folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crdtbucket.shared.shared_file import DIRECTORY

LOG = logging.getLogger("crdtbucket.http")
PREFIX = "crdtbucket-workers-"


@contextmanager
def worker_folder(inside: str = DIRECTORY) -> Iterator[Path]:
    """A folder that only this user can open, until the end of the block. It is beside shared
    tables, which workers have: a container may have no other place to write to."""
    while True:
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=inside) as made:
            lock = _lock(Path(made))
            if lock is None:  # another server has removed it, as nobody had locked it yet
                continue
            try:
                yield Path(made)
            finally:
                os.close(lock)
            return


def remove_abandoned_folders(inside: str = DIRECTORY) -> None:
    """Removes the folders of this user's servers that were killed together with their workers."""
    for found in Path(inside).glob(PREFIX + "*"):
        _remove_abandoned(found)


def _remove_abandoned(found: Path) -> None:
    try:
        lock = _lock(found) if found.lstat().st_uid == os.geteuid() else None
        if lock is None:
            return
        try:
            for one in found.iterdir():
                if one.is_socket():
                    one.unlink()
            found.rmdir()
        finally:
            os.close(lock)
    except FileNotFoundError:  # its server, or another one that starts, has removed it
        return
    except OSError as error:
        LOG.warning("%s, which an ended server left, cannot be removed: %s", found, error)


def _lock(path: Path) -> int | None:
    """A descriptor that keeps the folder locked; None where another process has locked or removed
    it. Raises OSError for what is no folder."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.lstat(path), os.fstat(folder)):
            return folder
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(folder)
    return None
