"""The files that a node keeps on disk: a lock on its name, its epoch, a snapshot, and what is
unfinished."""

from __future__ import annotations

import fcntl
import json
import os
import re
from pathlib import Path

from crdtbucket.base.file_shortage import fix_of
from crdtbucket.errors import MeshError, NodeConflict
from crdtbucket.mesh.state_file import CheckedFile, KeyFile, StateFile

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_ORDERS_FIX = "put back a copy, or remove it, and peers tell this node again what was ordered"


class StateDir:
    """The state of one node name in a directory; held exclusively from `open` to `close`."""

    def __init__(self, directory: str | os.PathLike[str], name: str) -> None:
        self._dir = Path(directory)
        self._stem = file_stem(name)
        self._name = name
        self._lock: int | None = None
        self._epoch = self._file("epoch", "remove it to start afresh")
        self.snapshot = StateFile(self._path("snapshot"))
        """The node's entries and what it knows of peers, as of a moment; has its own checksum."""
        self.owed = self._file("owed", "put back a copy, or remove it to start without it")
        """The counts that the previous epoch had not yet sent to the common store."""
        self.quotas = self._file("quotas", "put back a copy, or remove it to start with full ones")
        """What the previous process has left of its quotas for an outage of the common store."""
        self.rollout = self._file("rollout", "remove it to start with the new version")
        """The roll-out that is under way."""
        self.pins = self._file(
            "pins",
            "if you have edited it, remove its last line, too; else put back a copy, or remove it, "
            "and then the next key that each name shows is pinned",
        )
        """The keys that peers have shown."""
        self.orders = self._file("orders", _ORDERS_FIX)
        """The orders of operators."""
        self.commands = self._file("commands", _ORDERS_FIX)
        """The last commands of operators that this node has obeyed."""
        self.overrides_path = str(self._path("overrides"))
        """The file of the limits that operators have given to keys, which grows by records."""
        self.key = KeyFile(self._path("key"))
        """This node's private key."""

    def _path(self, suffix: str) -> Path:
        return self._dir / f"{self._stem}.{suffix}"

    def _file(self, suffix: str, fix: str) -> CheckedFile:
        return CheckedFile(self._path(suffix), fix)

    @property
    def directory(self) -> str:
        """The directory."""
        return str(self._dir)

    def open(self) -> None:
        """Takes the name. Raises NodeConflict when a process on this host has it, MeshError when
        the directory is unusable."""
        path = self._path("lock")
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MeshError(
                f"mesh.state_dir {str(self._dir)!r} cannot be used: {error.strerror}; "
                + fix_of(error, "name a folder that this user may make, or write to")
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise NodeConflict(
                f"a running process on this host is called {self._name!r} "
                f"({path} is locked): if it is another worker of this node, set "
                '`shared: auto` in the configuration, or shared="auto", in all of them: they are '
                "one node then; else give each process its own node name"
            ) from None

    def begin_epoch(self, epoch: int, *, handed_over: bool = False, again: bool = False) -> int:
        """Records a new epoch before anything is counted under it. Returns how many epochs there
        have been. With `handed_over` it may be the last epoch again, since another process of this
        node has ended. With `again` it must be: this process has recorded it, and could not start.
        Raises MeshError if the epoch was used before.
        """
        number, last = self._read_epoch()
        if again and epoch != last:
            raise MeshError(
                f"another process called {self._name!r} has counted since this limiter was first "
                "opened, and that is unknown here: make another limiter"
            )
        if (handed_over or again) and epoch == last:
            return number
        if epoch == last:
            raise MeshError(f"epoch {epoch:x} was used before")
        record = {"name": self._name, "number": number + 1, "epoch": epoch}
        self._epoch.save(json.dumps(record).encode())
        return number + 1

    def close(self) -> None:
        """Gives the name back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _read_epoch(self) -> tuple[int, int]:
        data = self._epoch.load()
        if data is None:
            return 0, 0
        try:
            found = json.loads(data)
            return int(found["number"]), int(found["epoch"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._epoch.damaged(error) from error


def file_stem(node: str) -> str:
    """The name of a node as the beginning of a file's name: characters that are not allowed there
    are escaped."""
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02x}", node)
