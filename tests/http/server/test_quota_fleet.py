"""Envoy's quotas from two nodes of a mesh, real processes, one of which is killed and returns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from crdtbucket.http.server.quota_messages import (
    DENY_ALL,
    QUOTA_CLASSES,
    QUOTA_METHOD,
    QUOTA_SERVICE,
)
from tests.cli.test_serve import Process, started
from tests.strong.redis_server import free_port
from tests.waits import eventually

CAPACITY = 400
WARMING_UP = CAPACITY // 2 // 4
"""The tokens that a node without any memory may assign at once: a quarter of its share."""
CONFIG = """
node: {node}
services: {{api: {{limit: "1 per 1d burst 400"}}}}
envoy: {{descriptors: [{{domain: edge, entries: [user], bucket: api}}]}}
mesh: {{listen: "127.0.0.1:{listen}", peers: ["127.0.0.1:{peer}"], secret: "a secret of this test"}}
"""
SESSION = aiohttp.ClientTimeout(total=60)


class Envoy:
    """One Envoy, and requests of one user."""

    def __init__(self) -> None:
        self.admitted = 0
        self.told = asyncio.Event()
        """Is set when anything has arrived on the stream."""
        self.held = 0
        """Tokens of the last assignment that are left."""
        self._used = 0
        self._stream: Any = None

    def use(self) -> None:
        """Admits what its assignment lets pass."""
        self.admitted += self.held
        self._used += self.held
        self.held = 0

    async def report(self, denied: int = 0) -> None:
        """Reports what was used since the last report."""
        usage = QUOTA_CLASSES["BucketQuotaUsage"](num_requests_denied=denied)
        usage.bucket_id.bucket.add(key=b"user", value=b"u")
        usage.num_requests_allowed, self._used = self._used, 0
        reports = QUOTA_CLASSES["RateLimitQuotaUsageReports"]
        raw = reports(domain=b"edge", bucket_quota_usages=[usage]).SerializeToString()
        await self._stream.write(raw)

    @asynccontextmanager
    async def connected(self, port: int) -> AsyncIterator[None]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            self.told.clear()
            self._stream = channel.stream_stream(f"/{QUOTA_SERVICE}/{QUOTA_METHOD}")()
            reading = asyncio.ensure_future(self._read(self._stream))
            try:
                yield
            finally:
                self._stream.cancel()
                await asyncio.wait([reading])

    async def _read(self, stream: Any) -> None:
        fresh = False
        while raw := await read(stream):
            for action in QUOTA_CLASSES["RateLimitQuotaResponse"].FromString(raw).bucket_action:
                strategy = action.quota_assignment_action.rate_limit_strategy
                if strategy.HasField("blanket_rule"):
                    assert strategy.blanket_rule == DENY_ALL
                    self.held, fresh = 0, True
                elif fresh:  # else the last one goes on
                    self.held, fresh = strategy.token_bucket.max_tokens, False
            self.told.set()


async def read(stream: Any) -> Any:
    """The next message; nothing where the node is gone."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        return await stream.read()


class Fleet:
    """Two nodes."""

    def __init__(self, stack: AsyncExitStack, session: aiohttp.ClientSession, path: Path) -> None:
        self._stack, self._session, self._path = stack, session, path
        self.nodes: dict[str, Process] = {}
        self.grpc = {name: free_port() for name in "ab"}
        self._mesh = {name: free_port() for name in "ab"}

    async def start(self, name: str) -> None:
        (path := self._path / name).mkdir(exist_ok=True)
        other = self._mesh["b" if name == "a" else "a"]
        config = CONFIG.format(node=name, listen=self._mesh[name], peer=other)
        options = ("--grpc", f"127.0.0.1:{self.grpc[name]}")
        running = started(path, *options, config=config)
        self.nodes[name] = await self._stack.enter_async_context(running)

    async def kill(self, name: str) -> None:
        self.nodes[name].process.kill()
        await self.nodes[name].process.wait()

    async def linked(self) -> None:
        """Until both nodes serve all of a bucket, as they know of each other."""
        for node in self.nodes.values():

            async def ready(url: str = node.url) -> bool:
                async with self._session.get(f"{url}/readyz") as answer:
                    is_ready = answer.status == 200
                async with self._session.get(f"{url}/v1/peers") as answer:
                    peers = (await answer.json())["peers"]
                return is_ready and [one["state"] for one in peers] == ["alive"]

            await eventually(ready)

    async def left(self) -> list[int]:
        """The tokens that are left by each node."""
        found = []
        for node in self.nodes.values():
            body = {"bucket": "api", "key": "u"}
            async with self._session.post(f"{node.url}/v1/peek", json=body) as answer:
                found.append(int((await answer.json())["remaining"]))
        return found


@pytest.mark.slow
async def test_two_nodes_assign_the_tokens_of_one_bucket_though_one_is_killed(
    tmp_path: Path,
) -> None:
    async with (
        AsyncExitStack() as stack,
        aiohttp.ClientSession(timeout=SESSION) as session,
    ):
        fleet = Fleet(stack, session, tmp_path)
        for name in "ab":
            await fleet.start(name)
        await fleet.linked()
        first, second = pair = Envoy(), Envoy()

        async def known() -> bool:
            """Both nodes know of all that was assigned."""
            for envoy in pair:
                await envoy.report()
            left = CAPACITY - first.held - second.held
            return bool(first.held and second.held) and await fleet.left() == [left, left]

        async def drained() -> bool:
            first.use()
            await first.report(denied=1_000)
            return first.admitted + second.admitted >= CAPACITY - charged_twice

        async def denied() -> bool:
            second.use()  # of what was left it may have got some
            await second.report(denied=1_000)
            return second.told.is_set() and not second.held and await fleet.left() == [0, 0]

        async with second.connected(fleet.grpc["b"]), first.connected(fleet.grpc["a"]):
            await eventually(known)
            await fleet.kill("a")
            charged_twice = first.held
            assert charged_twice + second.held < CAPACITY  # so that some is left
            for envoy in pair:  # an assignment holds for a while without its node
                envoy.use()
        await fleet.start("a")
        async with first.connected(fleet.grpc["a"]):
            # At once, perhaps before this node has learned of anything.
            await eventually(drained)
            async with second.connected(fleet.grpc["b"]):
                await eventually(denied)
        assert (first.held, second.held) == (0, 0)
        assert first.admitted + second.admitted <= CAPACITY + WARMING_UP
