"""Real clients: each request waits for its turn, and the bucket follows the answers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
from aiohttp import web
from aiohttp.test_utils import TestServer

from crdtbucket import BucketSpec, Limiter, WaitTimeout
from crdtbucket.upstream.aiohttp_client import upstream_middleware
from crdtbucket.upstream.httpx_transport import AsyncUpstreamTransport, UpstreamTransport
from crdtbucket.upstream.requests_adapter import UpstreamAdapter
from crdtbucket.upstream.upstream import Upstream

LEFT = {"x-ratelimit-remaining-requests": "3"}
"""The header fields of each answer of the service."""


def upstream() -> tuple[Upstream, Any]:
    limiter = Limiter([BucketSpec("api", capacity=10, refill_rate=1, refill_interval="1h")])
    return Upstream(limiter, "api", timeout=0), limiter.bucket("api")


def check(bucket: Any, sent: list[int]) -> None:
    """Three requests of four were sent after the first: the service said that three were left."""
    assert len(sent) == 4
    assert bucket.peek("all").remaining == 0


def answering(client: Any, sent: list[int]) -> Any:
    """A transport on which the service answers, and notes each request."""

    def answer(request: Any) -> Any:
        sent.append(1)
        return client.Response(200, headers=LEFT if len(sent) == 1 else {})

    return client.MockTransport(answer)


@pytest.mark.parametrize("client", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_httpx(client: Any) -> None:
    one, bucket = upstream()
    sent: list[int] = []

    transport = UpstreamTransport(answering(client, sent), one)
    with client.Client(transport=transport, base_url="http://api.test") as http:
        for _ in range(4):
            assert http.get("/").status_code == 200
        with pytest.raises(WaitTimeout):
            http.get("/")
    check(bucket, sent)


@pytest.mark.parametrize("client", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_httpx_async(client: Any) -> None:
    one, bucket = upstream()
    sent: list[int] = []

    async def main() -> None:
        transport = AsyncUpstreamTransport(answering(client, sent), one)
        async with client.AsyncClient(transport=transport, base_url="http://api.test") as http:
            for _ in range(4):
                assert (await http.get("/")).status_code == 200
            with pytest.raises(WaitTimeout):
                await http.get("/")

    asyncio.run(main())
    check(bucket, sent)


def test_aiohttp() -> None:
    one, bucket = upstream()
    sent: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        sent.append(1)
        return web.Response(headers=LEFT if len(sent) == 1 else {})

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", answer)
        async with (
            TestServer(app) as server,
            aiohttp.ClientSession(middlewares=[upstream_middleware(one)]) as session,
        ):
            for _ in range(4):
                async with session.get(server.make_url("/")) as response:
                    assert response.status == 200
            with pytest.raises(WaitTimeout):
                await session.get(server.make_url("/"))

    asyncio.run(main())
    check(bucket, sent)


@contextlib.contextmanager
def served(sent: list[int]) -> Iterator[str]:
    """A service over a real socket."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(1)
            self.send_response(200)
            for name, value in LEFT.items() if len(sent) == 1 else ():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_requests() -> None:
    one, bucket = upstream()
    sent: list[int] = []
    with served(sent) as address, requests.Session() as session:
        session.mount("http://", UpstreamAdapter(one))
        for _ in range(4):
            assert session.get(address, timeout=60).status_code == 200
        with pytest.raises(WaitTimeout):
            session.get(address, timeout=60)
    check(bucket, sent)
