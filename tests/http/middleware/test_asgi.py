"""The ASGI middleware: by its protocol, and in the frameworks that speak it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from crdtbucket import BucketSpec, InvalidKey, Limiter, LimiterClosed
from crdtbucket.http import Limits, Request, Rule
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware
from tests.http.waits import in_minutes
from tests.waits import eventually

API = BucketSpec("api", 2, 1, "1h")
Message = dict[str, Any]
App = Callable[..., Awaitable[None]]


def limits_of(**rule: Any) -> Limits:
    return Limits(Limiter([API]), Rule("api", **rule))


def left(limits: Limits, key: str = "203.0.113.9") -> int:
    return limits.limiter.bucket("api").peek(key).remaining


def scope_of(kind: str = "http", **more: Any) -> Message:
    return {"type": kind, "method": "GET", "path": "/", "headers": [],
            "client": ("203.0.113.9", 4711), "extensions": {}} | more  # fmt: skip


class Server:
    """What a server sends and receives on one connection."""

    def __init__(self, *says: Message) -> None:
        self.says = [*says]
        self.heard: list[Message] = []

    async def receive(self) -> Message:
        return self.says.pop(0)

    async def send(self, message: Message) -> None:
        self.heard.append(message)

    async def call(self, app: App, scope: Message) -> list[Message]:
        await app(scope, self.receive, self.send)
        return self.heard


async def hello(scope: Message, receive: Any, send: Any) -> None:
    """An application that says hello, and nothing of a lifespan."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"hello"})


def fields(message: Message) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in message["headers"]}


# -- http


async def test_a_method_in_small_letters_is_no_way_around_a_rule() -> None:
    limits = limits_of(match="POST /")
    for method in ("post", "Post", "POST"):  # of Django, for which they are the same
        heard = await Server().call(ASGILimitMiddleware(hello, limits), scope_of(method=method))
        assert heard[0]["status"] == (429 if method == "POST" else 200)


async def test_allowed_answers_carry_the_fields() -> None:
    limits = limits_of()
    scope = scope_of()
    start, body = await Server().call(ASGILimitMiddleware(hello, limits), scope)
    told = fields(start)
    assert told | {"ratelimit": in_minutes(told["ratelimit"])} == {
        "x-own": "1",
        "ratelimit-policy": '"api";q=2;w=7200',
        "ratelimit": '"api";r=1;t=3600',
    }
    assert body["body"] == b"hello"
    assert scope["crdtbucket"].decisions[0].remaining == 1


async def test_a_denied_request_does_not_reach_the_application() -> None:
    reached: list[int] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        reached.append(1)
        await hello(scope, receive, send)

    limited = ASGILimitMiddleware(app, limits_of())
    answers = [await Server().call(limited, scope_of()) for _ in range(3)]
    assert [start["status"] for start, _ in answers] == [200, 200, 429]
    assert len(reached) == 2
    start, body = answers[2]
    assert fields(start)["content-type"] == "application/problem+json"
    assert in_minutes(fields(start)["retry-after"]) == "3600"
    assert json.loads(body["body"])["status"] == 429


async def test_the_request_is_seen_as_it_is() -> None:
    def key(request: Request) -> str:
        seen.append((request.method, request.path, request.header("X-Two"), request.websocket))
        return request.address

    seen: list[Any] = []
    limits = Limits(Limiter([API]), Rule("api", key=key), trusted=["203.0.113.0/24"])
    headers = [(b"x-two", b"a"), (b"x-forwarded-for", b"9.9.9.9, 198.51.100.1"), (b"x-two", b"b")]
    await Server().call(
        ASGILimitMiddleware(hello, limits), scope_of(method="POST", path="/é", headers=headers)
    )
    assert seen == [("POST", "/é", "a, b", False)]
    assert left(limits, "198.51.100.1") == 1


async def test_no_peer_is_an_error_unless_the_socket_is_ours() -> None:
    with pytest.raises(InvalidKey, match='put "unix"'):
        await Server().call(ASGILimitMiddleware(hello, limits_of()), scope_of(client=None))
    limits = Limits(Limiter([API]), Rule("api"), trusted=["unix"])
    forwarded = [(b"x-forwarded-for", b"198.51.100.1")]
    await Server().call(
        ASGILimitMiddleware(hello, limits), scope_of(client=None, headers=forwarded)
    )
    assert left(limits, "198.51.100.1") == 1


async def test_a_stream_is_not_held_back() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for n in range(3):
            await send({"type": "http.response.body", "body": b"%d" % n, "more_body": True})
            assert server.heard[-1]["body"] == b"%d" % n  # sent before the next is made
        await send({"type": "http.response.body"})

    server = Server()
    start, *_ = await server.call(ASGILimitMiddleware(app, limits_of()), scope_of())
    assert "ratelimit" in fields(start)


# -- what goes back

FAILED = {"refund_if": lambda status: status >= 500}


async def raises(scope: Message, receive: Any, send: Any) -> None:
    raise LookupError("of the application")


async def raises_late(scope: Message, receive: Any, send: Any) -> None:
    await hello(scope, receive, send)
    raise LookupError("of the application")


async def says_503(scope: Message, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": []})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("app", [raises, raises_late, says_503, hello])
@pytest.mark.parametrize("asked", [True, False])
async def test_failures_are_given_back_when_asked_for(app: App, asked: bool) -> None:
    limits = limits_of(**FAILED if asked else {})
    try:
        await Server().call(ASGILimitMiddleware(app, limits), scope_of())
    except LookupError:
        assert app in (raises, raises_late)
    assert left(limits) == (2 if asked and app is not hello else 1)


async def test_a_client_that_goes_away_has_paid() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    begun = asyncio.Event()
    limits = limits_of(refund_if=lambda _: True)
    task = asyncio.create_task(Server().call(ASGILimitMiddleware(app, limits), scope_of()))
    await begun.wait()
    task.cancel()  # so servers end an application whose client has gone
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left(limits) == 1


# -- websockets


async def socket(scope: Message, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1000})


async def test_a_denied_websocket_is_closed_before_it_is_accepted() -> None:
    limited = ASGILimitMiddleware(socket, limits_of())
    heard = []
    for _ in range(3):
        server = Server({"type": "websocket.connect"})
        heard.append(await server.call(limited, scope_of("websocket")))
    assert in_minutes(fields(heard[0][0])["ratelimit"]) == '"api";r=1;t=3600'
    assert heard[2] == [{"type": "websocket.close", "code": 1008}]


async def test_a_denied_websocket_gets_an_answer_where_the_server_can() -> None:
    limits = limits_of(cost=2)
    extensions = {"websocket.http.response": {}}
    for kinds in (
        ["websocket.accept", "websocket.close"],
        ["websocket.http.response.start", "websocket.http.response.body"],
    ):
        server = Server({"type": "websocket.connect"})
        scope = scope_of("websocket", extensions=extensions)
        heard = await server.call(ASGILimitMiddleware(socket, limits), scope)
        assert [message["type"] for message in heard] == kinds
    assert heard[0]["status"] == 429
    assert json.loads(heard[1]["body"])["violated-policies"] == ["api"]


@pytest.mark.parametrize(("says", "status"), [
    ([{"type": "websocket.accept"}, {"type": "websocket.close"}], 101),
    ([{"type": "websocket.close"}], 403),
    ([{"type": "websocket.http.response.start", "status": 404},
      {"type": "websocket.http.response.body"}], 404),
])  # fmt: skip
async def test_the_status_of_a_websocket(says: list[Message], status: int) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        for message in says:
            await send(message)

    seen: list[int] = []
    limits = limits_of(refund_if=lambda status: bool(seen.append(status)))
    await Server().call(ASGILimitMiddleware(app, limits), scope_of("websocket"))
    assert seen == [status]


# -- the limiter's life


class Life:
    """A server that starts an application, and ends it when told to."""

    def __init__(self, app: App) -> None:
        self.heard: list[Message] = []
        self._says: asyncio.Queue[Message] = asyncio.Queue()
        self._says.put_nowait({"type": "lifespan.startup"})
        self.task = asyncio.ensure_future(app({"type": "lifespan"}, self._says.get, self._send))

    async def _send(self, message: Message) -> None:
        self.heard.append(message)

    @property
    def kinds(self) -> list[str]:
        return [message["type"].removeprefix("lifespan.") for message in self.heard]

    async def end(self) -> None:
        self._says.put_nowait({"type": "lifespan.shutdown"})
        await self.task


def state(limits: Limits) -> str:
    return repr(limits.limiter).rpartition(", ")[2].rstrip(")")


async def test_the_limiter_is_open_as_long_as_the_application() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "lifespan.startup"}
        seen.append(state(limits))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        seen.append(state(limits))
        await send({"type": "lifespan.shutdown.complete"})
        seen.append(state(limits))

    seen: list[str] = []
    limits = limits_of()
    life = Life(ASGILimitMiddleware(app, limits))
    await eventually(lambda: life.kinds == ["startup.complete"])
    await life.end()
    assert life.kinds == ["startup.complete", "shutdown.complete"]
    assert seen == ["open on an event loop"] * 2 + ["closed"]


async def test_an_application_without_a_lifespan_is_served() -> None:
    limits = limits_of()
    life = Life(ASGILimitMiddleware(hello, limits))
    await eventually(lambda: life.kinds == ["startup.complete"])
    assert state(limits) == "open on an event loop"
    await life.end()
    assert life.kinds == ["startup.complete", "shutdown.complete"]
    assert state(limits) == "closed"


async def test_an_application_that_fails_to_start_closes_the_limiter() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise OSError("no database")

    limits = limits_of()
    life = Life(ASGILimitMiddleware(app, limits))
    with pytest.raises(OSError, match="no database"):
        await life.task
    assert life.kinds == ["startup.failed"]
    assert state(limits) == "closed"


async def test_a_limiter_that_does_not_open_keeps_the_application_from_starting() -> None:
    limits = limits_of()
    limits.limiter.close()
    life = Life(ASGILimitMiddleware(hello, limits))
    with pytest.raises(LimiterClosed):
        await life.task
    (failed,) = life.heard
    assert failed["type"] == "lifespan.startup.failed"
    assert failed["message"].startswith("this limiter was closed: make a new one; ")
    assert "a function that makes the limits" in failed["message"]


def test_an_application_can_be_opened_again() -> None:
    made: list[Limits] = []

    def make() -> Limits:
        made.append(limits_of())
        return made[-1]

    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("hello"))])
    app.add_middleware(ASGILimitMiddleware, limits=make)
    for _ in range(2):
        with TestClient(app) as client:
            assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]
    assert [state(limits) for limits in made] == ["closed", "closed"]


def test_limits_are_made_without_a_lifespan_too() -> None:
    client = TestClient(ASGILimitMiddleware(starlette(limits_of(exempt=lambda _: True)), limits_of))
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


async def test_a_limiter_of_the_programs_own_is_left_alone() -> None:
    limits = limits_of()
    life = Life(ASGILimitMiddleware(hello, limits, open_limiter=False))
    with pytest.raises(AssertionError):  # what `hello` says of a lifespan, to the server
        await life.task
    assert state(limits) == "not opened"


# -- in the frameworks


def starlette(limits: Limits) -> App:
    async def stream(_: Any) -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(await ws.receive_text())
        await ws.close()

    def home(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    routes = [Route("/", home), Route("/stream", stream), WebSocketRoute("/ws", echo)]
    app = Starlette(routes=routes)
    app.add_middleware(ASGILimitMiddleware, limits=limits)
    return app


def litestar(limits: Limits) -> App:
    from litestar import Litestar, get

    @get("/", sync_to_thread=False)
    def home() -> str:
        return "hello"

    # By itself it sets the level of all loggers of this process, and later tests read other lines.
    return ASGILimitMiddleware(Litestar([home], logging_config=None), limits)


def quart(limits: Limits) -> App:
    from quart import Quart

    app = Quart(__name__)

    @app.get("/")
    async def home() -> str:
        return "hello"

    app.asgi_app = ASGILimitMiddleware(app.asgi_app, limits)  # type: ignore[assignment,arg-type]
    return app


@pytest.mark.parametrize("make", [starlette, litestar, quart])
async def test_frameworks_answer_and_open_the_limiter(make: Callable[[Limits], App]) -> None:
    limits = limits_of()
    app = make(limits)
    life = Life(app)
    await eventually(lambda: life.kinds == ["startup.complete"])
    assert state(limits) == "open on an event loop"
    transport = httpx2.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answers = [await client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].text == "hello"
    assert in_minutes(answers[0].headers["RateLimit"]) == '"api";r=1;t=3600'
    assert answers[2].json()["violated-policies"] == ["api"]
    await life.end()
    assert state(limits) == "closed"


def test_starlette_streams_and_websockets() -> None:
    limits = Limits(Limiter([API]), Rule("api", key=lambda r: r.path))
    with TestClient(starlette(limits)) as client:
        answers = [client.get("/stream") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[1].text == "ab"
        assert in_minutes(answers[1].headers["RateLimit"]) == '"api";r=0;t=3600'
        for _ in range(2):
            with client.websocket_connect("/ws") as ws:
                ws.send_text("hi")
                assert ws.receive_text() == "hi"
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws"):
            pass
