"""Watches a configuration file, and reloads it when its content has changed."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from crdtbucket.base.file_shortage import SHORT
from crdtbucket.errors import CrdtbucketError

LOG = logging.getLogger("crdtbucket")
Calls = queue.SimpleQueue[bool]
"""What the thread is to do: take the file, or end."""
PERIOD_S = 0.5
HANGUP = getattr(signal, "SIGHUP", None)
"""None where a system has no such signal."""


class FileWatch:
    """Looks at the content of a file from a thread of its own, until it is stopped. It reads the
    file by its name each time. So it notices when a file is replaced, a link points to another
    file, or a mounted directory is swapped as a whole, and it does not depend on notifications or
    times of the file system. A new content is taken when two looks in a row have seen it: so a file
    that is written in place is not taken half-written. On SIGHUP it is taken at once.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        take: Callable[[], None],
        *,
        period: float = PERIOD_S,
        taken: bytes | None = None,
    ) -> None:
        """`take` reads the file and brings it into force; what it raises is logged, once for each
        content, and waits for the next. `period`: seconds between two looks. `taken`: the
        `content_of` the file that is in force; None: as it is now."""
        self.path = Path(path)
        self._take = take
        self._period = period
        self._seen = self._taken = self._content() if taken is None else taken
        # Filled by a signal handler, which may interrupt any code: a simple queue allows for that.
        self._calls = Calls()
        self._thread: threading.Thread | None = None
        self._signalled = False

    def start(self) -> None:
        """Watches from now on. In the main thread it handles SIGHUP, too, unless the program does
        so itself."""
        self._handle_hangup()
        self._calls = calls = Calls()
        name = f"crdtbucket watch {self.path.name}"
        # A daemon: a program that forgets to stop must still be able to end.
        self._thread = threading.Thread(target=self._run, args=(calls,), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch, after a reload that is under way. A second call does nothing."""
        if self._thread is not None:
            self._calls.put(False)
            if self._thread.is_alive():  # otherwise it finds out by itself
                self._thread.join()
            self._thread = None
        main = threading.current_thread() is threading.main_thread()
        if self._signalled and main and signal.getsignal(HANGUP) == self._hangup:  # type: ignore[arg-type]
            signal.signal(HANGUP, signal.SIG_DFL)  # type: ignore[arg-type] # there is one
            self._signalled = False

    def now(self) -> None:
        """Makes the thread take the file soon, changed or not. Safe from any thread, and in a
        signal handler."""
        self._calls.put(True)

    def look(self) -> None:
        """Looks once, and takes a content that is new and was there at the last look. While this
        process may open no more files, what it has seen stays."""
        try:
            content = _digest(self.path)
        except OSError as error:
            content = self._seen if error.errno in SHORT else b""
        settled = content == self._seen
        self._seen = content
        if settled and content != self._taken:
            self._try(content)

    def _run(self, calls: Calls) -> None:
        while True:
            try:
                go_on = calls.get(timeout=self._period)
            except queue.Empty:
                self.look()
                continue
            if not go_on:
                return
            self._try(self._content())

    def _try(self, content: bytes) -> None:
        self._seen = self._taken = content
        try:
            self._take()
        except CrdtbucketError as error:
            LOG.error("%s is refused; the configuration in force stays: %s", self.path, error)
        except Exception:  # logged; a bug must not end the watch
            LOG.exception("%s could not be taken; the configuration in force stays", self.path)

    def _content(self) -> bytes:
        return content_of(self.path)

    def _handle_hangup(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        if HANGUP is not None and main and signal.getsignal(HANGUP) is signal.SIG_DFL:
            signal.signal(HANGUP, self._hangup)
            self._signalled = True

    def _hangup(self, number: int, frame: FrameType | None) -> None:
        self.now()


def content_of(path: str | os.PathLike[str]) -> bytes:
    """A digest of the content of a file, which differs where the content differs. Returns b"" where
    there is no regular file: a pipe is not read here, since what was read would be lost for its
    real reader."""
    try:
        return _digest(path)
    except OSError:
        return b""  # it may be about to be replaced; if not, the next look refuses it


def _digest(path: str | os.PathLike[str]) -> bytes:
    from crdtbucket.config.source import beginning_of  # reads YAML: for those who have a file

    if not os.path.isfile(path):
        return b""
    return hashlib.blake2b(beginning_of(Path(path))).digest()
