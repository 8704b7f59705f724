"""Starts the processes of the demo, sends them commands, reads their reports, and ends them all."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crdtbucket.errors import CrdtbucketError
from crdtbucket.testing.fault_proxy import HOST

Report = dict[str, Any]
LEAVE_S = 3.0
_ROOT = Path(__file__).parents[2]
_LINE_LIMIT = 2**26
_LAST_WORDS = 20
# These are below the ports that the kernel gives to outgoing connections, so that none of those
# takes one meanwhile.
_PORTS = range(20_000, 32_000)


class DemoError(CrdtbucketError):
    """The demo cannot start, or did not end."""


class ProcessEnded(DemoError):
    """A process ended without a command to end."""


class RegionProcess:
    """One region's process. `on_report(report)` is called for every line that it reports."""

    def __init__(
        self,
        region: str,
        mesh: dict[str, Any],
        on_report: Callable[[Report], None],
        *,
        console: int | None = None,
        **strong: Any,
    ) -> None:
        """`mesh`: arguments of its `MeshConfig`. `console`: the port at which it shows itself, None
        for nowhere. `strong`: for strong mode `redis` and `modes`, the arguments of its
        `RedisConfig` and `ControllerSettings`."""
        self.region, self.console = region, console
        self._setup = {"region": region, "mesh": mesh, "console": console, **strong}
        self.latest: Report | None = None
        """The newest report."""
        self.stopping = False
        self._on_report = on_report
        self._process: asyncio.subprocess.Process | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._readers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the process."""
        words = ("-m", "crdtbucket.demo.region")
        self._process = process = await started_python(*words, stderr=asyncio.subprocess.PIPE)
        self._readers = [
            asyncio.ensure_future(self._read_reports(process)),
            asyncio.ensure_future(self._read_errors(process)),
        ]
        await self.tell(self._setup)

    async def tell(self, message: dict[str, Any]) -> None:
        """Writes one line to the process; `ended` reports one that is gone."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        try:
            await self._process.stdin.drain()
        except ConnectionError:
            self._last_words.append("it no longer reads what it is told")

    async def ended(self) -> None:
        """Waits for the end of the process. Raises `ProcessEnded` when it ended without a
        command."""
        assert self._process is not None
        # A line that cannot be read is a failure of the demo, not a reason to wait.
        await asyncio.gather(*self._readers)
        code = await self._process.wait()
        if not self.stopping:
            raise ProcessEnded(f"the process of region {self.region} {self._why(code)}")

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self.stopping = True
        assert self._process is not None
        self._process.kill()

    async def stop(self) -> None:
        """Ask it to leave the mesh and end; kill it when it does not within 3 s."""
        process, self.stopping = self._process, True
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()  # the end of its stdin is a stop
        try:
            await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=LEAVE_S)
        finally:
            if process.returncode is None:
                process.kill()
            for reader in self._readers:
                reader.cancel()
            await asyncio.gather(process.wait(), *self._readers, return_exceptions=True)

    def _why(self, code: int) -> str:
        how = f"ended with status {code}"
        if code < 0:
            try:
                how = f"was killed by {signal.Signals(-code).name}"
            except ValueError:
                how = f"was killed by signal {-code}"
        words = "\n  ".join(self._last_words)
        return f"{how}; its last words:\n  {words}" if words else how

    async def _read_reports(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if not line.endswith(b"\n"):
                return  # killed in the middle of a line
            self.latest = report = json.loads(line)
            self._on_report(report)

    async def _read_errors(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self._last_words.append(line.decode(errors="replace").rstrip())


async def started_python(*arguments: str, stderr: int) -> asyncio.subprocess.Process:
    """A new process of this interpreter, with pipes."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        limit=_LINE_LIMIT,
        cwd=_ROOT,  # else a checkout that is not built comes first where the demo is run in it
        start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
    )  # fmt: skip


def reserved_port() -> int:
    """A port of the loopback interface for a server of this run, which may listen there several
    times. It stays bound here, where nothing listens: on Linux no other program, not even another
    demo, gets it before this process ends. Raises `DemoError` when none is found."""
    rng = random.SystemRandom()
    for _ in range(200):
        port = rng.choice(_PORTS)
        holder = socket.socket()
        try:
            holder.bind((HOST, port))
        except OSError:
            holder.close()
            continue
        if sys.platform == "linux":
            # From now on a server may bind the port, too, if it asks for that, as servers do.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.detach()  # held until the process ends
        else:
            holder.close()  # there no second socket could be bound
        return port
    raise DemoError(
        f"no free port was found on the loopback interface, between {_PORTS[0]} and {_PORTS[-1]}"
    )
