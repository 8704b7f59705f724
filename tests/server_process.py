"""A server of another program as a process of a test, which starts, freezes, kills and removes
it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

BOUND = 60.0
"""Seconds within which a server starts, stops and answers, or the test fails."""


def end_by_signals() -> None:
    """Lets SIGTERM and SIGHUP end this program as Ctrl-C does, so that its servers end and their
    folders are removed. Signals that are ignored, as under `nohup`, stay ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


class NotInstalled(FileNotFoundError):
    """A program, mostly a server, is missing on this machine."""


def installed(program: str, hint: str, path: str | None = None) -> str:
    """The path of a program. Raises `NotInstalled`, with the `hint`, when no folder of `path` has
    it."""
    found = shutil.which(program, path=path)
    if found is None:
        raise NotInstalled(f"{program} is not installed: {hint}")
    return found


class ServerProcess(ABC):
    """One server, which keeps its port and its folder over all its starts.

    As a context it is started, and removed at the end. Start it from a thread that outlives it: the
    system kills it with that thread, so that no hard end of the tests leaves it behind.
    """

    def __init__(self, program: str, name: str, hint: str, path: str | None = None) -> None:
        """Raises as `installed`."""
        self.program = installed(program, hint, path)
        self.folder = Path(tempfile.mkdtemp(prefix=f"crdtbucket-{name}-"))
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.remove)

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command that starts it, and does not return."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it is ready."""

    @property
    def log(self) -> str:
        """All that it has printed, over all its starts."""
        return (self.folder / "log").read_text()

    def start(self) -> Self:
        """Starts it and returns when it answers. Raises `RuntimeError` with its log when it does
        not."""
        assert self.process is None, "it runs already"
        command = list(self.command())
        if shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        # A library that is preloaded into this Python, such as a sanitizer, is not for the program.
        environment = {name: text for name, text in os.environ.items() if name != "LD_PRELOAD"}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + BOUND
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{command} does not answer; it printed:\n{self.log}")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Ends it in order: clients are closed, and the port is free. Does nothing when it does not
        run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it (SIGKILL), also when it is frozen."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stops its process (SIGSTOP): connections stay open and the system accepts new ones, but
        nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets its process go on (SIGCONT), with all that was sent meanwhile."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kills it and deletes its folder; may be repeated."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.remove()

    def _signal(self, number: int) -> None:
        assert self.process is not None, "it does not run"
        os.kill(self.process.pid, number)

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)  # a frozen one would not get SIGTERM
        try:
            process.wait(BOUND)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
