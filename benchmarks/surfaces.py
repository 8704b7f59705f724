"""What does a limit add to a request in a web framework, and what do others add? Then the calls
that are built on a take."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

from benchmarks import calls
from benchmarks.measure import Case, Comparison, Scale, failure
from benchmarks.peers import PLENTY
from crdtbucket import BucketSpec, Limiter
from crdtbucket.http import FieldOptions, Limits, Rule

QUESTION = "what does a limit add to a request in a web framework, and to a call of a function?"
ADDRESSES = [f"10.0.{n >> 8}.{n & 255}" for n in range(1_000)]
RATE = f"{PLENTY}/day"
EMPTY = "a middleware that decides nothing, and adds two fields"
"""The label of the least that a limit can add: what the framework takes for any such middleware."""
PAIRS = (("RateLimit-Policy", '"bench";q=9;w=9'), ("RateLimit", '"bench";r=9;t=9'))
SILENT = FieldOptions(on_allowed=False)
UNITS = ("us a request", "us added")
TURNS = 20
"""The number of turns in a repeat."""
NOTE = (
    "CPU time; the first row is the framework alone; one rule by address, 1,000 "
    "addresses in turn, every request allowed, a route that answers two bytes"
)
Loop = asyncio.AbstractEventLoop
Run = Callable[[int], float]
"""Returns the us of CPU time for each of so many requests."""


def limits(**options: Any) -> Limits:
    """One rule by the client's address."""
    limiter = Limiter([BucketSpec("bench", PLENTY, 1_000_000)])
    return Limits(limiter, Rule("bench"), **options)


def timed(requests: int, each: Callable[[Any], object], items: list[Any]) -> float:
    """Us of CPU time for a call of `each`; a tenth as many calls before are not counted."""
    for n in range(requests // 10):
        each(items[n % len(items)])
    start = time.process_time_ns()
    for n in range(requests):
        each(items[n % len(items)])
    return (time.process_time_ns() - start) / requests / 1e3


async def spent(call: Callable[[Any], Awaitable[object]], items: list[Any], calls: int) -> float:
    """Does as `timed`, for a coroutine function."""
    for n in range(calls // 10):
        await call(items[n % len(items)])
    start = time.process_time_ns()
    for n in range(calls):
        await call(items[n % len(items)])
    return (time.process_time_ns() - start) / calls / 1e3


def in_turns(bare: Run, limited: Run, requests: int) -> tuple[float, float, float]:
    """What both take, and how much more `limited` takes than `bare` right before and after it: the
    medians of short turns, of which a machine that slows down for a while spoils a few."""
    turn = max(1, requests // TURNS)
    without, taken, more = [bare(turn)], [], []
    for _ in range(TURNS):
        taken.append(limited(turn))
        without.append(bare(turn))
        more.append(taken[-1] - sum(without[-2:]) / 2)
    return median(without), median(taken), median(more)


def added(bare: Run, limited: Run, requests: int) -> tuple[float, float]:
    """What `limited` takes, and how much more that is than `bare`."""
    return in_turns(bare, limited, requests)[1:]


def compared(
    framework: str,
    requests: int,
    bare: Run,
    ways: dict[str, Callable[[], Run]],
) -> Comparison:
    """The framework alone, and what each way to limit adds to it."""
    cases = [Case(framework, lambda: (bare(requests), 0.0))]
    missing = []
    for name, make in ways.items():
        ours = name.startswith("crdtbucket")
        try:
            run = make()
            run(1)
        except Exception as error:
            if ours:
                raise
            missing.append((name, failure(error)))
            continue
        cases.append(Case(name, partial(added, bare, run, requests), peer=not ours))
    return Comparison(framework, UNITS, cases, missing, note=NOTE)


# -- ASGI

SCOPE: dict[str, Any] = {
    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
    "scheme": "http", "path": "/", "raw_path": b"/", "root_path": "", "query_string": b"",
    "headers": [(b"host", b"service")], "server": ("127.0.0.1", 80),
}  # fmt: skip
SCOPES = [{**SCOPE, "client": (address, 4711)} for address in ADDRESSES]


def asgi(app: Callable[..., Awaitable[None]], loop: Loop) -> Run:
    """Requests through an ASGI application."""
    statuses: set[int] = set()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    def each(scope: dict[str, Any]) -> Awaitable[None]:
        return app(dict(scope), receive, send)

    def run(requests: int) -> float:
        taken = loop.run_until_complete(spent(each, SCOPES, requests))
        if statuses != {200}:
            raise AssertionError(f"answers of status {statuses}")
        return taken

    return run


def starlette() -> Any:
    """An application of one route."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def home(_: Any) -> PlainTextResponse:
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/", home)])


def ours_asgi(app: Any, loop: Loop, **options: Any) -> Run:
    """Our middleware around an application."""
    from crdtbucket.http.middleware.asgi import ASGILimitMiddleware

    return asgi(ASGILimitMiddleware(app, limits(**options)), loop)


def empty_asgi(app: Any, loop: Loop) -> Run:
    """A middleware that marks the request and adds two fields to the answer."""
    fields = [(name.lower().encode(), value.encode()) for name, value in PAIRS]

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        def sending(message: Any) -> Any:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *fields]}
            return send(message)

        scope["crdtbucket"] = None
        await app(scope, receive, sending)

    return asgi(middleware, loop)


def slowapi(loop: Loop) -> Run:
    """The ASGI middleware of slowapi, with a default limit and header fields."""
    from slowapi import Limiter as Slow
    from slowapi.middleware import SlowAPIASGIMiddleware
    from slowapi.util import get_remote_address

    app = starlette()
    app.state.limiter = Slow(get_remote_address, default_limits=[RATE], headers_enabled=True)
    app.add_middleware(SlowAPIASGIMiddleware)
    return asgi(app, loop)


def by_hand(loop: Loop) -> Run:
    """The library `limits` in the shortest middleware, without header fields."""
    from limits import parse
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    app, item, strategy = starlette(), parse(RATE), FixedWindowRateLimiter(MemoryStorage())

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        if not strategy.hit(item, scope["client"][0]):
            raise AssertionError("denied")
        await app(scope, receive, send)

    return asgi(middleware, loop)


def fastapi(*dependencies: Any) -> Any:
    """An application of one route with dependencies."""
    from fastapi import Depends, FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI()

    @app.get("/", dependencies=[Depends(one) for one in dependencies])
    async def home() -> PlainTextResponse:
        return PlainTextResponse("ok")

    return app


def ours_fastapi(loop: Loop) -> Run:
    """Our dependency for FastAPI."""
    from crdtbucket.http.middleware.fastapi import limit_dependency

    return asgi(fastapi(limit_dependency(limits())), loop)


def empty_fastapi(loop: Loop) -> Run:
    """A dependency that decides nothing, and adds two fields to the answer."""
    from fastapi import Response

    async def dependency(response: Response) -> None:
        response.headers.update(dict(PAIRS))

    dependency.__annotations__["response"] = Response  # FastAPI looks for a name of the module
    return asgi(fastapi(dependency), loop)


def fastapi_limiter(loop: Loop) -> Run:
    """The dependency of fastapi-limiter, over pyrate-limiter in memory."""
    from fastapi_limiter.depends import RateLimiter
    from pyrate_limiter import Duration, InMemoryBucket, Rate
    from pyrate_limiter import Limiter as Pyrate

    limiter = Pyrate(InMemoryBucket([Rate(PLENTY, Duration.DAY)]))
    return asgi(fastapi(RateLimiter(limiter)), loop)


# -- WSGI


def wsgi(app: Callable[..., Iterable[bytes]]) -> Run:
    """Requests through a WSGI application."""
    from werkzeug.test import create_environ

    environ = create_environ("/", "http://service")
    environs = [{**environ, "REMOTE_ADDR": address} for address in ADDRESSES]
    statuses: set[str] = set()

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        statuses.add(status)
        return lambda _: None

    def each(environ: dict[str, Any]) -> None:
        answer = app({**environ, "wsgi.input": io.BytesIO()}, start_response)
        b"".join(answer)
        getattr(answer, "close", lambda: None)()

    def run(requests: int) -> float:
        taken = timed(requests, each, environs)
        if statuses != {"200 OK"}:
            raise AssertionError(f"answers of status {statuses}")
        return taken

    return run


def flask() -> Any:
    """An application of one route."""
    from flask import Flask

    app = Flask("bench")
    app.add_url_rule("/", view_func=lambda: "ok", endpoint="home")
    return app


def ours_wsgi(app: Any) -> Run:
    """Our middleware around an application."""
    from crdtbucket.http.middleware.wsgi import WSGILimitMiddleware

    return wsgi(WSGILimitMiddleware(app, limits(), open_limiter=False))


def empty_wsgi(app: Any) -> Run:
    """A middleware that marks the request and adds two fields to the answer."""

    def middleware(environ: Any, start_response: Any) -> Any:
        def starting(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *PAIRS], exc_info)

        environ["crdtbucket.verdict"] = None
        return app(environ, starting)

    return wsgi(middleware)


def flask_limiter() -> Run:
    """The extension of Flask-Limiter, with a default limit and header fields."""
    from flask_limiter import Limiter as Extension
    from flask_limiter.util import get_remote_address

    app = flask()
    Extension(
        get_remote_address,
        app=app,
        default_limits=[RATE],
        headers_enabled=True,
        storage_uri="memory://",
    )
    return wsgi(app)


# -- aiohttp


class NullWriter:
    """Takes what a response writes."""

    length = None
    output_size = 0

    async def write_headers(self, *_: Any) -> None:
        """The head."""

    async def write(self, *_: Any) -> None:
        """A part of the body."""

    async def write_eof(self, *_: Any) -> None:
        """The end."""

    def send_headers(self) -> None:
        """The head, at once."""

    def set_eof(self) -> None:
        """There is no body."""

    def enable_chunking(self) -> None:
        """The length is not known."""


def aiohttp(loop: Loop, middleware: Callable[[Any], None] | None) -> Run:
    """Requests through an aiohttp application to which `middleware` adds one, from the request
    to its written response."""
    from aiohttp import web
    from aiohttp.test_utils import make_mocked_request

    from crdtbucket.http.middleware.aiohttp import KEY

    async def home(_: Any) -> Any:
        return web.Response(text="ok")

    async def each(request: Any) -> None:
        response = await app._handle(request)
        await response.prepare(request)
        await response.write_eof()
        if response.status != 200:
            raise AssertionError(f"an answer of status {response.status}")
        if middleware is not None:
            del request[KEY]  # a server's request ends with its answer, and this one comes again

    app = web.Application()
    app.router.add_get("/", home)
    if middleware is not None:
        middleware(app)
    app.freeze()
    made = []
    for address in ADDRESSES:
        transport = mock.Mock()
        transport.get_extra_info = {"peername": (address, 4711)}.get
        made.append(
            make_mocked_request(
                "GET", "/", app=app, loop=loop, writer=NullWriter(), transport=transport
            )
        )
    return lambda requests: loop.run_until_complete(spent(each, made, requests))


def ours_aiohttp(app: Any) -> None:
    """Our middleware."""
    from crdtbucket.http.middleware.aiohttp import setup

    setup(app, limits(), open_limiter=False)


def empty_aiohttp(app: Any) -> None:
    """A middleware that marks the request, and a signal that adds two fields to the answer."""
    from aiohttp import web

    from crdtbucket.http.middleware.aiohttp import KEY

    @web.middleware
    def middleware(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Awaitable[Any]:
        request[KEY] = None
        return handler(request)

    async def signal(_: Any, response: Any) -> None:
        response.headers.extend(PAIRS)

    app.middlewares.append(middleware)
    app.on_response_prepare.append(signal)


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields each framework, bare and limited, and calls within one process."""
    requests = scale.pick(2_000, 1_000, 20)
    with closing(asyncio.new_event_loop()) as loop:
        on_starlette = {
            "crdtbucket, middleware": lambda: ours_asgi(starlette(), loop),
            "crdtbucket, no fields on allowed answers": lambda: ours_asgi(
                starlette(), loop, fields=SILENT
            ),
            EMPTY: lambda: empty_asgi(starlette(), loop),
            "slowapi, middleware": lambda: slowapi(loop),
            "limits, by hand, no fields": lambda: by_hand(loop),
        }
        on_fastapi = {
            "crdtbucket, middleware": lambda: ours_asgi(fastapi(), loop),
            "crdtbucket, dependency": lambda: ours_fastapi(loop),
            EMPTY: lambda: empty_asgi(fastapi(), loop),
            "a dependency of this kind": lambda: empty_fastapi(loop),
            "fastapi-limiter, dependency": lambda: fastapi_limiter(loop),
        }
        on_flask = {
            "crdtbucket, middleware": lambda: ours_wsgi(flask()),
            EMPTY: lambda: empty_wsgi(flask()),
            "flask-limiter": flask_limiter,
        }
        on_aiohttp = {
            "crdtbucket, middleware": lambda: aiohttp(loop, ours_aiohttp),
            EMPTY: lambda: aiohttp(loop, empty_aiohttp),
        }
        yield compared("Starlette", requests, asgi(starlette(), loop), on_starlette)
        yield compared("FastAPI", requests, asgi(fastapi(), loop), on_fastapi)
        yield compared("Flask", requests, wsgi(flask()), on_flask)
        yield compared("aiohttp", requests, aiohttp(loop, None), on_aiohttp)
    yield from calls.comparisons(scale)
