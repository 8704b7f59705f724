"""The file of the limits that operators have given to keys: all processes of a node append to it.

Each record holds the orders that were appended at one moment, after their length and digest. The
next process drops a record that a crash has cut off. The file is rewritten when most of its orders
were replaced by newer ones, and when it was removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgpack

from crdtbucket.base.file_shortage import fix_of
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.override_book import OverrideBook
from crdtbucket.mesh.links.override_orders import OverrideOrder
from crdtbucket.mesh.links.signed_orders import packed as packed_orders
from crdtbucket.mesh.links.signed_orders import unpacked
from crdtbucket.mesh.state_file import damaged

RECORD = 256
"""Orders in one record at most."""
MOST_BYTES = 1 << 20
"""Most bytes of a record."""
SPARE_ORDERS = 10_000
"""The file may hold this many replaced orders beside one order for each key, before it is
rewritten."""
FIX = "put back a copy, or remove it, and peers tell this node the limits again"
ROOM_FIX = "give this process the right to write in its directory, and room on the disk"
_HEAD = struct.Struct(">I16s")


class FileId(NamedTuple):
    """Distinguishes a file from another one at its path, to which the system may give the same
    inode."""

    inode: int
    first: bytes
    """The head of its first record."""

    @classmethod
    def of(cls, fd: int) -> FileId:
        """The identity of an open file."""
        return cls(os.fstat(fd).st_ino, os.pread(fd, _HEAD.size, 0))


class OverrideFile:
    """One process' view of the file. It is opened for each use, so that a fork shares no lock."""

    def __init__(self, path: str) -> None:
        """Nothing is opened yet."""
        self.path = path
        self._known: FileId | None = None
        """Which file was read."""
        self._at = 0
        """The offset up to which it was read."""
        self._orders = 0
        """How many orders it holds up to that offset."""

    @property
    def changed(self) -> bool:
        """Whether other processes have written to it."""
        try:
            found = os.stat(self.path)
        except OSError:  # `exchange` raises with the reason
            return self._known is not None
        known = self._known
        return known is None or (found.st_ino, found.st_size) != (known.inode, self._at)

    def begin_again(self) -> None:
        """`exchange` returns from now on all orders in the file, also those that it returned."""
        self._known, self._at, self._orders = None, 0, 0

    def exchange(
        self,
        new: Sequence[OverrideOrder],
        book: OverrideBook,
        *,
        durable: bool = False,
        most: int | None = None,
    ) -> list[OverrideOrder]:
        """Appends orders, and returns those that others have appended.

        `book` has all orders in force, in case the file is rewritten; `durable`: waits for the
        disk; `most`: about how many bytes are read at most. Raises `MeshError`.
        """
        try:
            known = self._known
            fd = self._locked()
            begin = self._at, self._orders
            try:
                found = self._read(fd, most)
                whole = self._at == os.fstat(fd).st_size  # else what is not read would be lost
                is_other = known is not None and FileId.of(fd) != known
                if is_other and whole and self._orders + len(new) < len(book):
                    new = book.every()  # it was removed, and this one has not all that holds
                if new:
                    self._append(fd, new, durable=durable)
                self._known = FileId.of(fd)
                if new and whole and self._orders > 2 * len(book) + SPARE_ORDERS:
                    self._write_anew([*book.every(), *found])
            except BaseException:
                self._at, self._orders = begin  # nobody gets what was read: it is read again
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise MeshError(
                f"{self.path} cannot be used: {error.strerror}: " + fix_of(error, ROOM_FIX)
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
                    if FileId.of(fd) != self._known or mine.st_size < self._at:
                        self._at = self._orders = 0
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
                if _is_not_cut_off(os.pread(fd, MOST_BYTES, self._at + _HEAD.size)):
                    raise damaged(self.path, "a record has another length", FIX)
                LOG.warning(
                    "%s: a record that was cut off by a crash is dropped: %d bytes",
                    self.path,
                    end - self._at,
                )
                os.ftruncate(fd, self._at)
                break
            packed = os.pread(fd, size, self._at + _HEAD.size)
            found.extend(self._orders_in(packed, digest))
            self._at += _HEAD.size + size
        self._orders += len(found)
        return found

    def _orders_in(self, packed: bytes, digest: bytes) -> Iterator[OverrideOrder]:
        if _digest(packed) != digest:
            raise damaged(self.path, "a record has another checksum", FIX)
        try:
            yield from OverrideOrder.read(unpacked(packed))
        except WireError as error:
            raise damaged(self.path, error, FIX) from error

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
        """Replaces the file, which is locked, by one with these orders only. The old file stays if
        the disk has no room for both."""
        aside = self.path + ".new"
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(aside, flags, 0o600)
        try:
            for record in _records(orders):
                _write(fd, record)
            os.fsync(fd)
            is_now, size = FileId.of(fd), os.fstat(fd).st_size
            os.replace(aside, self.path)
        except OSError as error:
            os.unlink(aside)  # else it takes the last room on the disk
            LOG.warning("%s is not written anew: %s", self.path, error.strerror)
            return
        finally:
            os.close(fd)
        self._known, self._at, self._orders = is_now, size, len(orders)


def _records(orders: Sequence[OverrideOrder]) -> Iterator[bytes]:
    for first in range(0, len(orders), RECORD):
        packed = packed_orders(orders[first : first + RECORD])
        yield _HEAD.pack(len(packed), _digest(packed)) + packed


def _is_not_cut_off(rest: bytes) -> bool:
    """Whether the bytes after the head of a record are a whole record, so that the head is wrong
    and the record was not cut off."""
    unpacker = msgpack.Unpacker(use_list=False)
    unpacker.feed(rest)
    try:
        unpacker.unpack()
    except msgpack.OutOfData:
        return False
    except (ValueError, TypeError):  # the second is of a map as a key
        pass
    return True


def _digest(packed: bytes) -> bytes:
    return hashlib.blake2b(packed, digest_size=16).digest()


def _write(fd: int, data: bytes) -> None:
    os.lseek(fd, 0, os.SEEK_END)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
