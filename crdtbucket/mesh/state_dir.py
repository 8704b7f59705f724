"""What a node keeps on disk: a lock on its name, its epoch, a snapshot, and what is unfinished."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import stat
from pathlib import Path

from crdtbucket.errors import MeshError, NodeConflict

LOG = logging.getLogger("crdtbucket.mesh")
MAX_KEY_BYTES = 65_536
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class StateDir:
    """The state of one node name in a directory; held exclusively from `open` to `close`.

    Every write is complete or absent after a crash: written aside, synced, renamed, and the
    directory synced.
    """

    def __init__(self, directory: str | os.PathLike[str], name: str) -> None:
        self._dir = Path(directory)
        stem = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02x}", name)
        self._name = name
        self._lock_path, self._epoch_path, self._snapshot_path, self._rollout_path = (
            self._dir / f"{stem}{suffix}" for suffix in (".lock", ".epoch", ".snapshot", ".rollout")
        )
        self._owed_path = self._dir / f"{stem}.owed"
        self._orders_path = self._dir / f"{stem}.orders"
        self._overrides_path = self._dir / f"{stem}.overrides"
        self._key_path, self._pins_path = self._dir / f"{stem}.key", self._dir / f"{stem}.pins"
        self._lock: int | None = None

    @property
    def directory(self) -> str:
        """The directory."""
        return str(self._dir)

    @property
    def key_file(self) -> str:
        """The file of this node's private key."""
        return str(self._key_path)

    @property
    def pins_file(self) -> str:
        """The file of the keys that peers have shown."""
        return str(self._pins_path)

    @property
    def orders_file(self) -> str:
        """The file of the orders of operators."""
        return str(self._orders_path)

    @property
    def overrides_file(self) -> str:
        """The file of the limits that operators have given to keys."""
        return str(self._overrides_path)

    def open(self) -> None:
        """Takes the name. Raises NodeConflict when a process on this host has it, MeshError when
        the directory is unusable."""
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MeshError(
                f"mesh.state_dir {str(self._dir)!r} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise NodeConflict(
                f"a running process on this host is called {self._name!r} "
                f"({self._lock_path} is locked): if it is another worker of this node, set "
                '`shared: auto` in the configuration, or shared="auto", in all of them: they are '
                "one node then; else give each process its own node name"
            ) from None
        self._lock = lock

    def begin_epoch(self, epoch: int, *, handed_over: bool = False) -> int:
        """Records a new epoch before anything is counted under it. Returns how many there were.

        With `handed_over` it may be the last one again: another process of this node has ended.
        Raises MeshError when the epoch is one that was used before.
        """
        number, last = self._read_epoch()
        if handed_over and epoch == last:
            return number
        if epoch == last:
            raise MeshError(f"epoch {epoch:x} was used before")
        self._write(
            self._epoch_path,
            json.dumps({"name": self._name, "number": number + 1, "epoch": epoch}).encode(),
        )
        return number + 1

    def load_snapshot(self) -> bytes | None:
        """The last snapshot saved, or None."""
        try:
            return self._snapshot_path.read_bytes()
        except FileNotFoundError:
            return None

    def save_snapshot(self, data: bytes) -> None:
        """Replaces the snapshot."""
        self._write(self._snapshot_path, data)

    def load_owed(self) -> bytes | None:
        """What the epoch before had still to send to the common store, or None."""
        return _read(self._owed_path)

    def save_owed(self, data: bytes) -> None:
        """Replaces that."""
        self._write(self._owed_path, data)

    def load_rollout(self) -> bytes | None:
        """What is kept of a roll-out under way, or None."""
        return _read(self._rollout_path)

    def save_rollout(self, data: bytes | None) -> None:
        """Replaces that; None: nothing is under way."""
        if data is not None:
            self._write(self._rollout_path, data)
            return
        try:
            self._rollout_path.unlink(missing_ok=True)
        except OSError as error:
            raise MeshError(f"{self._rollout_path} cannot be removed: {error.strerror}") from error

    def load_key(self) -> bytes | None:
        """This node's private key (PEM), None when there is none.

        Raises MeshError for one that cannot be read, or that every user of the host can. The group
        may: volumes of some platforms give it to the group of their pod.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.open(self._key_path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MeshError(f"{self._key_path} cannot be read: {error.strerror}") from error
        try:
            self._check_mode(os.fstat(file).st_mode)
            return os.read(file, MAX_KEY_BYTES)
        finally:
            os.close(file)

    def _check_mode(self, mode: int) -> None:
        shown = f"{stat.S_IMODE(mode):03o}"
        if not stat.S_ISREG(mode):
            raise MeshError(f"{self._key_path} cannot be read: it is no regular file")
        if mode & stat.S_IRWXO:
            raise MeshError(
                f"{self._key_path} has mode {shown}, so every user of this host may have this "
                "node's key: chmod 600 it, or remove it and have a new one made"
            )
        if mode & stat.S_IRWXG:
            LOG.warning("%s has mode %s: its group has this node's key", self._key_path, shown)

    def save_new_key(self, pem: bytes) -> None:
        """Keeps a private key. Raises MeshError where there is a file already, whatever it is."""
        if os.path.lexists(self._key_path):
            raise MeshError(f"{self._key_path} is there already: it is not replaced")
        self._write(self._key_path, pem)

    def load_pins(self) -> bytes | None:
        """The keys of peers as they were saved last, or None."""
        return _read(self._pins_path)

    def save_pins(self, data: bytes) -> None:
        """Replaces them."""
        self._write(self._pins_path, data)

    def load_orders(self) -> bytes | None:
        """The orders of operators as they were saved last, or None."""
        return _read(self._orders_path)

    def save_orders(self, data: bytes) -> None:
        """Replaces them."""
        self._write(self._orders_path, data)

    def close(self) -> None:
        """Gives the name back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _read_epoch(self) -> tuple[int, int]:
        try:
            found = json.loads(self._epoch_path.read_bytes())
            return int(found["number"]), int(found["epoch"])
        except FileNotFoundError:
            return 0, 0
        except (ValueError, KeyError, TypeError) as error:
            raise MeshError(
                f"{self._epoch_path} is damaged ({error}): remove it to start afresh"
            ) from error

    def _write(self, path: Path, data: bytes) -> None:
        aside = path.with_suffix(path.suffix + ".new")
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(
                os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
            ) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
            directory = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise MeshError(f"{path} cannot be written: {error.strerror}") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MeshError(f"{path} cannot be read: {error.strerror}") from error
