"""Sockets to listen on, by an address as people write it."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import socket
import stat
from collections.abc import Iterator

from crdtbucket.base.address import Address, is_loopback, split_address
from crdtbucket.base.file_shortage import ListeningSocket, fix_of
from crdtbucket.errors import CrdtbucketError

UNIX = "unix:"
BACKLOG = 512
"""The kernel queues so many connections while the event loop is busy."""
ACCEPTS_A_TURN = 32
"""One turn of the event loop accepts so many at most, so that a flood cannot stall it."""
SOCKET_MODE = 0o660
FIXES = {
    errno.EACCES: "choose a port above 1023, or a path in a folder that this user may write to",
    errno.EADDRINUSE: "stop what listens there, or name another address with {option}",
    errno.EADDRNOTAVAIL: "name an address of this host",
    errno.ENOENT: "make the folder of the socket first",
}
"""The advice for an error, by its number. `option`: the one that names the address."""


class CannotListen(CrdtbucketError):
    """An address cannot be listened on; the message says why."""


class Listening:
    """One address that is taken."""

    def __init__(self, address: str, *, shared: bool = False, option: str = "--listen") -> None:
        """`address`: "host:port" or "unix:/path". `shared`: child processes of this one have
        sockets of the same port, and only this one removes the file. `option`: the one of
        `crdtbucket serve` that names the address. Raises `CannotListen`."""
        self._path: str | None = None
        self._process = os.getpid() if shared else 0
        try:
            if address.startswith(UNIX):
                self._path = address.removeprefix(UNIX)
                self.socket = _unix(self._path)
            else:
                if shared:  # SO_REUSEPORT would let a second server have the port, too
                    _tcp(*split_address(address), shared=False).close()
                self.socket = _tcp(*split_address(address), shared=shared)
                if shared:  # a port that is chosen by the system would not outlast a `pause`
                    with self.socket as first:
                        self.socket = _tcp(*first.getsockname()[:2], shared=True)
        except ValueError as error:
            fix = 'write "host:port", or "unix:/path"'
            raise CannotListen(f"an address to listen on {error}: {fix}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            fix = fix_of(error, FIXES.get(error.errno or 0, "").format(option=option))
            what = f"cannot listen on {address!r}: {reason}"
            raise CannotListen(": ".join(filter(None, (what, fix)))) from error
        self.socket.setblocking(False)
        self.name, self.local = UNIX + str(self._path), True
        """Its address for clients, "http://host:port" or "unix:/path"; and whether only this host
        can reach it."""
        if self._path is None:
            host, port = self.socket.getsockname()[:2]
            self.name = f"http://{Address(host, port)}"
            self.local = is_loopback(host)

    def again(self) -> Listening:
        """Another socket of the same port, or the same Unix socket."""
        other = copy.copy(self)
        if self._path is None:
            host, port = self.socket.getsockname()[:2]
            other.socket = _tcp(host, port, shared=True)
        else:
            other.socket = self.socket.dup()
        other.socket.setblocking(False)
        return other

    def pause(self) -> None:
        """Connections go to the other sockets of the port, until a server listens on this one. A
        second call does nothing."""
        if self._path is not None:
            return  # all workers have the same socket
        # A second time Linux would end all later connections of this socket as they are accepted.
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            # This fails on macOS: there connections wait for that server.
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Closes the socket. A second call does nothing."""
        self.unlink()
        self.socket.close()

    def unlink(self) -> None:
        """Removes the file of a Unix socket; before the socket is closed, since after that the
        path may be another process's."""
        if self._path is not None and self._process in (0, os.getpid()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        self._path = None


def _tcp(host: str, port: int, *, shared: bool) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = ListeningSocket(family, kind, protocol)
    with _closed_on_error(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    return sock


def _unix(path: str) -> socket.socket:
    _remove_dead(path)
    sock = ListeningSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _closed_on_error(sock):
        # Owner and group alone, from its first moment.
        before = os.umask(0o777 & ~SOCKET_MODE)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
    return sock


def _remove_dead(path: str) -> None:
    """Removes the socket file of a process that is gone, and nothing else."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "there is a file, and it is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, "a running process listens there")


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
