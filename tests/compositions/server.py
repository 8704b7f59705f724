"""A process of a composition that runs `crdtbucket serve` and is asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.compositions.member import BUCKET, KEY, run_command
from tests.compositions.process import BOUND_S, Answered, Failed, Forked
from tests.strong.redis_server import free_port


def _metric(page: str, name: str, otherwise: float) -> float:
    """The only sample of a gauge without labels; `otherwise` where there is none."""
    for line in page.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return otherwise


class ServeProcess(Forked):
    """A `crdtbucket serve`, asked over HTTP."""

    def __init__(self, config: Path, log: Path, port: int) -> None:
        super().__init__(log)
        self._config = config
        self._words = ["serve", "--config", str(config), "--listen", f"127.0.0.1:{port}"]
        self._url = f"http://127.0.0.1:{port}"
        self._load: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once it is ready."""
        self.begin(run_command, self._words)
        deadline = asyncio.get_running_loop().time() + BOUND_S
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self._url}/readyz") as answer:
                        if answer.status == 200:
                            break
                if self.child is None or self.child.exitcode is not None:
                    raise self.failed("the server ended")
                if asyncio.get_running_loop().time() > deadline:
                    raise self.failed("the server is not ready")
                await asyncio.sleep(0.05)
        self.loads.append([])
        if self.gap:
            await self.load(self.gap)

    async def ask_to_end(self) -> None:
        """Sends SIGTERM."""
        self.signal(signal.SIGTERM)

    async def last_words(self) -> None:
        """Reads the answers to a load."""
        if self._load is not None:
            await self._load
            self._load = None

    async def load(self, gap: float) -> None:
        """Goes on with calls in the background, until it ends."""
        self._load = asyncio.create_task(self._go_on(gap, self.loads[-1]))

    async def _go_on(self, gap: float, answers: list[Answered]) -> None:
        due = time.monotonic()
        call = {"bucket": BUCKET, "key": KEY}
        async with aiohttp.ClientSession() as session:
            with contextlib.suppress(aiohttp.ClientError):
                while True:
                    async with session.post(f"{self._url}/v1/take", json=call) as answer:
                        allowed = int(answer.status == 200)
                    now = time.monotonic()
                    self.granted += allowed
                    answers.append(Answered(now, allowed, now - due))
                    due += random.expovariate(1 / gap)  # see `Member`
                    await asyncio.sleep(max(0.0, due - now))

    async def block(self, seconds: float, times: int) -> None:
        """Stops the process several times, with a call that waits meanwhile."""
        for _ in range(times):
            self.signal(signal.SIGSTOP)
            call = asyncio.create_task(self.take(1))
            await asyncio.sleep(seconds)
            self.signal(signal.SIGCONT)
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
        """Makes calls one after another."""
        granted = 0
        for _ in range(calls):
            granted += (await self._post("/v1/take", {"bucket": BUCKET, "key": KEY}))["allowed"]
        self.granted += granted
        return granted

    async def burst(self, calls: int) -> int:
        """Makes many calls in a few requests at once, since the server bounds the calls of one
        request."""
        each = 250
        several = {"takes": [{"bucket": BUCKET, "key": KEY}] * each}
        asked = [self._post("/v1/take-many", several) for _ in range(calls // each)]
        answers = [one for said in await asyncio.gather(*asked) for one in said["results"]]
        granted = sum(one["allowed"] for one in answers)
        self.granted += granted
        return granted

    async def look(self) -> dict[str, Any]:
        """What it reports of itself."""
        left = await self._post("/v1/peek", {"bucket": BUCKET, "key": KEY})
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{self._url}/v1/peers") as answer:
                peers = (await answer.json())["peers"]
            async with session.get(f"{self._url}/metrics") as answer:
                metrics = await answer.text()
        return {
            "left": left["remaining"],
            "limit": left["limit"],
            "mode": left["mode"],
            "peers": {one["name"]: one["state"] for one in peers},
            "unsettled": _metric(metrics, "crdtbucket_strong_unsettled_keys", 0.0),
            "leading": _metric(metrics, "crdtbucket_shared_leading", 1.0),
        }

    async def reload(self) -> None:
        """Sends SIGHUP; the caller waits for its effect."""
        self.signal(signal.SIGHUP)

    async def step_clock(self) -> None:
        """The wall clock of its machine goes back by a day."""
        self.signal(signal.SIGUSR1)

    async def second(self) -> str:
        """What another server of the same file prints."""
        other = ServeProcess(self._config, self._log.with_suffix(".second"), free_port())
        try:
            await other.start()
            return f"granted {await other.take(1)}"
        except Failed as error:
            return str(error)
        finally:
            await other.kill()
