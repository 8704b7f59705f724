"""Benchmarks of the integrations for clients; the services that they call answer at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.integration_calls import NAME, awaited, limiter
from benchmarks.surfaces import Loop, Run, timed
from crdtbucket.upstream.upstream import Upstream


def upstream() -> Upstream:
    """A service that this process calls."""
    return Upstream(limiter(), NAME)


def httpx_client(*, limited: bool) -> Run:
    """Requests of httpx through a transport that answers."""
    import httpx

    from crdtbucket.upstream.httpx_transport import UpstreamTransport

    inner = httpx.MockTransport(lambda _: httpx.Response(200))
    transport: Any = UpstreamTransport(inner, upstream()) if limited else inner
    client = httpx.Client(transport=transport, base_url="http://api.test")
    return lambda calls: timed(calls, client.get, ["/"])


def httpx_async_client(loop: Loop, *, limited: bool) -> Run:
    """Requests of httpx on an event loop."""
    import httpx

    from crdtbucket.upstream.httpx_transport import AsyncUpstreamTransport

    inner = httpx.MockTransport(lambda _: httpx.Response(200))
    transport: Any = AsyncUpstreamTransport(inner, upstream()) if limited else inner
    client = httpx.AsyncClient(transport=transport, base_url="http://api.test")
    return awaited(loop, client.get, ["/"])


@contextmanager
def aiohttp_client(loop: Loop, *, limited: bool) -> Iterator[Run]:
    """Requests of aiohttp to a server in this process, since its middleware needs a connection."""
    from aiohttp import ClientSession, web
    from aiohttp.test_utils import TestServer

    from crdtbucket.upstream.aiohttp_client import upstream_middleware

    async def nothing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async def begin() -> tuple[TestServer, ClientSession]:
        app = web.Application()
        app.router.add_get("/", nothing)
        server = TestServer(app)
        await server.start_server()
        middlewares = [upstream_middleware(upstream())] if limited else []
        return server, ClientSession(server.make_url("/"), middlewares=middlewares)

    async def each(path: str) -> None:
        async with session.get(path) as response:
            await response.read()

    server, session = loop.run_until_complete(begin())
    try:
        yield awaited(loop, each, ["/"])
    finally:
        loop.run_until_complete(session.close())
        loop.run_until_complete(server.close())


def requests_client(*, limited: bool) -> Run:
    """Requests of requests through an adapter that answers."""
    import requests
    from requests.adapters import HTTPAdapter

    from crdtbucket.upstream.requests_adapter import UpstreamAdapter

    class Answers(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
            answer = requests.Response()
            answer.status_code, answer.request, answer._content = 200, request, b""
            return answer

    class Limited(UpstreamAdapter, Answers):
        """The adapter with a limit, whose requests `Answers` answers."""

    session = requests.Session()
    session.mount("http://", Limited(upstream()) if limited else Answers())
    return lambda calls: timed(calls, session.get, ["http://api.test/"])
