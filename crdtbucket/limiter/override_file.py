"""The file of the limits that operators have given to keys: all processes of a node append to it.

Each record is the orders of one moment, with their length and digest before them. A record that a
crash has cut off is dropped by the next process; a file that mostly holds orders that newer ones
have replaced is written anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence

from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.override_book import OverrideBook
from crdtbucket.mesh.links.override_orders import OverrideOrder
from crdtbucket.mesh.links.signed_orders import packed as packed_orders
from crdtbucket.mesh.links.signed_orders import unpacked

RECORD = 256
"""Orders in one record at most."""
SPARE_ORDERS = 10_000
"""So many orders that newer ones have replaced are left in the file, beside one for each key."""
_HEAD = struct.Struct(">I16s")


class OverrideFile:
    """One process' view of the file. It is opened for each use, so that a fork shares no lock."""

    def __init__(self, path: str) -> None:
        """Nothing is opened yet."""
        self.path = path
        self._inode = 0
        self._at = 0
        """Up to where it was read."""
        self._orders = 0
        """How many it holds up to there."""

    @property
    def changed(self) -> bool:
        """Whether other processes have written to it."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return self._inode != 0
        return (found.st_ino, found.st_size) != (self._inode, self._at)

    def exchange(
        self,
        new: Sequence[OverrideOrder],
        book: OverrideBook,
        *,
        durable: bool = False,
        most: int | None = None,
    ) -> list[OverrideOrder]:
        """Appends orders, and returns those that others have appended.

        `book` has all orders that hold, for when it is written anew; `durable`: waits for the disk;
        `most`: bytes that are read at most, nearly. Raises `MeshError`.
        """
        try:
            fd = self._locked()
            try:
                found = self._read(fd, most)
                if new:
                    self._append(fd, new, durable=durable)
                    whole = self._at == os.fstat(fd).st_size  # else what is not read would be lost
                    if whole and self._orders > 2 * len(book) + SPARE_ORDERS:
                        self._write_anew([*book.every(), *found])
            finally:
                os.close(fd)
        except OSError as error:
            raise MeshError(
                f"{self.path} cannot be used: {error.strerror}: give this process its directory, "
                "and room there"
            ) from error
        return found

    def _locked(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        while True:
            fd = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                mine = os.fstat(fd)
                if mine.st_uid != os.geteuid() or mine.st_mode & 0o077:
                    raise MeshError(
                        f"{self.path} may be written by others than this user: remove it, or give "
                        "it to this user alone (chmod 600)"
                    )
                if os.path.samestat(mine, os.stat(self.path)):
                    if mine.st_ino != self._inode or mine.st_size < self._at:
                        self._inode, self._at, self._orders = mine.st_ino, 0, 0
                    return fd
            except FileNotFoundError:
                pass  # it is written anew in this moment, as where it is another file
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _read(self, fd: int, most: int | None) -> list[OverrideOrder]:
        found: list[OverrideOrder] = []
        end, first = os.fstat(fd).st_size, self._at
        while self._at < end and (most is None or self._at - first < most):
            head = os.pread(fd, _HEAD.size, self._at)
            size, digest = _HEAD.unpack(head) if len(head) == _HEAD.size else (end, b"")
            if self._at + _HEAD.size + size > end:
                LOG.warning("%s: a record that was cut off by a crash is dropped", self.path)
                os.ftruncate(fd, self._at)
                break
            packed = os.pread(fd, size, self._at + _HEAD.size)
            found.extend(self._orders_in(packed, digest))
            self._at += _HEAD.size + size
        self._orders += len(found)
        return found

    def _orders_in(self, packed: bytes, digest: bytes) -> Iterator[OverrideOrder]:
        fix = "put back a copy, or remove it, and peers tell this node the limits again"
        if _digest(packed) != digest:
            raise MeshError(f"{self.path} is damaged: {fix}")
        try:
            yield from OverrideOrder.read(unpacked(packed))
        except WireError as error:
            raise MeshError(f"{self.path} is damaged ({error}): {fix}") from error

    def _append(self, fd: int, orders: Sequence[OverrideOrder], *, durable: bool) -> None:
        end = os.fstat(fd).st_size
        try:
            for record in _records(orders):
                _write(fd, record)
            if durable:
                os.fsync(fd)
        except OSError:
            os.ftruncate(fd, end)
            raise
        if self._at == end:  # else its own orders are read with the rest
            self._at = os.fstat(fd).st_size
            self._orders += len(orders)

    def _write_anew(self, orders: Sequence[OverrideOrder]) -> None:
        """Writes a file of these alone, in the place of the other, which is locked."""
        aside = self.path + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(aside, flags, 0o600)
        try:
            for record in _records(orders):
                _write(fd, record)
            os.fsync(fd)
            is_now = os.fstat(fd)
            os.replace(aside, self.path)
        finally:
            os.close(fd)
        self._inode, self._at, self._orders = is_now.st_ino, is_now.st_size, len(orders)


def _records(orders: Sequence[OverrideOrder]) -> Iterator[bytes]:
    for first in range(0, len(orders), RECORD):
        packed = packed_orders(orders[first : first + RECORD])
        yield _HEAD.pack(len(packed), _digest(packed)) + packed


def _digest(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=16).digest()


def _write(fd: int, data: bytes) -> None:
    os.lseek(fd, 0, os.SEEK_END)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
