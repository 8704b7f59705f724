"""The processes of a composition as the test sees them, and what each was granted."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tests.compositions.member import live

FORKS = multiprocessing.get_context("forkserver")
"""Each process is forked from one that has only imported the library: to import it in each would
take most of the time of a cell."""
FORKS.set_forkserver_preload(
    [
        "tests.compositions.member",
        "crdtbucket.cli.main",
        "crdtbucket.config.source",
        "crdtbucket.http.server.serving",
        "crdtbucket.shared.leadership",
        "crdtbucket.shared.leader_view",
        "crdtbucket.mesh.protocol.mesh_node",
        "crdtbucket.mesh.sockets.socket_transport",
        "crdtbucket.strong.strong_side",
    ]
)
BOUND_S = 60.0
"""Seconds within which a process on a busy machine does what it is asked for, or never."""


class Failed(AssertionError):
    """A process did not do what it was asked for; the message ends with the end of its log."""


class Answered(NamedTuple):
    """One call of a load."""

    at: float
    granted: int
    """Tokens."""
    late: float
    """Seconds from when the call was due to its answer."""


class Process(Protocol):
    """One process of a node."""

    granted: int
    """Tokens that its callers were granted, over all its starts."""
    gap: float
    """The mean seconds between two calls that it makes from its start on; 0: none."""
    loads: list[list[Answered]]
    """The calls of a load, from each start on."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def kill(self) -> None: ...
    def fill_disk(self) -> None: ...
    def signal(self, number: int) -> None: ...
    async def load(self, gap: float) -> None: ...
    async def block(self, seconds: float, times: int) -> None: ...
    async def take(self, calls: int) -> int: ...
    async def burst(self, calls: int) -> int: ...
    async def look(self) -> dict[str, Any]: ...
    async def reload(self) -> None: ...
    async def step_clock(self) -> None: ...
    async def second(self) -> str: ...


class Forked:
    """A process that runs one function from beginning to end, and whose log is kept."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.granted = 0
        self.gap = 0.0
        self.loads: list[list[Answered]] = []
        self.child: ForkServerProcess | None = None

    def failed(self, what: str) -> Failed:
        """The error with this text and the end of the log."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return Failed(f"{what}; the log of {self._log.name} ends with:\n{text[-3000:]}")

    def begin(self, life: Callable[..., None], *words: object) -> None:
        """Forks it; `life` gets the path of the log, and then the words."""
        child = FORKS.Process(target=life, args=(str(self._log), *words))
        child.start()
        self.child = child

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self.child is not None
        assert self.child.pid is not None
        os.kill(self.child.pid, number)

    def fill_disk(self) -> None:
        """No file of the process may grow any more."""
        assert self.child is not None
        assert self.child.pid is not None
        resource.prlimit(self.child.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    async def close(self) -> None:
        """Ends it in order; it must end well."""
        await self.ask_to_end()
        status = await self.ended()
        if status:
            raise self.failed(f"the process ended with {status}")

    async def kill(self) -> None:
        """Kills it (SIGKILL); what it had answered by then counts."""
        if self.child is not None:
            self.child.kill()
            await self.ended()

    async def ended(self) -> int:
        """Waits for the end, and returns the exit status."""
        child = self.child
        assert child is not None
        await asyncio.to_thread(child.join, BOUND_S)
        status = child.exitcode
        if status is None:
            raise self.failed("the process did not end")
        child.close()
        self.child = None
        await self.last_words()
        return status

    async def ask_to_end(self) -> None:
        """Asks it to end in order."""
        raise NotImplementedError

    async def last_words(self) -> None:
        """Reads what it had answered before it ended."""
        raise NotImplementedError


class LibraryProcess(Forked):
    """A process with the library in it."""

    def __init__(
        self, config: Path, log: Path, *, watch: bool, life: Callable[..., None] = live
    ) -> None:
        """`life`: `live`, or a function that calls it somewhere else."""
        super().__init__(log)
        self._config, self._watch, self.life = config, watch, life
        self._asks: Connection | None = None
        self._answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once its limiter is open."""
        asked_over, self._asks = FORKS.Pipe(duplex=False)
        answers, says = FORKS.Pipe(duplex=False)
        self.begin(self.life, str(self._config), self._watch, asked_over, says)
        asked_over.close()
        says.close()
        self._answers = asyncio.Queue()
        self.loads.append([])
        self._reader = asyncio.create_task(self._read(answers))
        if "open" not in await self._next():
            raise self.failed("the process did not open its limiter")
        if self.gap:
            await self.load(self.gap)

    async def _read(self, answers: Connection) -> None:
        lines = asyncio.StreamReader()
        with answers, os.fdopen(os.dup(answers.fileno())) as pipe:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), pipe
            )
            while line := await lines.readline():
                said = json.loads(line)
                if "granted" in said:
                    self.granted += said["granted"]
                    self.loads[-1].append(Answered(said["at"], said["granted"], said["late"]))
                else:
                    self._answers.put_nowait(said)
            transport.close()
        self._answers.put_nowait(None)

    def _tell(self, do: str, **more: Any) -> None:
        assert self._asks is not None
        try:
            os.write(self._asks.fileno(), json.dumps({"do": do, **more}).encode() + b"\n")
        except BrokenPipeError:
            raise self.failed("the process ended") from None

    async def _next(self) -> dict[str, Any]:
        try:
            said = await asyncio.wait_for(self._answers.get(), BOUND_S)
        except asyncio.TimeoutError:
            raise self.failed("the process did not answer") from None
        if said is None:
            raise self.failed("the process ended")
        return said

    async def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Has the process do something; raises `Failed` when that raised."""
        self._tell(do, **more)
        said = await self._next()
        if "answer" not in said:
            raise self.failed(f"{do}: {said}")
        answer: dict[str, Any] = said["answer"]
        self.granted += answer.get("granted", 0)
        return answer

    async def ask_to_end(self) -> None:
        """Sends "close" over the pipe."""
        self._tell("close")
        if "closed" not in await self._next():
            raise self.failed("the process did not close its limiter")

    async def last_words(self) -> None:
        """Reads what is left in the pipe."""
        assert self._reader is not None
        assert self._asks is not None
        await asyncio.wait_for(self._reader, BOUND_S)
        self._asks.close()
        self._reader = self._asks = None

    async def load(self, gap: float) -> None:
        """Goes on with calls in the background, until it ends."""
        await self.ask("load", gap=gap)

    async def block(self, seconds: float, times: int) -> None:
        """Blocks the event loop several times, with a call after each."""
        await self.ask("block", seconds=seconds, times=times)

    async def take(self, calls: int) -> int:
        """Makes calls one after another; returns how many were granted."""
        return int((await self.ask("take", calls=calls))["granted"])

    async def burst(self, calls: int) -> int:
        """Makes calls all at once."""
        return int((await self.ask("burst", calls=calls))["granted"])

    async def look(self) -> dict[str, Any]:
        """What it reports of itself."""
        return await self.ask("look")

    async def reload(self) -> None:
        """Reads its file again."""
        await self.ask("reload")

    async def step_clock(self) -> None:
        """Its wall clock goes back by a day."""
        await self.ask("step_clock")

    async def second(self) -> str:
        """What a child decides that multiprocessing spawns, and that opens a limiter of the same
        file. It is given none."""
        answer = await self.ask("spawn")
        assert (
            "a limiter cannot be pickled or copied: make one in each process" in answer["refused"]
        )
        return str(answer["told"])
