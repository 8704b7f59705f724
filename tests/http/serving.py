"""A server of decisions in the process of a test, and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.serving import SidecarServer
from crdtbucket.http.server.siblings import Siblings

API = BucketSpec("api", 100, 1, "1h")
SMALL = BucketSpec("small", 10, 10, "1d")
TOKEN = "a token of these tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Asker:
    """A client of one server."""

    def __init__(
        self, server: SidecarServer, limiter: Limiter, session: aiohttp.ClientSession
    ) -> None:
        self.server = server
        self.limiter = limiter
        self.session = session
        self.writers: list[asyncio.StreamWriter] = []
        self.url = next(url for url in server.addresses if url.startswith("http"))
        """The URL of its first TCP address."""

    async def ask(
        self, method: str, path: str, **options: Any
    ) -> tuple[int, dict[str, Any], aiohttp.typedefs.LooseHeaders]:
        """Status, body and header fields."""
        async with self.session.request(method, self.url + path, **options) as response:
            kind = "application/json" if response.ok else "application/problem+json"
            assert response.content_type == kind
            return response.status, await response.json(content_type=kind), response.headers

    async def get(self, path: str, **options: Any) -> dict[str, Any]:
        """The body of a success."""
        status, body, _ = await self.ask("GET", path, **options)
        assert status == 200, body
        return body

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The body of a success."""
        status, answer, _ = await self.ask("POST", path, json=body)
        assert status == 200, answer
        return answer

    async def refused(self, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        """Status and problem."""
        status, answer, _ = await self.ask("POST", path, json=body)
        assert answer["status"] == status >= 400
        return status, answer

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare connection; it is closed at the end."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self.writers.append(writer)
        return reader, writer


@asynccontextmanager
async def serving(
    limiter: Limiter | None = None, *, siblings: Siblings | None = None, **settings: Any
) -> AsyncIterator[Asker]:
    """Opens the limiter and serves it on a free port. `siblings`: the workers of which it is
    one."""
    if limiter is None:
        limiter = Limiter([API, SMALL])
    settings.setdefault("listen", ("127.0.0.1:0",))
    server = SidecarServer(limiter, ServeSettings(**settings), siblings)
    server.bind()
    async with limiter, aiohttp.ClientSession() as session:
        await server.start()
        client = Asker(server, limiter, session)
        try:
            yield client
        finally:
            for writer in client.writers:
                writer.transport.abort()
            await server.stop()
