"""The straight path of one rule by the peer's address against the general path of any rule.

Both limit the same generated requests, each with its own limiter at the same virtual time. What a
client is answered, what a program sees, and the levels afterwards must be equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from fastapi import Depends, FastAPI, Response, WebSocket
from flask import Flask
from flask import request as flask_request
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import create_environ

from crdtbucket import BucketSpec, CostExceedsCapacity, InvalidKey, Limiter
from crdtbucket._core import Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.http import FieldOptions, Limits, Request, Rule, Verdict
from crdtbucket.http.middleware.aiohttp import KEY, setup
from crdtbucket.http.middleware.asgi import ASGILimitMiddleware
from crdtbucket.http.middleware.fastapi import install, limit_dependency
from crdtbucket.http.middleware.flask import limit_route
from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware

PEERS = ("10.0.0.1", "10.0.0.2:80", "203.0.113.9", "2001:db8::1", "2001:db8::2", "testclient")
STRANGE = (None, "", "unix", "no address")
START = 1_000 * NS_PER_SECOND
Asked = tuple[int, str, str | None, int]
"""Seconds since the request before, method ("WS" opens a WebSocket), peer, status of the answer (0
for an application that raises)."""
Seen = list[object]


class Broken(Exception):
    """An error of the application."""


def by_the_same_address(request: Request) -> str:
    """The default key, but the rule cannot know that."""
    return request.address


def said(verdict: Verdict) -> tuple[object, ...]:
    decisions = [(d.as_dict(), d.next_token, d.spec.name) for d in verdict.decisions]
    assert verdict.binding is verdict.decisions[-1] if verdict.decisions else not verdict.binding
    return verdict.allowed, decisions, dict(verdict.fields), len(verdict.taken)


# -- one request through each middleware, as the client and the program see it


def asgi_call(app: Any, asked: Asked, seen: Seen, **scope: Any) -> Coroutine[Any, Any, None]:
    """A call of an ASGI app; what it sends goes into `seen`."""

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        seen.append(message)

    _, method, peer, _ = asked
    kind = {"type": "websocket"} if method == "WS" else {"type": "http", "method": method}
    scope |= {**kind, "path": "/", "headers": [], "client": peer and (peer, 1)}
    return app(scope, receive, send)  # type: ignore[no-any-return]


def over_asgi(limits: Limits, _: asyncio.AbstractEventLoop) -> Callable[[Asked], Seen]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(said(scope["crdtbucket"]))
        if not (status := scope["wanted"]):
            raise Broken
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": status, "headers": [(b"a", b"1")]})
            await send({"type": "http.response.body", "body": b"hello"})

    def ask(asked: Asked) -> Seen:
        seen.clear()
        # Without anything to wait for, one step runs a request to its end.
        call = asgi_call(middleware, asked, seen, wanted=asked[3])
        with pytest.raises(StopIteration):
            call.send(None)
        return [*seen]

    seen: Seen = []
    middleware = ASGILimitMiddleware(app, limits, open_limiter=False)
    return ask


def over_wsgi(limits: Limits, _: asyncio.AbstractEventLoop) -> Callable[[Asked], Seen]:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append(said(environ["crdtbucket.verdict"]))
        if not environ["wanted"]:
            raise Broken
        start_response(f"{environ['wanted']} Said", [("a", "1")])
        return [b"hello"]

    def start_response(*given: object) -> Any:
        seen.append(given)

    def ask(asked: Asked) -> Seen:
        _, method, peer, status = asked
        seen.clear()
        environ: Any = {"REQUEST_METHOD": method, "PATH_INFO": "/", "wanted": status}
        environ |= {} if peer is None else {"REMOTE_ADDR": peer}
        answer = middleware(environ, start_response)
        seen.append(b"".join(answer))
        return [*seen]

    seen: Seen = []
    middleware = WSGILimitMiddleware(app, limits, open_limiter=False)
    return ask


def over_aiohttp(limits: Limits, loop: asyncio.AbstractEventLoop) -> Callable[[Asked], Seen]:
    async def home(request: web.Request) -> web.Response:
        seen.append(said(request[KEY]))
        status = int(request.headers["Wanted"])
        if not status:
            raise Broken
        if status == 404:
            raise web.HTTPNotFound(text="hello")
        return web.Response(status=status, text="hello", headers={"RateLimit": "of the program"})

    async def answered(asked: Asked) -> None:
        _, method, peer, status = asked
        transport: Any = SimpleNamespace(get_extra_info={"peername": peer and (peer, 1)}.get)
        request = make_mocked_request(
            method, "/", {"Wanted": str(status)}, app=app, transport=transport
        )
        try:
            response: Any = await app._handle(request)
        except web.HTTPException as raised:
            response = raised
        await response.prepare(request)
        fields = [(name, value) for name, value in response.headers.items() if name != "Date"]
        seen.extend((response.status, fields, getattr(response, "body", None)))

    def ask(asked: Asked) -> Seen:
        seen.clear()
        loop.run_until_complete(answered(asked))
        return [*seen]

    seen: Seen = []
    app = web.Application()
    app.router.add_route("*", "/", home)
    setup(app, limits, open_limiter=False)
    app.freeze()
    return ask


def over_fastapi(limits: Limits, loop: asyncio.AbstractEventLoop) -> Callable[[Asked], Seen]:
    dependency = Depends(limit_dependency(limits))

    async def home(wanted: int, response: Response, verdict: Any = dependency) -> str:
        seen.append(said(verdict))
        if not wanted:
            raise Broken
        response.status_code = wanted
        return "hello"

    async def opened(socket: WebSocket, verdict: Any = dependency) -> None:
        seen.append(said(verdict))
        await socket.accept()

    def ask(asked: Asked) -> Seen:
        seen.clear()
        call = asgi_call(app, asked, seen, query_string=b"wanted=%d" % asked[3])
        loop.run_until_complete(call)
        return [*seen]

    seen: Seen = []
    app = FastAPI(openapi_url=None)
    app.add_api_route("/", home, methods=["GET", "POST", "HEAD", "OPTIONS"])
    app.add_api_websocket_route("/", opened)
    install(app)
    return ask


def over_flask(limits: Limits, _: asyncio.AbstractEventLoop) -> Callable[[Asked], Seen]:
    def home() -> tuple[str, int]:
        seen.append(said(flask_request.environ["crdtbucket.verdict"]))
        if not (status := int(flask_request.args["wanted"])):
            raise Broken
        return "hello", status

    def start_response(*given: object) -> Any:
        seen.append(given)

    def ask(asked: Asked) -> Seen:
        _, method, peer, status = asked
        seen.clear()
        environ = create_environ(f"/?wanted={status}", method=method)
        environ |= {} if peer is None else {"REMOTE_ADDR": peer}
        seen.append(b"".join(app(environ, start_response)))
        return [*seen]

    seen: Seen = []
    app = Flask("test")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.add_url_rule(
        "/", view_func=limit_route(limits)(home), methods=["GET", "POST", "HEAD", "OPTIONS"]
    )
    return ask


# -- both paths


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with closing(asyncio.new_event_loop()) as made:
        yield made


def seen_by(ask: Callable[[Asked], Seen], asked: Asked) -> Seen:
    """What a client and the program see of one request, errors included."""
    try:
        return ask(asked)
    except (Broken, InvalidKey, CostExceedsCapacity) as error:
        return [type(error), str(error)]


def levels(limiter: Limiter) -> object:
    """What every key has left, and what was counted."""
    bucket = limiter.bucket("api")
    keys = sorted(limiter.keys("api"))
    return [bucket.peek(key).as_dict() for key in keys], bucket.counters()


limited = st.fixed_dictionaries(
    {
        "capacity": st.integers(1, 3),
        "shadow": st.booleans(),
        "override": st.booleans(),
    }
)
ruled = st.fixed_dictionaries(
    {
        "cost": st.sampled_from((1, 1, 2)),
        "match": st.sampled_from(((), (), "POST,WS /**")),
        "exempt": st.sampled_from((None, None, lambda request: request.method == "OPTIONS")),
        "refund_if": st.sampled_from((None, lambda status: status >= 500)),
    }
)
told = st.builds(FieldOptions, on_allowed=st.booleans(), legacy=st.booleans())
requests = st.lists(
    st.tuples(
        st.sampled_from((0, 0, 0, 600, 3_600)),
        st.sampled_from(("GET", "GET", "POST", "HEAD", "OPTIONS", "WS")),
        st.sampled_from(PEERS) | st.sampled_from(STRANGE),
        st.sampled_from((200, 200, 404, 500, 0)),
    ),
    max_size=8,
)


def built(key: Any, limit: Any, rule: Any, fields: FieldOptions, trusted: Any) -> Limits:
    few = [("10.*", BucketSpec("few", 1, 1, "1h"))] if limit["override"] else []
    spec = BucketSpec("api", limit["capacity"], 1, "1h", overrides=few, shadow=limit["shadow"])
    limiter = Limiter([spec], _table=Table(max_keys=64, virtual=True))
    rule = {**rule, "cost": min(rule["cost"], spec.capacity)}
    given = {} if key is None else {"key": key}
    return Limits(limiter, Rule("api", **given, **rule), fields=fields, trusted=trusted)


@pytest.mark.parametrize("over", [over_asgi, over_wsgi, over_aiohttp, over_fastapi, over_flask])
@settings(max_examples=25)
@given(limit=limited, rule=ruled, fields=told, trusted=st.sampled_from(((), ("10.0.0.0/8",))),
       asked=requests)  # fmt: skip
def test_both_paths_do_the_same(
    loop: Any, over: Any, limit: Any, rule: Any, fields: FieldOptions, trusted: Any,
    asked: list[Asked],
) -> None:  # fmt: skip
    if over is over_fastapi:  # which refuses rules that want to see answers
        rule = {**rule, "refund_if": None}
    sides = [built(key, limit, rule, fields, trusted) for key in (None, by_the_same_address)]
    asks = [over(limits, loop) for limits in sides]
    assert sides[1].take_of_peer("10.0.0.1") is None
    now = START
    for one in asked:
        now += one[0] * NS_PER_SECOND
        for limits in sides:
            limits.limiter.bucket("api").table.set_time(now)
        straight, general = (seen_by(ask, one) for ask in asks)
        assert straight == general
        assert levels(sides[0].limiter) == levels(sides[1].limiter)


@pytest.mark.parametrize(
    ("rules", "trusted", "straight"),
    [
        (Rule("api"), (), True),
        ([Rule("api", refund_if=lambda status: status >= 500)], (), True),
        (Rule("api", cost=2), (), False),
        (Rule("api"), ("unix",), False),
        ([Rule("api"), Rule("api")], (), False),
        (Rule("api", key=by_the_same_address), (), False),
        (Rule("api", cost=lambda _: 1), (), False),
        (Rule("api", match="/**"), (), False),
        (Rule("api", exempt=lambda _: False), (), False),
        (Rule("api", floor="batch"), (), False),
        (Rule("strong"), (), False),
    ],
)
def test_the_peer_alone_decides_where_nothing_else_is_asked(
    rules: Any, trusted: Any, straight: bool
) -> None:
    strong = BucketSpec("strong", 3, 1, consistency="strong")
    limiter = Limiter([BucketSpec("api", 3, 1), strong], node="n", redis="redis://127.0.0.1:1")
    limits = Limits(limiter, rules, trusted=trusted)
    assert (limits.take_of_peer("203.0.113.9") is not None) == straight
    assert limits.take_of_peer("no address") is None
    assert limiter.keys("api") == ["203.0.113.9"] * straight
