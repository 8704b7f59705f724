"""Open files that run out while a process runs: what it accepts, what it logs, what to do."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from crdtbucket.base.clock import NS_PER_SECOND, now_ns

LOG = logging.getLogger("crdtbucket")
SHORT = (errno.EMFILE, errno.ENFILE)
"""Errors of a process, and of a system, that has as many files open as it may."""
OVER_NS = 10 * NS_PER_SECOND
"""A shortage is over when files could be opened for so long (ns): clients that come and go make
room for moments only."""
FIXES: dict[int | None, str] = {
    errno.EMFILE: "allow this process more than {limit} (LimitNOFILE= of systemd, or ulimit -n), "
    "or close what it has open (ls -l /proc/{process}/fd)",
    errno.ENFILE: "allow the system more (sysctl fs.file-max), or close what it has open",
}


class ListeningSocket(socket.socket):
    """A socket that event loops accept from. While no further file can be opened, clients are
    refused at once, as uvloop does.

    asyncio alone would leave them without an answer, and log a traceback for each attempt to accept
    them: some dozens in the first second, and in each second some dozens more than in the last.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        self._reserve = _opened()
        try:
            super().__init__(*args, **named)
        except BaseException:
            self._let_go()
            raise

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; without a file for one, it is closed, and `BlockingIOError` ends
        this turn of the event loop."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in SHORT or self._reserve < 0:
                raise
            self._refuse()
            raise BlockingIOError(errno.EAGAIN, "a client was refused") from error

    def close(self) -> None:
        """Closes the socket. A second call does nothing."""
        super().close()
        self._let_go()

    def _refuse(self) -> None:
        self._let_go()
        with contextlib.suppress(OSError):  # the client is gone, or another thread was faster
            super().accept()[0].close()
        with contextlib.suppress(OSError):  # asyncio logs what comes until there is one again
            self._reserve = _opened()

    def _let_go(self) -> None:
        reserve, self._reserve = self._reserve, -1
        if reserve >= 0:
            os.close(reserve)


class FileShortage:
    """Logs once that no file can be opened, and once that this is over."""

    def __init__(self, clock: Callable[[], int] = now_ns) -> None:
        """`clock`: local ns."""
        self._clock = clock
        self._since: int | None = None
        self._last = 0

    def beat(self) -> None:
        """Tries to open a file; to be called about every second."""
        now = self._clock()
        try:
            os.close(_opened())
        except OSError as error:
            if error.errno not in SHORT:
                return
            self._last = now
            if self._since is None:
                self._since = now
                LOG.error(
                    "%s: no client or peer can connect, and no connection is made to peers and to "
                    "Redis; %s",
                    error.strerror, fix_of(error, ""),
                )  # fmt: skip
        else:
            if self._since is not None and now - self._last >= OVER_NS:
                spent = (self._last - self._since) / NS_PER_SECOND
                LOG.info("files can be opened again, after %.0f s in which none could", spent)
                self._since = None


def fix_of(error: Exception, fix: str) -> str:
    """What to do about an error: `fix`, unless it says that no further file can be opened."""
    # Errors of TLS have numbers of their own, and a class of their own.
    if type(error) is not OSError or error.errno not in FIXES:
        return fix
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FIXES[error.errno].format(limit=limit, process=os.getpid())


def _opened() -> int:
    return os.open(os.sep, os.O_RDONLY | os.O_CLOEXEC)
