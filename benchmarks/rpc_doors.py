"""Doors of gRPC and of proxies: a server and its client are in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from benchmarks.door_calls import NAME, awaited, bucket, limiter
from benchmarks.peers import PLENTY
from benchmarks.surfaces import ADDRESSES, Loop, NullWriter, Run, timed
from crdtbucket import Limiter

SERVICE, METHOD = "bench.Echo", "Say"
ENVOY = f"""\
services: {{{NAME}: {{bucket: {{capacity: {PLENTY}, refill_rate: 1000000}}}}}}
envoy: {{descriptors: [{{domain: edge, entries: [user], bucket: {NAME}}}]}}
"""


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
    try:
        address = f"127.0.0.1:{loop.run_until_complete(begin())}"
        with rpc_client(loop, address, f"/{SERVICE}/{METHOD}", [b"hello"]) as run:
            yield run
    finally:
        loop.run_until_complete(server.stop(None))


@contextmanager
def rpc_client(loop: Loop, address: str, method: str, requests: list[bytes]) -> Iterator[Run]:
    """Calls of a server at an address, by a client on the same event loop."""
    import grpc.aio

    async def made() -> Any:
        return grpc.aio.insecure_channel(address)

    channel = loop.run_until_complete(made())
    try:
        yield awaited(loop, channel.unary_unary(method), requests)
    finally:
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
    from crdtbucket.http.server.siblings import Siblings

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
        api = Api(Limiter.from_file(file), settings, Siblings())
        service = EnvoyService(api.descriptors, api.quotas, api.tokens, settings, shared=False)
        service.bind()
        await service.start()
        return service, service.name.removeprefix("grpc://")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "limits.yaml"
        file.write_text(ENVOY)
        server, address = loop.run_until_complete(begin_ours(file) if limited else begin_bare())
        path = f"/{messages.SERVICE}/{messages.METHOD}"
        try:
            with rpc_client(loop, address, path, [question(one) for one in ADDRESSES]) as run:
                yield run
        finally:
            loop.run_until_complete(server.stop(0))


def forward_auth(loop: Loop, *, limited: bool) -> Run:
    """A proxy's question: a handler that answers 204, and ours."""
    from aiohttp import web
    from aiohttp.test_utils import make_mocked_request

    from crdtbucket.http.server.forward_auth import FORWARD_AUTH, ForwardAuth
    from crdtbucket.http.server.serve_settings import ServeSettings

    async def nothing(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=204)

    transport = SimpleNamespace(is_closing=lambda: False, write=lambda _: None)
    protocol = mock.Mock(writing_paused=False)
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
            loop=loop, writer=NullWriter(), protocol=protocol, transport=transport,
        )
        for address in ADDRESSES[:100]  # it takes ms to make one
    ]  # fmt: skip
    return awaited(loop, each, made)
