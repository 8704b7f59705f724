"""Real NATS servers for tests: on free ports, alone, in a cluster, or joined by a gateway."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.strong.redis_server import BOUND, NotInstalled, free_port


class NatsServer:
    """One server process, which keeps its port over all its starts. `lines`: of its configuration,
    such as `authorization { token: secret }`. As a context it is started and, in the end, removed.
    """

    def __init__(self, *lines: str) -> None:
        # Where `make nats` puts it, or the package of Debian.
        places = f"{os.environ['PATH']}:/usr/sbin:{Path(sys.executable).parent}"
        program = shutil.which("nats-server", path=places)
        if program is None:
            raise NotInstalled("nats-server is not installed: make nats")
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="crdtbucket-nats-"))
        self.process: subprocess.Popen[bytes] | None = None
        self._config = self.folder / "server.conf"
        self._lines = [f'listen: "127.0.0.1:{self.port}"', *lines]
        self._command = [program, "-c", str(self._config)]
        if shutil.which("setpriv"):
            self._command = ["setpriv", "--pdeathsig", "KILL", *self._command]
        atexit.register(self.remove)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """All that it has printed, over all its starts."""
        return (self.folder / "log").read_text()

    def start(self) -> NatsServer:
        """Starts it and returns when it answers. `RuntimeError` with its log when it does not."""
        assert self.process is None, "it runs already"
        self._config.write_text("\n".join(self._lines) + "\n")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + BOUND
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command} does not answer; it printed:\n{self.log}")
            time.sleep(0.005)
        return self

    def kill(self) -> None:
        """As by `kill -9`, also when it is frozen."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(BOUND)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing moves."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on with all that was sent meanwhile."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kills it and deletes its folder; may be repeated."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def __enter__(self) -> NatsServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.remove()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket() as line:
            line.settimeout(1.0)
            line.connect(("127.0.0.1", self.port))
            return line.recv(5) == b"INFO "
        return False
