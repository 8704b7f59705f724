"""Where a roll-out under way is kept: beside a shared table, and in the state directory."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from crdtbucket._core import Table
from crdtbucket.errors import MeshError, SharedTableError
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.rollout.kept_version import kept, position_in, recalled
from crdtbucket.rollout.staged import Position
from crdtbucket.shared.shared_file import SharedFile

if TYPE_CHECKING:
    from crdtbucket.config import Config

T = TypeVar("T")

LOG = logging.getLogger("crdtbucket")
ROLLOUT_SUFFIX = "~rollout"
"""What the file adds to the path of the shared table; see `tables.QUOTA_SUFFIX`."""
MOST_BYTES = 64 << 20
"""A larger file is none of ours: 10,000 buckets with overrides take a tenth of that."""


class HostRollout:
    """A file beside a shared table with the largest position that any of its processes had.

    It holds the version before, too, as `kept_version.kept` writes it. Processes of one host are
    like nodes of a mesh to each other: each follows the largest position that it reads, so a
    command in one of them moves all. What cannot be read or written is logged once, and tried again
    at the next call.
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

    def exchange(self, position: Position, content: Callable[[], bytes]) -> Position | None:
        """Keeps what `content` returns, which holds `position`, where the file has a smaller one or
        none; else nobody asks for it. Returns the position that the file had before."""

        def merge(fd: int) -> Position | None:
            found = position_in(_read(fd))
            if found is None or found < position:
                written = content()
                os.ftruncate(fd, 0)
                os.pwrite(fd, written, 0)
            return found

        return self._locked(merge)

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
                LOG.error(
                    "the processes of this host do not learn about the roll-out from each other: "
                    "%s",
                    error,
                )
            return None
        self._fault = ""
        return done


class RolloutStore:
    """The places where one limiter keeps its roll-out, so that it goes on after a restart."""

    def __init__(
        self, table: Table, host: HostRollout | None = None, state_dir: StateDir | None = None
    ) -> None:
        """`host`: the file of the processes that share `table`."""
        self._table = table
        self._host = host
        self._state_dir = state_dir
        self._saved: Position | None = None

    def exchange(self, position: Position, before: Config) -> Position | None:
        """Keeps a new position on disk; of the processes of a shared table the leader does it.
        Shows it to the others, and returns theirs."""
        if position != self._saved and (self._table.leading or not self._table.shared):
            self._saved = position
            self._write(kept(before, position))
        if self._host is None:
            return None
        return self._host.exchange(position, lambda: kept(before, position))

    def clear(self) -> None:
        """Removes what is kept on disk."""
        self._saved = None
        self._write(None)

    def _write(self, data: bytes | None) -> None:
        if self._state_dir is not None:
            file = self._state_dir.rollout
            try:
                file.remove() if data is None else file.save(data)
            except MeshError as error:  # the roll-out goes on; a restart would not know of it
                LOG.error("%s", error)


def begun(
    target: Config, host: HostRollout | None, state_dir: StateDir | None
) -> tuple[Config, Position] | None:
    """The version before `target` and how far that is, in other processes of the host or in an
    earlier epoch of this node; None when it was never begun. Raises `MeshError`."""
    found = [None if host is None else host.begun(target)]
    data = None if state_dir is None else state_dir.rollout.load()
    if data is not None:
        found.append(recalled(data, target))
    known = [one for one in found if one is not None]
    return max(known, key=lambda one: one[1], default=None)


def _read(fd: int) -> bytes:
    return os.pread(fd, min(os.fstat(fd).st_size, MOST_BYTES), 0)
