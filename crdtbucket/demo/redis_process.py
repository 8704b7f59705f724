"""A Redis server for one run: on a free port, empty, nothing on disk, gone with its parent."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile

from crdtbucket.base.address import Address
from crdtbucket.demo.processes import TIED, DemoError, free_port
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.testing.fault_proxy import HOST

PROGRAMS = ("redis-server", "valkey-server")
START_S = 10.0
_POLL_S = 0.02


class RedisProcess:
    """The same address and password over all its starts; each is empty."""

    def __init__(self) -> None:
        """Raises `DemoError` where no program is installed."""
        found = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if found is None:
            raise DemoError(
                f"neither {' nor '.join(PROGRAMS)} is installed: install one, or give a server's "
                "URL, --redis redis://host:port"
            )
        self.program = found
        self.address = Address(HOST, free_port())
        self.access = Access(password=secrets.token_hex(16))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it answers. Raises `DemoError` with what it printed."""
        # The configuration comes by stdin: a password on the command line is everybody's.
        lines = [f"bind {HOST}", f"port {self.address.port}", f"requirepass {self.access.password}"]
        lines += [f"dir {tempfile.gettempdir()}", 'save ""', "appendonly no", "loglevel warning"]
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TIED, self.program, "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write("\n".join(lines).encode() + b"\n")
        process.stdin.close()
        deadline = asyncio.get_running_loop().time() + START_S
        while not await self._answers():
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise DemoError(f"{self.program} does not start: {await self._words()}")
            await asyncio.sleep(_POLL_S)

    async def kill(self) -> None:
        """End it without a word (kill -9). Nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def _answers(self) -> bool:
        try:
            connection = await RedisConnection.open(self.address, self.access, 1.0)
        except RedisUnavailable:
            return False
        connection.abort()
        return True

    async def _words(self) -> str:
        process, self._process = self._process, None
        assert process is not None
        if process.returncode is None:
            process.kill()
        said, _ = await process.communicate()
        return said.decode(errors="replace").strip() or "it printed nothing"


__all__ = ["PROGRAMS", "RedisProcess"]
