"""Servers for one run of the demo, NATS and an empty Redis. Each has a free port, reads its
configuration from stdin, and ends with its parent."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from crdtbucket.base.address import Address
from crdtbucket.demo.processes import DemoError, reserved_port, started_python
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.testing.fault_proxy import HOST

# Linux kills a process that has asked for it (PR_SET_PDEATHSIG) when its parent ends in any way.
# `exec` does not withdraw the request.
_TIED = """
import ctypes, os, signal, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, signal.SIGKILL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
START_S = 10.0
_POLL_S = 0.02
PROGRAMS = ("redis-server", "valkey-server")


class ServerProcess(ABC):
    """One server, which may be started several times."""

    program: str

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def _begin(self, arguments: Sequence[str], settings: Sequence[str]) -> None:
        """Returns when the server answers. `settings`: the lines of its configuration, which it
        reads from stdin, since anybody can read a password on the command line. Raises `DemoError`
        with what it printed."""
        words = ("-c", _TIED, self.program, *arguments)
        self._process = process = await started_python(*words, stderr=asyncio.subprocess.STDOUT)
        assert process.stdin is not None
        process.stdin.write("\n".join(settings).encode() + b"\n")
        process.stdin.close()
        deadline = asyncio.get_running_loop().time() + START_S
        while not await self._answers():
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                said = await self.kill() or "it printed nothing"
                raise DemoError(f"{self.program} does not start: {said}")
            await asyncio.sleep(_POLL_S)

    @abstractmethod
    async def _answers(self) -> bool:
        """Whether it serves."""

    async def kill(self) -> str:
        """Kills it (SIGKILL) and returns what it has printed; "" when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return ""
        if process.returncode is None:
            process.kill()
        said, _ = await process.communicate()
        return said.decode(errors="replace").strip()


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
        self.port = reserved_port()

    async def start(self, *lines: str) -> None:
        """Returns when it answers. `lines` are added to its configuration. Raises `DemoError`."""
        settings = [f'listen: "{HOST}:{self.port}"', 'log_file: "/dev/null"', *lines]
        await self._begin(["-c", "/dev/stdin"], settings)

    async def stall(self, seconds: float) -> None:
        """The server stands still for so long, in the middle of whatever it does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
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


class RedisProcess(ServerProcess):
    """One Redis of the demo. It keeps its address and password over all starts, and is empty after
    each."""

    def __init__(self) -> None:
        """Raises `DemoError` where no program is installed."""
        super().__init__()
        found = next(filter(shutil.which, PROGRAMS), None)
        if found is None:
            raise DemoError(
                f"neither {' nor '.join(PROGRAMS)} is installed: install one, or give a server's "
                "URL, --redis redis://host:port"
            )
        self.program = found
        self.address = Address(HOST, reserved_port())
        self.access = Access(password=secrets.token_hex(16))

    async def start(self) -> None:
        """Returns when it answers. Raises `DemoError` with what it printed."""
        lines = [f"bind {HOST}", f"port {self.address.port}", f"requirepass {self.access.password}"]
        lines += [f"dir {tempfile.gettempdir()}", 'save ""', "appendonly no", "loglevel warning"]
        await self._begin(["-"], lines)

    async def _answers(self) -> bool:
        try:
            connection = await RedisConnection.open(self.address, self.access, 1.0)
        except RedisUnavailable:
            return False
        connection.abort()
        return True
