"""Real servers for tests: on free ports, empty at every start, ended with the test process."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import hiredis

PROGRAMS = [name for name in ("redis-server", "valkey-server") if shutil.which(name)]
"""What is installed here, by `make redis valkey`. Tests with real servers run on each of these."""

BOUND = 60.0
"""Seconds within which a server starts, stops and answers, or the test fails."""

MOST_PORT = 65_535
LEAST_PORT = 10_000
RESERVED = Path(tempfile.gettempdir()) / f"crdtbucket-test-ports-{os.getuid()}"
_dice = random.Random(os.urandom(16))


class NotInstalled(FileNotFoundError):
    """The program of a server is missing on this machine."""


class Server:
    """One server process: a port on 127.0.0.1 and a unix socket, the same over all its starts.

    `options` are lines of its configuration file, such as "maxmemory 4mb". Nothing is kept on disk,
    so a restart is empty; a cluster's nodes.conf and what a Sentinel writes stay. Used as a context
    it is started and, in the end, removed. Start it from a thread that outlives it: the system
    kills it with that thread, so that no hard end of the tests leaves it behind.
    """

    def __init__(
        self, *options: str, program: str = "redis-server", port: int = 0, sentinel: bool = False
    ) -> None:
        if shutil.which(program) is None:
            raise NotInstalled(f"{program} is not installed: make redis")
        self.host = "127.0.0.1"
        self.port = port or free_port()
        if any(line.startswith("cluster-enabled") for line in options):
            # By itself a node takes the port that is 10,000 above, whether it is free or not.
            options = (*options, f"cluster-port {free_port()}")
        self.folder = Path(tempfile.mkdtemp(prefix="crdtbucket-redis-"))
        self.path = self.folder / "socket"
        self.process: subprocess.Popen[bytes] | None = None
        config = self.folder / "server.conf"
        lines = [f"bind {self.host}", f"port {self.port}", f"unixsocket {self.path}"]
        lines += [f"dir {self.folder}", 'save ""', "appendonly no", *options]
        config.write_text("\n".join(lines) + "\n")
        self._command = [program, str(config), *(["--sentinel"] if sentinel else [])]
        if shutil.which("setpriv"):
            self._command = ["setpriv", "--pdeathsig", "KILL", *self._command]
        atexit.register(self.remove)

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.path}?db=0"

    @property
    def log(self) -> str:
        """All that it has printed, over all its starts."""
        return (self.folder / "log").read_text()

    def start(self) -> Server:
        """Starts it and returns when it answers. `RuntimeError` with its log when it does not."""
        assert self.process is None, "it runs already"
        self.path.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + BOUND
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command} does not answer; it printed:\n{self.log}")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """The orderly end: clients are closed, the port is free. Nothing when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As by `kill -9`, also when it is frozen."""
        self._end(signal.SIGKILL)

    def restart(self) -> Server:
        """`kill`, then an empty server on the same port."""
        self.kill()
        return self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and are accepted by the system, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on with all that was sent meanwhile."""
        self._signal(signal.SIGCONT)

    def call(self, *words: str | bytes | int | float, seconds: float = BOUND) -> Any:
        """The reply to one command, over a connection of its own; errors of the server are raised.

        `TimeoutError` after `seconds`, `OSError` when there is no connection.
        """
        reader = hiredis.Reader()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(str(self.path))
            connection.sendall(hiredis.pack_command(words))
            while (reply := reader.gets()) is False:
                data = connection.recv(1 << 16)
                if not data:
                    raise ConnectionError(f"{words[0]!r}: the server closed the connection")
                reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def remove(self) -> None:
        """Kills it and deletes its folder; may be repeated."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.remove()

    def _answers(self) -> bool:
        try:
            return bool(self.call("PING", seconds=1.0))
        except hiredis.ReplyError as error:
            return str(error).startswith("NOAUTH")  # it asks for a password: it runs
        except OSError:
            return False

    def _signal(self, number: int) -> None:
        assert self.process is not None, "it does not run"
        os.kill(self.process.pid, number)

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)  # a frozen one would not hear SIGTERM
        try:
            process.wait(BOUND)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def free_port() -> int:
    """A port that nobody listens on and no other test is given, in this process or another, while
    this one lives. The kernel gives none of them to a connection that goes out, as it does with the
    ports above: so who asks for one may take its time before it listens."""
    RESERVED.mkdir(mode=0o700, exist_ok=True)
    while True:
        port = _dice.randrange(LEAST_PORT, _first_of_the_kernels())
        if _reserved(port):
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                return port


def _reserved(port: int) -> bool:
    """Takes the lock of a port, which the kernel gives up with this process."""
    lock = os.open(RESERVED / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True


def _first_of_the_kernels() -> int:
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(range_file.read_text().split()[0])
    return first if first > 2 * LEAST_PORT else MOST_PORT
