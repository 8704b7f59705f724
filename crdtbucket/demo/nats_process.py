"""A NATS server for one run: on a free port, gone with its parent."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

from crdtbucket.demo.processes import DemoError, free_port
from crdtbucket.demo.server_process import ServerProcess
from crdtbucket.testing.fault_proxy import HOST


class NatsProcess(ServerProcess):
    """One server of NATS."""

    def __init__(self) -> None:
        """Raises `DemoError` where it is not installed."""
        super().__init__()
        # Debian puts it where only root has a path to; `make nats` beside the interpreter.
        places = f"{os.environ.get('PATH', '')}:/usr/sbin:{Path(sys.executable).parent}"
        program = shutil.which("nats-server", path=places)
        if program is None:
            raise DemoError("nats-server is not installed: install it to run with --nats auto")
        self.program = program
        self.port = free_port()

    async def start(self, *lines: str) -> None:
        """Returns when it answers. `lines` are added to its configuration. Raises `DemoError`."""
        settings = [f'listen: "{HOST}:{self.port}"', 'log_file: "/dev/null"', *lines]
        await self._begin(["-c", "/dev/stdin"], settings)

    def freeze(self) -> None:
        """The server stops in the middle of whatever it does (SIGSTOP)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """The server goes on (SIGCONT)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            return False
        try:
            return await reader.read(5) == b"INFO "
        except OSError:
            return False
        finally:
            writer.transport.abort()
