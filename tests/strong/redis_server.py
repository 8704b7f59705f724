"""Real servers for tests: on free ports, empty at every start, and ended with the test process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hiredis

from crdtbucket import ControllerSettings, RedisConfig
from crdtbucket.strong.controller.degradation import Degradation
from tests.server_process import BOUND, ServerProcess

PROGRAMS = [name for name in ("redis-server", "valkey-server") if shutil.which(name)]
"""The programs that are installed here, by `make redis valkey`. Tests with real servers run on each
of them."""

PATIENT = {"latency_limit": 5.0, "outage_after": 20.0}
"""Time-outs that a busy machine does not reach, for tests that are about something else."""
EAGER = {
    "stable_after": 0.1,
    "stable_after_failover": 0.1,
    "least_return_gap": 0.0,
    "probe_interval": 0.02,
    "longest_probe_interval": 0.05,
    "latency_limit": 5.0,
    "outage_after": 5.1,
}
"""Settings by which no latency is too long, and strong mode is left and regained as soon as
possible."""

PORTS = range(10_000, 20_000)
"""Below the ports of the demo and those that the kernel gives to outgoing connections, neither of
which knows what is reserved here."""
RESERVED = Path(tempfile.gettempdir()) / f"crdtbucket-test-ports-{os.getuid()}"
_dice = random.Random(os.urandom(16))


class Server(ServerProcess):
    """One server, with a port on 127.0.0.1 and a unix socket that are the same over all its starts.

    `options` are lines of its configuration file, such as "maxmemory 4mb". Nothing is kept on disk,
    so it is empty after a restart; only the nodes.conf of a cluster and the file of a Sentinel
    stay.
    """

    def __init__(
        self, *options: str, program: str = "redis-server", port: int = 0, sentinel: bool = False
    ) -> None:
        super().__init__(program, "redis", "make redis")
        self.host = "127.0.0.1"
        self.port = port or free_port()
        if any(line.startswith("cluster-enabled") for line in options):
            # Without this option a node takes the port that is 10,000 higher, even if it is not
            # free.
            options = (*options, f"cluster-port {free_port()}")
        self.path = self.folder / "socket"
        self._config, self._sentinel = self.folder / "server.conf", sentinel
        lines = [f"bind {self.host}", f"port {self.port}", f"unixsocket {self.path}"]
        lines += [f"dir {self.folder}", 'save ""', "appendonly no", *options]
        self._config.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.path}?db=0"

    def patient(self, **degradation: Any) -> dict[str, Any]:
        """Arguments of a limiter that asks this server and waits for its answer even on a busy
        machine. `degradation`: more settings of its `Degradation`."""
        how = Degradation(modes=ControllerSettings(**PATIENT), **degradation)  # type: ignore[arg-type]
        return {"redis": RedisConfig(url=self.url, deadline=10.0), "degradation": how}

    def command(self) -> Sequence[str]:
        self.path.unlink(missing_ok=True)
        return self.program, str(self._config), *(["--sentinel"] if self._sentinel else [])

    def restart(self) -> Server:
        """Kills it, and starts an empty server on the same port."""
        self.kill()
        return self.start()

    def has_known_processes(self) -> None:
        """From now on it is a server whose list of processes began long ago, so that in an outage
        each new process has its share at once, and not some seconds after the first start."""
        self.call("HSET", "crdtbucket:nodes", "begun", "1 0")

    def call(self, *words: str | bytes | int | float, seconds: float = BOUND) -> Any:
        """The reply to one command, over a connection of its own. Raises the errors of the server,
        `TimeoutError` after `seconds`, and `OSError` when there is no connection."""
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

    def answers(self) -> bool:
        try:
            return bool(self.call("PING", seconds=1.0))
        except hiredis.ReplyError as error:
            return str(error).startswith("NOAUTH")  # it asks for a password: it runs
        except OSError:
            return False


def free_port() -> int:
    """A port on which nobody listens, and that no other test in any process is given while this
    process lives, so there is no hurry to listen on it."""
    RESERVED.mkdir(mode=0o700, exist_ok=True)
    while True:
        port = _dice.choice(PORTS)
        if _reserved(port):
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                return port


def _reserved(port: int) -> bool:
    """Takes the lock of a port, which the kernel releases when this process ends."""
    lock = os.open(RESERVED / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    return True
