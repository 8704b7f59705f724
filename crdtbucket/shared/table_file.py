"""The file of a table that several processes of one host share: found, checked, made, kept.

Every process that uses the file holds a shared lock on it for its life, so that who comes alone may
begin it anew, and nobody else. The rules of the table itself, and what happens when a process is
killed in the middle of a change, are in the core.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import stat
import struct
import time
import weakref
from dataclasses import dataclass
from typing import Any

from crdtbucket._core import (
    HEADER_BYTES,
    LAYOUT,
    Table,
    is_ours,
    read_header,
    table_damage,
    table_size,
)
from crdtbucket.base.clock import clock_offset_ns
from crdtbucket.errors import CrdtbucketError, SharedTableError
from crdtbucket.shared.table_path import make_own_folder

LOG = logging.getLogger("crdtbucket")
MADE_WITHIN_S = 10.0
"""Another process makes the table within this time, or something is wrong with it."""


@dataclass(frozen=True)
class Host:
    """What a table's times and processes belong to."""

    boot: bytes
    pid_space: int
    time_space: int
    """By how much its clock is moved, modulo 2^64. The number of a time namespace would not do: the
    kernel gives it to another one later."""

    @classmethod
    def here(cls) -> Host:
        """This one."""
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            number = bytes.fromhex(boot.read().strip().replace("-", ""))
        spaces = {kind.name: kind.stat().st_ino for kind in os.scandir("/proc/self/ns")}
        return cls(number, spaces["pid"], (clock_offset_ns() or 0) % 2**64)


class SharedFile:
    """The open file of a shared table, and this process' lock on it."""

    def __init__(self, path: str) -> None:
        """Opens or makes the file. Raises SharedTableError when it is not safe to use."""
        self.path = path
        self.fd = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            make_own_folder(path)
            self.fd = os.open(path, flags, 0o600)
            self._check_owner()
        except OSError as error:
            self.close()
            raise SharedTableError(
                path,
                f"cannot be opened: {error.strerror}",
                "name a file in a directory of this host's memory, such as /dev/shm",
            ) from error
        except SharedTableError:
            self.close()
            raise

    def table(
        self,
        *,
        max_keys: int,
        hash_key: bytes | None,
        owner: str,
        virtual: bool = False,
        host: Host | None = None,
    ) -> Table:
        """The table in the file, made when there is none; without `hash_key` it has one of its own.

        One that other processes use must be just this one. One that nobody uses is looked through
        and begun anew where it is damaged, or of another boot, layout, size, secret or node, and
        that is logged; else its counts go on. A file that is not empty and does not begin as a
        table does is somebody's, and is left as it is. Raises SharedTableError.
        """
        here = Host.here() if host is None else host
        named = hashlib.blake2b(owner.encode(), digest_size=8).digest()
        mark = (here.boot, here.pid_space, here.time_space, int.from_bytes(named, "big"))
        wanted = {
            "layout": LAYOUT,
            "boot": here.boot,
            "pid_space": here.pid_space,
            "time_space": here.time_space,
            "owner": mark[3],
            "max_keys": max_keys,
            "size": table_size(max_keys)[0],
        }
        if hash_key is not None:
            wanted["hash_key"] = hash_key
        alone = self._lock()
        first = os.pread(self.fd, HEADER_BYTES, 0)
        if first and not is_ours(first):
            raise SharedTableError(
                self.path,
                "is another program's file, not a table, and is left as it is",
                "name a file that does not exist yet, or remove this one if nobody needs it",
            )
        found = read_header(first)
        fault = _fault(found, wanted, os.fstat(self.fd).st_size) or _damage(
            self.fd, max_keys, alone
        )
        if not alone and fault:
            raise SharedTableError(self.path, *fault)
        if fault and first:
            LOG.warning("the shared table %s %s: it is begun anew", self.path, fault[0])
            os.ftruncate(self.fd, 0)
        if hash_key is None and found is not None and not fault:
            hash_key = found["hash_key"]
        try:
            table = Table(
                max_keys=max_keys,
                hash_key=hash_key,
                virtual=virtual,
                fd=self.fd,
                host=mark,
                join=not alone,
            )
        except OSError as error:
            if alone:
                os.ftruncate(self.fd, 0)
            begun = table_size(max_keys)[1]
            raise SharedTableError(
                self.path,
                f"has no room for {max_keys} keys ({begun >> 20} MiB at first, about "
                f"{max_keys * 200 >> 20} MiB when all are used): {error.strerror}",
                "lower max_keys, or give the file system more room",
            ) from error
        if alone:
            self._try_lock(fcntl.F_RDLCK)
        _open[table] = self
        return table

    def alone(self) -> bool:
        """Whether no other process uses the file. Nobody can come while this process lives on."""
        return self._try_lock(fcntl.F_WRLCK)

    def replaced(self) -> bool:
        """Whether the path leads to another file by now: who comes next shares nothing with us."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except FileNotFoundError:
            return True

    def reopen(self) -> None:
        """In the child of a fork: a lock of its own, which is not the parent's too."""
        inherited, self.fd = self.fd, os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)
        self._try_lock(fcntl.F_RDLCK)  # the parent has one, so it is not refused
        os.close(inherited)

    def __del__(self) -> None:
        self.close()  # of a limiter that could not be made

    def close(self) -> None:
        """Ends this process' use of the file."""
        if self.fd >= 0:
            self._try_lock(fcntl.F_UNLCK)  # a mapping would keep it
            os.close(self.fd)
            self.fd = -1

    def _check_owner(self) -> None:
        is_now = os.fstat(self.fd)
        if not stat.S_ISREG(is_now.st_mode):
            raise SharedTableError(self.path, "is no file", "name a file")
        if is_now.st_uid != os.geteuid():
            raise SharedTableError(
                self.path,
                f"belongs to user {is_now.st_uid}, not to {os.geteuid()}",
                "run all processes as one user, or name another file",
            )
        if is_now.st_nlink > 1:  # the other name may be that of a file which was never meant
            raise SharedTableError(
                self.path,
                f"has {is_now.st_nlink} names (hard links)",
                "name a file of its own, or remove the other names",
            )
        if is_now.st_mode & 0o077:
            raise SharedTableError(
                self.path,
                f"may be used by others (mode {stat.S_IMODE(is_now.st_mode):04o})",
                f"chmod 600 {self.path}",
            )

    def _lock(self) -> bool:
        """Locks the file; True when nobody else uses it: then no one can until that is given up."""
        deadline = time.monotonic() + MADE_WITHIN_S
        while True:
            if self._try_lock(fcntl.F_WRLCK):
                return True
            if self._try_lock(fcntl.F_RDLCK):
                return False
            if time.monotonic() > deadline:
                raise SharedTableError(
                    self.path,
                    f"is being made by another process for {MADE_WITHIN_S:.0f} s",
                    "stop that process, or remove the file",
                )
            time.sleep(0.01)  # only while another process makes the table

    def _try_lock(self, kind: int) -> bool:
        """Changes the lock of this open file to `kind`; what is refused leaves it as it was.

        Not `flock`, which gives the old lock up before it is refused the new one, so that two
        processes which ask at once could both lose theirs, and one believe that it is alone.
        """
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
        except (BlockingIOError, PermissionError):
            return False
        return True


def _fault(
    found: dict[str, Any] | None, wanted: dict[str, Any], size: int
) -> tuple[str, str] | None:
    """What is wrong with a table and what to do, None when it is the wanted one."""
    if found is None:
        return "was never finished", "stop all processes that use it"
    for field, fault in _FAULTS.items():
        if found[field] != wanted.get(field, found[field]):
            text, fix = fault
            return text.format(found=found[field], wanted=wanted[field]), fix
    if size != wanted["size"]:
        return "was cut off", "stop all processes that use it"
    return None


def _damage(fd: int, max_keys: int, alone: bool) -> tuple[str, str] | None:
    """What is wrong with the table in a file whose header is right."""
    wrong = table_damage(fd, max_keys, alone)
    return None if wrong is None else (f"is damaged: {wrong}", "stop all processes that use it")


_LOCK = struct.Struct("hhqqi4x")
"""`struct flock`: kind, from where, start, length (0: all of the file), process (none)."""
_SAME = "give all processes of the host the same settings, or another file"
_FAULTS = {
    "layout": ("is of layout {found}, not {wanted}", "run one version of crdtbucket on the host"),
    "boot": ("is from before the last boot", "stop all processes that use it"),
    "pid_space": (
        "is used in another container",
        "let the containers share their process numbers, or give each its own file",
    ),
    "time_space": ("is used under another clock", "give each time namespace its own file"),
    "owner": ("is that of another node", "give each node its own file"),
    "max_keys": ("is for {found} keys, not {wanted}", _SAME),
    "hash_key": ("is for another mesh secret", _SAME),
    "size": ("has another size", "run one version of crdtbucket on the host"),
}


class TableHandoff:
    """The hand-over record, in the table itself."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self) -> bytes:
        """What was written last in this epoch of the node."""
        return self._table.read_handoff()

    def write(self, data: bytes) -> None:
        """Replaces it."""
        self._table.write_handoff(data)


def shared_stats(file: SharedFile, table: Table) -> dict[str, Any]:
    """Who uses the table, and who leads, as numbers of processes."""
    return {
        "path": file.path,
        "processes": len(table.workers()),
        "leader": table.leader,
        "leading": int(table.leading),
        "repairs": table.repairs,
    }


_open: weakref.WeakKeyDictionary[Table, SharedFile] = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    for table, file in list(_open.items()):
        if file.fd >= 0:
            file.reopen()
            try:
                table.after_fork(file.fd)
            except CrdtbucketError as error:  # its decisions would be counted as the parent's
                table.refusal = error


os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Host", "SharedFile", "TableHandoff", "shared_stats"]
