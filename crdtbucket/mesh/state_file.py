"""One file of a node's state, which is read whole and whose write is complete or absent after a
crash; one that ends in a checksum; and the file of a private key, which is never replaced."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import zlib
from collections.abc import Iterable
from pathlib import Path

from crdtbucket.errors import MeshError

LOG = logging.getLogger("crdtbucket.mesh")
MAX_KEY_BYTES = 65_536
CRC = b"\ncrc32 "
"""Begins the last line of a checked file."""


def damaged(path: object, why: object, fix: str) -> MeshError:
    """The error for a file whose content cannot be read; `fix`: what its user can do."""
    return MeshError(f"{path} is damaged ({why}): {fix}")


class StateFile:
    """A file that only its user may read. Its text is its path, for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> bytes | None:
        """What was saved last, None when there is nothing. Raises MeshError."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MeshError(f"{self} cannot be read: {error.strerror}") from error

    def save(self, *pieces: bytes) -> None:
        """Replaces the content by these chunks, one after the other: writes a file beside it, syncs
        and renames that, and syncs the directory. Raises MeshError."""
        aside, directory = self.path.with_name(self.path.name + ".new"), self.path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(aside, flags, 0o600), "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, self.path)
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)  # its content would keep a full disk full
            raise MeshError(f"{self} cannot be written: {error.strerror}") from error

    def remove(self) -> None:
        """Removes it, if it is there. Raises MeshError."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise MeshError(f"{self} cannot be removed: {error.strerror}") from error


class CheckedFile(StateFile):
    """A file whose last line is a checksum of all before it, so that a flipped bit is an error and
    never another number."""

    def __init__(self, path: Path, fix: str) -> None:
        """`fix`: what its user can do when it is damaged."""
        super().__init__(path)
        self._fix = fix

    def load(self) -> bytes | None:
        """As `StateFile.load`. Raises `MeshError` also when the checksum is wrong. A file without
        one is of an earlier version, or was written by hand: its reader decides."""
        data = super().load()
        if data is None:
            return None
        content, mark, found = data.rpartition(CRC)
        if not mark:
            return data
        if found != _checksum([content]):
            raise self.damaged("its bytes have another checksum")
        return content

    def save(self, *pieces: bytes) -> None:
        """As `StateFile.save`."""
        super().save(*pieces, CRC, _checksum(pieces))

    def damaged(self, why: object) -> MeshError:
        """The error for content that cannot be read."""
        return damaged(self, why, self._fix)


class KeyFile(StateFile):
    """The file of a private key (PEM), which is never replaced."""

    def load(self) -> bytes | None:
        """The key, None when there is none. Raises MeshError if this process cannot read it, or if
        every user of the host can. The group may read it: volumes of some platforms give it to the
        group of their pod.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            file = os.open(self.path, flags)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MeshError(f"{self} cannot be read: {error.strerror}") from error
        try:
            self._check_mode(os.fstat(file).st_mode)
            return os.read(file, MAX_KEY_BYTES)
        finally:
            os.close(file)

    def save(self, *pieces: bytes) -> None:
        """Saves a new key. Raises MeshError if there is a file already, whatever it holds."""
        if os.path.lexists(self.path):
            raise MeshError(f"{self} is there already: it is not replaced")
        super().save(*pieces)

    def _check_mode(self, mode: int) -> None:
        shown = f"{stat.S_IMODE(mode):03o}"
        if not stat.S_ISREG(mode):
            raise MeshError(f"{self} cannot be read: it is no regular file")
        if mode & stat.S_IRWXO:
            raise MeshError(
                f"{self} has mode {shown}, so every user of this host may have this node's key: "
                "chmod 600 it, or remove it and have a new one made"
            )
        if mode & stat.S_IRWXG:
            LOG.warning("%s has mode %s: its group has this node's key", self, shown)


def _checksum(pieces: Iterable[bytes]) -> bytes:
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return b"%08x\n" % crc
