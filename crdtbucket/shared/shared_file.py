"""A file that several processes of one host use, each under a lock of its own, and where it is.

Every process that uses the file holds a shared lock on it until it ends. So a process that finds no
other may begin the file anew, and no other process may.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import struct
import time
from contextlib import suppress

from crdtbucket.base.file_shortage import fix_of
from crdtbucket.errors import SharedTableError
from crdtbucket.mesh.state_dir import file_stem

AUTO = "auto"
DIRECTORY = "/dev/shm"
MADE_WITHIN_S = 10.0
"""Another process makes the table within this time, or something is wrong with it."""
_LOCK = struct.Struct("hhqqi4x")
"""`struct flock`: kind, from where, start, length (0: all of the file), process (none)."""


def path_for(shared: str | os.PathLike[str], node: str) -> str:
    """The file for `shared`: a path, or "auto" for one in memory that belongs to this user and
    node, in a folder that only this user can access."""
    if shared != AUTO:
        return os.path.abspath(os.fspath(shared))
    name = file_stem(node)
    if len(name) > 100:
        name = name[:80] + hashlib.blake2b(node.encode(), digest_size=8).hexdigest()
    return f"{own_folder()}/{name}"


def own_folder() -> str:
    """The folder of the files that "auto" means."""
    return f"{DIRECTORY}/crdtbucket-{os.geteuid()}"


def make_own_folder(path: str) -> None:
    """Makes the folder of an "auto" file; does nothing for other files. Raises OSError, and
    SharedTableError if other users may write to the folder, who could remove or replace its
    files."""
    folder = own_folder()
    if os.path.dirname(path) != folder:
        return
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SharedTableError(
            folder,
            f"is no folder of user {os.geteuid()} alone",
            "remove it, or name a file in another folder as `shared`",
        )


class SharedFile:
    """An open file of this user, and this process' lock on it."""

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
                fix_of(error, "name a file in a directory of this host's memory, such as /dev/shm"),
            ) from error
        except SharedTableError:
            self.close()
            raise

    def lock(self) -> bool:
        """Locks the file. True when no other process uses it; then no other can until this lock is
        given up."""
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

    def share(self) -> None:
        """From now on, other processes may use the file, too."""
        self._try_lock(fcntl.F_RDLCK)

    def alone(self) -> bool:
        """Whether no other process uses the file. If so, no other can begin to use it while this
        one lives."""
        return self._try_lock(fcntl.F_WRLCK)

    def used(self) -> bool:
        """Whether another process uses the file, or a table of this one does; locks nothing."""
        whole = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_ = _LOCK.unpack(fcntl.fcntl(self.fd, fcntl.F_OFD_GETLK, whole))
        return bool(kind != fcntl.F_UNLCK)

    def replaced(self) -> bool:
        """Whether the path now leads to another file, so that new processes share nothing with this
        one."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except FileNotFoundError:
            return True

    def cut_off(self, size: int) -> SharedTableError | None:
        """The error to raise if the file has fewer than `size` bytes, else None. The kernel ends a
        process that touches the missing part (SIGBUS)."""
        is_now = os.fstat(self.fd).st_size
        if is_now >= size:
            return None
        return SharedTableError(
            self.path,
            f"was made shorter while it is used: {is_now} bytes of {size} are left",
            "stop all processes that use it and start them again, and find what writes to it",
        )

    def reopen(self) -> None:
        """In the child of a fork: gets a lock of its own, separate from the parent's. If that
        fails, raises `SharedTableError`; then the file is closed here, and the parent keeps its
        lock."""
        inherited, self.fd = self.fd, -1
        try:
            self.fd = os.open(f"/proc/self/fd/{inherited}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise SharedTableError(
                self.path,
                f"cannot be opened in the child of a fork: {error.strerror}",
                fix_of(error, "open the limiter after the fork"),
            ) from error
        finally:
            os.close(inherited)
        self.share()  # the parent has a lock, so it is not refused

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

    def _try_lock(self, kind: int) -> bool:
        """Changes the lock of this open file to `kind`; a refused change leaves it as it was.
        `flock` is not used: it gives the old lock up before the new one is refused, so two
        processes that ask at once could both lose theirs, and one could believe that it is alone.
        """
        try:
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
        except (BlockingIOError, PermissionError):
            return False
        return True
