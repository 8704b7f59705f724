"""A NATS server for one run: on a free port, gone with its parent."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

from crdtbucket.demo.processes import TIED, DemoError, free_port
from crdtbucket.testing.fault_proxy import HOST

START_S = 10.0
_POLL_S = 0.02


class NatsProcess:
    """One server."""

    def __init__(self) -> None:
        """Raises `DemoError` where it is not installed."""
        # Debian puts it where only root has a path to; `make nats` beside the interpreter.
        places = f"{os.environ.get('PATH', '')}:/usr/sbin:{Path(sys.executable).parent}"
        program = shutil.which("nats-server", path=places)
        if program is None:
            raise DemoError("nats-server is not installed: install it to run with --nats auto")
        self.program = program
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *lines: str) -> None:
        """Returns when it answers. `lines` are added to its configuration. Raises `DemoError`."""
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TIED, self.program, "-c", "/dev/stdin",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
        )  # fmt: skip
        assert process.stdin is not None
        settings = [f'listen: "{HOST}:{self.port}"', 'log_file: "/dev/null"', *lines]
        process.stdin.write("\n".join(settings).encode() + b"\n")
        process.stdin.close()
        deadline = asyncio.get_running_loop().time() + START_S
        while not await self._answers():
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise DemoError(f"{self.program} does not start: {await self._words()}")
            await asyncio.sleep(_POLL_S)

    def freeze(self) -> None:
        """It stops in the middle of whatever it does (SIGSTOP)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Ends it without a word (kill -9). Nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.communicate()

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

    async def _words(self) -> str:
        process, self._process = self._process, None
        assert process is not None
        if process.returncode is None:
            process.kill()
        _, said = await process.communicate()
        return said.decode(errors="replace").strip() or "it printed nothing"


__all__ = ["NatsProcess"]
