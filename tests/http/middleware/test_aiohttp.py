"""The aiohttp middleware, before real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.aiohttp import KEY, install, setup
from tests.http.waits import in_minutes

API = BucketSpec("api", 2, 1, "1h")
LOCAL = "127.0.0.1"


async def home(request: web.Request) -> web.Response:
    return web.Response(text=str(request[KEY].decisions[0].remaining))


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for part in (b"a", b"b"):
        await response.write(part)
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws


async def fails(_: web.Request) -> web.Response:
    raise LookupError("of the application")


async def refuses(_: web.Request) -> web.Response:
    raise web.HTTPBadGateway


def limits_of(**rule: Any) -> Limits:
    return Limits(Limiter([API]), Rule("api", **rule))


def left(limits: Limits, key: str = LOCAL) -> int:
    return limits.limiter.bucket("api").peek(key).remaining


@asynccontextmanager
async def served(limits: Limits, **options: Any) -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application()
    setup(app, limits, **options)
    for handler in (home, stream, echo, fails, refuses):
        app.router.add_get(f"/{handler.__name__}", handler)
    sub = web.Application()
    sub.router.add_get("/home", home)
    app.add_subapp("/sub", sub)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_allowed_and_denied_answers() -> None:
    limits = limits_of()
    async with served(limits) as client:
        assert "open on an event loop" in repr(limits.limiter)
        answers = [await client.get("/home") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert await answers[0].text() == "1"
        assert in_minutes(answers[0].headers["RateLimit"]) == '"api";r=1;t=3600'
        assert in_minutes(answers[2].headers["Retry-After"]) == "3600"
        assert answers[2].content_type == "application/problem+json"
        assert (await answers[2].json(content_type=None))["violated-policies"] == ["api"]
        head = await client.head("/home")
        assert (head.status, await head.read()) == (429, b"")
    assert "closed" in repr(limits.limiter)


async def test_the_head_of_a_stream_has_the_fields() -> None:
    async with served(limits_of()) as client:
        answer = await client.get("/stream")
        assert await answer.read() == b"ab"
        assert in_minutes(answer.headers["RateLimit"]) == '"api";r=1;t=3600'


async def test_what_is_not_found_and_sub_applications_count_too() -> None:
    async with served(limits_of()) as client:
        answers = [await client.get(path) for path in ("/nothing", "/sub/home", "/sub/home")]
        assert [answer.status for answer in answers] == [404, 200, 429]
        assert in_minutes(answers[0].headers["RateLimit"]) == '"api";r=1;t=3600'
        assert [*map(in_minutes, answers[1].headers.getall("RateLimit"))] == ['"api";r=0;t=3600']


async def test_a_slash_that_is_encoded_belongs_to_its_segment() -> None:
    async def item(request: web.Request) -> web.Response:
        return web.Response(text=request.match_info["id"])

    app = web.Application()
    setup(app, limits_of(match=("GET /items/*", "/100%/*")))
    app.router.add_get("/items/{id}", item)
    app.router.add_get("/{part}/{id}", item)
    async with TestClient(TestServer(app)) as client:
        paths = ("/items/a%2Fb", "/100%25/a%2fb", "/items/%252F")
        answers = [await client.get(URL(path, encoded=True)) for path in paths]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert [await answer.text() for answer in answers[:2]] == ["a/b", "a/b"]


async def test_a_key_that_is_not_utf_8_is_limited() -> None:
    async with served(limits_of(key=lambda request: request.header("x-key"))) as client:
        for key in (b"\xff", b"\xfe" * 300):
            for status in (200, 200, 429):
                reader, writer = await asyncio.open_connection(client.host, client.port)
                head = b"GET /home HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Key: "
                writer.write(head + key + b"\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 %d" % status)
                writer.close()


async def test_a_denied_websocket_is_not_opened() -> None:
    limits = limits_of(cost=lambda r: 2 if r.websocket else 1)
    async with served(limits) as client:
        async with client.ws_connect("/echo") as ws:
            await ws.send_str("hi")
            assert await ws.receive_str() == "hi"
        with pytest.raises(aiohttp.WSServerHandshakeError) as error:
            await client.ws_connect("/echo")
        assert error.value.status == 429


@pytest.mark.parametrize(
    ("path", "status", "remaining"), [("fails", 500, 2), ("refuses", 502, 2), ("home", 200, 1)]
)
@pytest.mark.parametrize("asked", [True, False])
async def test_failures_are_given_back_when_asked_for(
    path: str, status: int, remaining: int, asked: bool
) -> None:
    limits = limits_of(refund_if=(lambda status: status >= 500) if asked else None)
    async with served(limits) as client:
        assert (await client.get(f"/{path}")).status == status
        assert left(limits) == (remaining if asked else 1)


async def test_forwarded_addresses_count_behind_our_proxy() -> None:
    limits = Limits(Limiter([API]), Rule("api"), trusted=[LOCAL])
    async with served(limits) as client:
        await client.get("/home", headers={"X-Forwarded-For": "9.9.9.9, 198.51.100.1"})
        assert (left(limits, "198.51.100.1"), left(limits)) == (1, 2)


async def test_a_client_that_goes_away_has_paid() -> None:
    async def waits(_: web.Request) -> web.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    begun = asyncio.Event()
    limits = limits_of(refund_if=lambda _: True)
    app = web.Application()
    setup(app, limits)
    app.router.add_get("/", waits)
    async with TestClient(TestServer(app, handler_cancellation=True)) as client:
        call = asyncio.create_task(client.get("/"))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert left(limits) == 1


async def test_a_limiter_of_the_programs_own_is_left_alone() -> None:
    limits = limits_of()
    async with served(limits, open_limiter=False) as client:
        assert (await client.get("/home")).status == 200
    assert "not opened" in repr(limits.limiter)


@asynccontextmanager
async def installed(limits: Limits) -> AsyncIterator[TestClient[Any, Any]]:
    """An application whose handlers let denials of the bucket `tokens` through."""
    tokens = limits.limiter.bucket("tokens")

    async def reserve(_: web.Request) -> web.Response:
        async with tokens.reserve("k", 2) as held:
            held.commit(2)
        return web.Response()

    async def begin(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        async with tokens.reserve("k", 2):
            raise AssertionError("there are none left")

    async def large(_: web.Request) -> web.Response:
        async with tokens.reserve("k", 3):
            raise AssertionError("it could never pass")

    app = web.Application()
    setup(app, limits)
    install(app)
    for handler in (reserve, begin, fails, large):
        app.router.add_get(f"/{handler.__name__}", handler)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_a_denial_that_a_handler_lets_through_is_answered() -> None:
    """It is no failure of the server: a rule that gives such tokens back keeps these."""
    limiter = Limiter([BucketSpec("api", 9, 1, "1h"), BucketSpec("tokens", 2, 1, "1h")])
    limits = Limits(limiter, Rule("api", refund_if=lambda status: status >= 500))
    async with installed(limits) as client:
        answers = [
            await client.get(f"/{path}") for path in ("reserve", "reserve", "fails", "large")
        ]
        assert [answer.status for answer in answers] == [200, 429, 500, 413]
        assert answers[1].content_type == "application/problem+json"
        assert in_minutes(answers[1].headers["Retry-After"]) == "7200"
        assert [*map(in_minutes, answers[1].headers.getall("RateLimit"))] == [
            '"tokens";r=0;t=7200',
            '"api";r=7;t=3600',
        ]
        assert left(limits) == 6


async def test_an_answer_that_is_under_way_is_not_followed_by_another_one() -> None:
    limiter = Limiter([API, BucketSpec("tokens", 2, 1, "1h")])
    limiter.bucket("tokens").take("k", 2)
    async with installed(Limits(limiter, Rule("api"))) as client:
        answer = await client.get("/begin")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
