"""The processes of a composition as the test sees them, and what each was granted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from tests.compositions.member import BUCKET, KEY

ROOT = Path(__file__).parents[2]
BOUND_S = 60.0
"""What a process is asked for it does within this time on a busy machine, or it never does."""


class Failed(AssertionError):
    """A process did not do what it was asked for; with the end of its log."""


class Process(Protocol):
    """One process of a node."""

    granted: int
    """Tokens that its callers were promised, in all of its lives."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def kill(self) -> None: ...
    def fill_disk(self) -> None: ...
    async def load(self, gap: float) -> None: ...
    async def block(self, seconds: float, times: int) -> None: ...
    async def take(self, calls: int) -> int: ...
    async def burst(self, calls: int) -> int: ...
    async def look(self) -> dict[str, Any]: ...
    async def reload(self) -> None: ...


class _Child:
    """A child process whose log is kept."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log = command, log
        self.granted = 0
        self.child: asyncio.subprocess.Process | None = None

    async def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self.child = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    async def kill(self) -> None:
        """kill -9."""
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                self.child.send_signal(signal.SIGKILL)
            await self._ended()

    def fill_disk(self) -> None:
        """No file of the process may grow any more."""
        assert self.child is not None
        resource.prlimit(self.child.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    async def _ended(self) -> None:
        assert self.child is not None
        await asyncio.wait_for(self.child.wait(), BOUND_S)
        self.child = None

    def failed(self, what: str) -> Failed:
        """With the end of the log."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return Failed(f"{what}; the log of {self._log.name} ends with:\n{text[-3000:]}")


class LibraryProcess(_Child):
    """A process with the library in it."""

    def __init__(self, config: Path, log: Path, *, watch: bool) -> None:
        words = ["-m", "tests.compositions.member", str(config), *(["watch"] if watch else [])]
        super().__init__([sys.executable, *words], log)
        self._answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once its limiter is open."""
        await self._spawn()
        self._answers = asyncio.Queue()
        self._reader = asyncio.create_task(self._read())
        if "open" not in await self._next():
            raise self.failed("the process did not open its limiter")

    async def _read(self) -> None:
        assert self.child is not None
        assert self.child.stdout is not None
        while line := await self.child.stdout.readline():
            said = json.loads(line)
            if "granted" in said:
                self.granted += said["granted"]
            else:
                self._answers.put_nowait(said)
        self._answers.put_nowait(None)

    async def _next(self) -> dict[str, Any]:
        try:
            said = await asyncio.wait_for(self._answers.get(), BOUND_S)
        except asyncio.TimeoutError:
            raise self.failed("the process did not answer") from None
        if said is None:
            raise self.failed("the process ended")
        return said

    async def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Has something done; raises `Failed` when it raised."""
        assert self.child is not None
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        await self.child.stdin.drain()
        said = await self._next()
        if "answer" not in said:
            raise self.failed(f"{do}: {said}")
        answer: dict[str, Any] = said["answer"]
        self.granted += answer.get("granted", 0)
        return answer

    async def close(self) -> None:
        """Ends it in order."""
        assert self.child is not None
        assert self.child.stdin is not None
        self.child.stdin.write(b'{"do": "close"}\n')
        await self.child.stdin.drain()
        if "closed" not in await self._next():
            raise self.failed("the process did not close its limiter")
        await self._ended()

    async def kill(self) -> None:
        """kill -9; what it had told by then counts."""
        await super().kill()
        if self._reader is not None:
            await self._reader

    async def load(self, gap: float) -> None:
        """Goes on with calls in the background, until it ends."""
        await self.ask("load", gap=gap)

    async def block(self, seconds: float, times: int) -> None:
        """Holds up the event loop several times, with a call after each."""
        await self.ask("block", seconds=seconds, times=times)

    async def take(self, calls: int) -> int:
        """Calls one after another; how many were granted."""
        return int((await self.ask("take", calls=calls))["granted"])

    async def burst(self, calls: int) -> int:
        """Calls all at once."""
        return int((await self.ask("burst", calls=calls))["granted"])

    async def look(self) -> dict[str, Any]:
        """What it says of itself."""
        return await self.ask("look")

    async def reload(self) -> None:
        """Reads its file again."""
        await self.ask("reload")


class ServeProcess(_Child):
    """A `crdtbucket serve`, which is asked over HTTP."""

    def __init__(self, config: Path, log: Path, port: int) -> None:
        listen = ["--listen", f"127.0.0.1:{port}"]
        words = ["-m", "crdtbucket.cli", "serve", "--config", str(config), *listen]
        super().__init__([sys.executable, *words], log)
        self._url = f"http://127.0.0.1:{port}"
        self._load: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once it is ready."""
        await self._spawn()
        assert self.child is not None
        deadline = asyncio.get_running_loop().time() + BOUND_S
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self._url}/readyz") as answer:
                        if answer.status == 200:
                            return
                if self.child.returncode is not None:
                    raise self.failed("the server ended")
                if asyncio.get_running_loop().time() > deadline:
                    raise self.failed("the server is not ready")
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """SIGTERM; it must end well."""
        child = self.child
        assert child is not None
        child.terminate()
        await self._ended()
        if child.returncode != 0:
            raise self.failed(f"the server ended with {child.returncode}")

    async def kill(self) -> None:
        """kill -9; what it had answered by then counts."""
        await super().kill()
        if self._load is not None:
            await self._load
            self._load = None

    async def load(self, gap: float) -> None:
        """Goes on with calls in the background, until it is killed."""
        self._load = asyncio.create_task(self._go_on(gap))

    async def _go_on(self, gap: float) -> None:
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                await self.take(1)
                await asyncio.sleep(gap)

    async def block(self, seconds: float, times: int) -> None:
        """Stops the process several times, with a call that waits meanwhile."""
        assert self.child is not None
        for _ in range(times):
            self.child.send_signal(signal.SIGSTOP)
            call = asyncio.create_task(self.take(1))
            await asyncio.sleep(seconds)
            self.child.send_signal(signal.SIGCONT)
            await call

    async def _post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._url + path, json=content) as answer,
        ):
            if answer.status not in (200, 429):
                raise self.failed(f"{path}: {answer.status} {await answer.text()}")
            said: dict[str, Any] = await answer.json()
            return said

    async def take(self, calls: int) -> int:
        """Calls one after another."""
        granted = 0
        for _ in range(calls):
            granted += (await self._post("/v1/take", {"bucket": BUCKET, "key": KEY}))["allowed"]
        self.granted += granted
        return granted

    async def burst(self, calls: int) -> int:
        """Many calls in a few requests at once, as the server bounds each."""
        each = 250
        several = {"takes": [{"bucket": BUCKET, "key": KEY}] * each}
        asked = [self._post("/v1/take-many", several) for _ in range(calls // each)]
        answers = [one for said in await asyncio.gather(*asked) for one in said["results"]]
        granted = sum(one["allowed"] for one in answers)
        self.granted += granted
        return granted

    async def look(self) -> dict[str, Any]:
        """What it says of itself."""
        left = await self._post("/v1/peek", {"bucket": BUCKET, "key": KEY})
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._url}/v1/peers") as answer,
        ):
            peers = (await answer.json())["peers"]
        return {
            "left": left["remaining"],
            "limit": left["limit"],
            "mode": left["mode"],
            "peers": {one["name"]: one["state"] for one in peers},
            "unsettled": 0,
            "leading": 1,
        }

    async def reload(self) -> None:
        """SIGHUP; the caller waits for what it changes."""
        assert self.child is not None
        os.kill(self.child.pid, signal.SIGHUP)
