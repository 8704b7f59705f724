"""What does a limit add to a call through the frameworks of RPC, models and clients?"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Comparison, Scale
from benchmarks.peers import PLENTY
from benchmarks.surfaces import ADDRESSES, Loop, NullWriter, Run, compared, timed
from crdtbucket import Bucket, BucketSpec, Limiter
from crdtbucket.upstream.upstream import Upstream

QUESTION = "what does a limit add to a call in a framework of RPC, models or clients?"
NAME = "bench"
OURS = "crdtbucket"
NOTE = (
    "CPU time of this process, in which both client and server are; the first row is the framework "
    "alone; every call is allowed; a client's service answers at once"
)
SERVICE, METHOD = "bench.Echo", "Say"
ENVOY = f"""\
services: {{{NAME}: {{bucket: {{capacity: {PLENTY}, refill_rate: 1000000}}}}}}
envoy: {{descriptors: [{{domain: edge, entries: [user], bucket: {NAME}}}]}}
"""
Call = Callable[[Any], Awaitable[object]]


def limiter() -> Limiter:
    """One bucket, from which every call takes."""
    return Limiter([BucketSpec(NAME, PLENTY, 1_000_000)])


def bucket() -> Bucket:
    """The bucket of a limiter of its own."""
    return limiter().bucket(NAME)


def awaited(loop: Loop, call: Call, items: list[Any]) -> Run:
    """As `timed`, for a coroutine function, in one task."""

    async def all_of(calls: int) -> float:
        for n in range(calls // 10):
            await call(items[n % len(items)])
        start = time.process_time_ns()
        for n in range(calls):
            await call(items[n % len(items)])
        return (time.process_time_ns() - start) / calls / 1e3

    return lambda calls: loop.run_until_complete(all_of(calls))


# -- Django REST framework


def rest_framework(*, limited: bool) -> Run:
    """Requests through a view, from the request to the rendered answer."""
    import django
    from django.conf import settings

    if not settings.configured:
        none = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}
        settings.configure(ALLOWED_HOSTS=["testserver"], REST_FRAMEWORK=none)
        django.setup()
    from rest_framework.renderers import JSONRenderer
    from rest_framework.response import Response
    from rest_framework.test import APIRequestFactory
    from rest_framework.views import APIView

    from crdtbucket.integrations.rest_framework import BucketThrottle

    throttle = type("Throttle", (BucketThrottle,), {"bucket": bucket()})

    class Home(APIView):
        renderer_classes = (JSONRenderer,)
        throttle_classes = (throttle,) if limited else ()

        def get(self, request: Any) -> Response:
            return Response("ok")

    ask, view = APIRequestFactory(), Home.as_view()

    def each(request: Any) -> None:
        if view(request).render().status_code != 200:
            raise AssertionError("denied")

    requests = [ask.get("/", REMOTE_ADDR=address) for address in ADDRESSES]
    return lambda calls: timed(calls, each, requests)


# -- gRPC: a server and its client in this process


def say(request: bytes, context: Any) -> bytes:
    """The method of the server."""
    return request


async def say_async(request: bytes, context: Any) -> bytes:
    """The same, on an event loop."""
    return request


def rpc_handler(method: Any) -> Any:
    """The service, with this method."""
    import grpc

    methods = {METHOD: grpc.unary_unary_rpc_method_handler(method)}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


@contextmanager
def rpc_threads(*, limited: bool) -> Iterator[Run]:
    """Calls of a server of threads."""
    import grpc

    from crdtbucket.integrations.grpc import LimitInterceptor

    interceptors = [LimitInterceptor(bucket())] if limited else []
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, interceptors=interceptors)
        server.add_generic_rpc_handlers((rpc_handler(say),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                speak = channel.unary_unary(f"/{SERVICE}/{METHOD}")
                yield lambda calls: timed(calls, speak, [b"hello"])
        finally:
            server.stop(None).wait()


@contextmanager
def rpc_loop(loop: Loop, *, limited: bool) -> Iterator[Run]:
    """Calls of a server on an event loop."""
    import grpc.aio

    from crdtbucket.integrations.grpc import AsyncLimitInterceptor

    async def begin() -> int:
        server.add_generic_rpc_handlers((rpc_handler(say_async),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return int(port)

    async def made() -> Any:
        return grpc.aio.server(interceptors=[AsyncLimitInterceptor(bucket())] if limited else [])

    server = loop.run_until_complete(made())
    address = f"127.0.0.1:{loop.run_until_complete(begin())}"
    with rpc_client(loop, address, f"/{SERVICE}/{METHOD}", [b"hello"]) as run:
        yield run
    loop.run_until_complete(server.stop(None))


@contextmanager
def rpc_client(loop: Loop, address: str, method: str, requests: list[bytes]) -> Iterator[Run]:
    """Calls of a server at an address, by a client on the same event loop."""
    import grpc.aio

    async def made() -> Any:
        return grpc.aio.insecure_channel(address)

    channel = loop.run_until_complete(made())
    yield awaited(loop, channel.unary_unary(method), requests)
    loop.run_until_complete(channel.close())


@contextmanager
def envoy(loop: Loop, *, limited: bool) -> Iterator[Run]:
    """Envoy's question about one user: a server that answers a constant, and ours."""
    import grpc
    import grpc.aio

    from crdtbucket.http.server import envoy_messages as messages
    from crdtbucket.http.server.app import Api
    from crdtbucket.http.server.envoy_service import EnvoyService
    from crdtbucket.http.server.serve_settings import ServeSettings

    def question(address: str) -> bytes:
        entries = [{"key": b"user", "value": address.encode()}]
        asked = messages.CLASSES["RateLimitRequest"](
            domain=b"edge", descriptors=[{"entries": entries}]
        )
        return bytes(asked.SerializeToString())

    async def begin_bare() -> tuple[Any, str]:
        server = grpc.aio.server()
        methods = {messages.METHOD: grpc.unary_unary_rpc_method_handler(say_async)}
        handler = grpc.method_handlers_generic_handler(messages.SERVICE, methods)
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, f"127.0.0.1:{port}"

    async def begin_ours(file: Path) -> tuple[Any, str]:
        settings = ServeSettings(grpc="127.0.0.1:0")
        api = Api(Limiter.from_file(file), settings)
        service = EnvoyService(api.descriptors, api.tokens, settings, shared=False)
        service.bind()
        await service.start()
        return service, service.name.removeprefix("grpc://")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "limits.yaml"
        file.write_text(ENVOY)
        server, address = loop.run_until_complete(begin_ours(file) if limited else begin_bare())
        path = f"/{messages.SERVICE}/{messages.METHOD}"
        with rpc_client(loop, address, path, [question(one) for one in ADDRESSES]) as run:
            yield run
        loop.run_until_complete(server.stop(0))


# -- forward auth


def forward_auth(loop: Loop, *, limited: bool) -> Run:
    """A proxy's question: a handler that answers 204, and ours."""
    from aiohttp import web
    from aiohttp.test_utils import make_mocked_request

    from crdtbucket.http.server.forward_auth import FORWARD_AUTH, ForwardAuth
    from crdtbucket.http.server.serve_settings import ServeSettings

    async def nothing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=204)

    answers = ForwardAuth(limiter(), ServeSettings(), lambda *_: None).decide

    async def each(request: Any) -> None:
        response = await (answers if limited else nothing)(request)
        await response.prepare(request)
        await response.write_eof()
        if response.status != 204:
            raise AssertionError(f"an answer of status {response.status}")

    made = [
        make_mocked_request(
            "GET", f"{FORWARD_AUTH}?bucket={NAME}", headers={"X-Forwarded-For": address},
            loop=loop, writer=NullWriter(),
        )
        for address in ADDRESSES[:100]  # it takes ms to make one
    ]  # fmt: skip
    return awaited(loop, each, made)


# -- clients, whose service answers at once


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
    """The same on an event loop."""
    import httpx

    from crdtbucket.upstream.httpx_transport import AsyncUpstreamTransport

    inner = httpx.MockTransport(lambda _: httpx.Response(200))
    transport: Any = AsyncUpstreamTransport(inner, upstream()) if limited else inner
    client = httpx.AsyncClient(transport=transport, base_url="http://api.test")
    return awaited(loop, client.get, ["/"])


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
        """Is sent by `Answers`."""

    session = requests.Session()
    session.mount("http://", Limited(upstream()) if limited else Answers())
    return lambda calls: timed(calls, session.get, ["http://api.test/"])


# -- models


def langchain(*, limited: bool) -> Run:
    """Calls of a chat model that answers a constant."""
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    from crdtbucket.integrations.langchain import BucketRateLimiter

    rate_limiter = BucketRateLimiter(bucket()) if limited else None
    model = GenericFakeChatModel(messages=itertools.repeat("ok"), rate_limiter=rate_limiter)
    return lambda calls: timed(calls, model.invoke, ["go"])


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Each framework, bare and limited."""
    calls = scale.pick(2_000, 500, 10)
    with closing(asyncio.new_event_loop()) as loop, ExitStack() as servers:
        doors: dict[str, Callable[..., Any]] = {
            "Django REST framework": rest_framework,
            "gRPC, threads": rpc_threads,
            "gRPC, event loop": partial(rpc_loop, loop),
            "Envoy's rate limit service": partial(envoy, loop),
            "forward auth": partial(forward_auth, loop),
            "httpx": httpx_client,
            "httpx, event loop": partial(httpx_async_client, loop),
            "requests": requests_client,
            "LangChain": langchain,
        }
        for name, door in doors.items():
            bare, limited = (
                servers.enter_context(made) if isinstance(made, AbstractContextManager) else made
                for made in (door(limited=False), door(limited=True))
            )
            yield compared(name, calls, bare, {OURS: lambda limited=limited: limited}, NOTE)
