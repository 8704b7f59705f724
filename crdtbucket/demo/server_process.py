"""A server for one run of the demo: configured by stdin, gone with its parent."""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence

from crdtbucket.demo.processes import TIED, DemoError

START_S = 10.0
_POLL_S = 0.02


class ServerProcess(ABC):
    """One server, which may be started several times."""

    program: str

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def kill(self) -> None:
        """Ends it without a word (kill -9). Nothing when it does not run."""
        await self._end()

    async def _begin(self, arguments: Sequence[str], settings: Sequence[str]) -> None:
        """Returns when it answers. `settings`: the lines of its configuration, which it reads from
        stdin: a password on the command line is everybody's. Raises `DemoError` with what it
        printed."""
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TIED, self.program, *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write("\n".join(settings).encode() + b"\n")
        process.stdin.close()
        deadline = asyncio.get_running_loop().time() + START_S
        while not await self._answers():
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                said = await self._end() or "it printed nothing"
                raise DemoError(f"{self.program} does not start: {said}")
            await asyncio.sleep(_POLL_S)

    @abstractmethod
    async def _answers(self) -> bool:
        """Whether it serves."""

    async def _end(self) -> str:
        """Kills it; what it has printed."""
        process, self._process = self._process, None
        if process is None:
            return ""
        if process.returncode is None:
            process.kill()
        said, _ = await process.communicate()
        return said.decode(errors="replace").strip()
