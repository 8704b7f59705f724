"""How far a roll-out is on this host: what the processes of a shared table tell each other."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from crdtbucket.errors import SharedTableError
from crdtbucket.rollout.kept_version import position_in, recalled
from crdtbucket.rollout.staged import Position
from crdtbucket.shared.table_file import SharedFile

if TYPE_CHECKING:
    from crdtbucket.config import Config

T = TypeVar("T")

LOG = logging.getLogger("crdtbucket")
ROLLOUT_SUFFIX = "~rollout"
"""What the file adds to the path of the shared table; see `tables.QUOTA_SUFFIX`."""
MOST_BYTES = 64 << 20
"""A larger file is none of ours: 10,000 buckets with overrides take a tenth of that."""


class HostRollout:
    """A file beside a shared table that holds the largest position any of its processes had, and
    the version before it, as `recall.kept` writes them.

    Processes of one host are like nodes of a mesh to each other: each follows the largest position
    that it hears of, so a command in one of them moves all. What cannot be read or written is
    logged once, and tried again at the next call.
    """

    def __init__(self, table_path: str) -> None:
        """`table_path`: the file of the shared table. Nothing is opened yet."""
        self.path = table_path + ROLLOUT_SUFFIX
        self._fault = ""

    def begun(self, target: Config) -> tuple[Config, Position] | None:
        """The version before `target`, and how far that is; None where the file says nothing of
        it that could be used."""
        data = self._locked(_read)
        return recalled(data, target) if data and position_in(data) is not None else None

    def exchange(self, position: Position | None, content: bytes) -> Position | None:
        """Keeps `content`, which holds `position`, where the file has a smaller one or none.
        Returns the position that the file had before."""

        def join(fd: int) -> Position | None:
            found = position_in(_read(fd))
            if position is not None and (found is None or found < position):
                os.ftruncate(fd, 0)
                os.pwrite(fd, content, 0)
            return found

        return self._locked(join)

    def _locked(self, work: Callable[[int], T]) -> T | None:
        # Opened each time: a lock on a file that a fork has copied would be that of both.
        try:
            file = SharedFile(self.path)
            try:
                fcntl.flock(file.fd, fcntl.LOCK_EX)
                done = work(file.fd)
            except OSError as error:
                fix = "give the file system more room, or remove the file"
                raise SharedTableError(self.path, str(error.strerror), fix) from error
            finally:
                file.close()
        except SharedTableError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                LOG.error("the processes of this host do not hear of the roll-out: %s", error)
            return None
        self._fault = ""
        return done


def _read(fd: int) -> bytes:
    return os.pread(fd, min(os.fstat(fd).st_size, MOST_BYTES), 0)


__all__ = ["ROLLOUT_SUFFIX", "HostRollout"]
