"""Real NATS servers for tests: on free ports, alone, in a cluster, or joined by a gateway."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.server_process import ServerProcess
from tests.strong.redis_server import free_port


class NatsServer(ServerProcess):
    """`lines`: of its configuration, such as `authorization { token: secret }`."""

    def __init__(self, *lines: str) -> None:
        # Where `make nats` puts it, or the package of Debian.
        places = f"{os.environ['PATH']}:/usr/sbin:{Path(sys.executable).parent}"
        super().__init__("nats-server", "nats", "make nats", places)
        self.port = free_port()
        self._config = self.folder / "server.conf"
        self._config.write_text("\n".join((f'listen: "127.0.0.1:{self.port}"', *lines)) + "\n")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return self.program, "-c", str(self._config)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket() as line:
            line.settimeout(1.0)
            line.connect(("127.0.0.1", self.port))
            return line.recv(5) == b"INFO "
        return False
