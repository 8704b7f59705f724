"""Benchmarks of the integrations for gRPC and for proxies; server and client are in this
process."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from benchmarks.integration_calls import NAME, awaited, bucket, limiter
from benchmarks.peers import PLENTY
from benchmarks.surfaces import ADDRESSES, Loop, NullWriter, Run, spent, timed
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
    """The method of the server on an event loop."""
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
    """Questions of Envoy about one user: to a server that answers a constant, and to ours."""
    import grpc

    from crdtbucket.http.server.envoy_messages import CLASSES, METHOD, SERVICE

    def question(address: str) -> bytes:
        entries = [{"key": b"user", "value": address.encode()}]
        asked = CLASSES["RateLimitRequest"](domain=b"edge", descriptors=[{"entries": entries}])
        return bytes(asked.SerializeToString())

    bare = None if limited else grpc.unary_unary_rpc_method_handler(say_async)
    with envoy_server(loop, SERVICE, METHOD, bare) as address:
        questions = [question(one) for one in ADDRESSES]
        with rpc_client(loop, address, f"/{SERVICE}/{METHOD}", questions) as run:
            yield run


@contextmanager
def envoy_quotas(loop: Loop, *, limited: bool) -> Iterator[Run]:
    """Reports of Envoy about a new user, on a stream: to a server that sends them back, and to
    ours, which assigns tokens."""
    import grpc
    import grpc.aio

    from crdtbucket.http.server.quota_messages import QUOTA_CLASSES, QUOTA_METHOD, QUOTA_SERVICE

    async def echo(reports: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for one in reports:
            yield one

    numbers = itertools.count()

    def report() -> bytes:
        entries = [{"key": b"user", "value": b"user-%d" % next(numbers)}]
        usage = {"bucket_id": {"bucket": entries}, "num_requests_allowed": 1}
        reports = QUOTA_CLASSES["RateLimitQuotaUsageReports"]
        return bytes(reports(domain=b"edge", bucket_quota_usages=[usage]).SerializeToString())

    async def all_of(address: str, calls: int) -> float:
        async with grpc.aio.insecure_channel(address) as channel:
            stream = channel.stream_stream(f"/{QUOTA_SERVICE}/{QUOTA_METHOD}")()

            async def each(_: None) -> None:
                await stream.write(report())
                if await stream.read() is grpc.aio.EOF:
                    raise AssertionError("the stream has ended")

            took = await spent(each, [None], calls)
            stream.cancel()
            return took

    bare = None if limited else grpc.stream_stream_rpc_method_handler(echo)
    with envoy_server(loop, QUOTA_SERVICE, QUOTA_METHOD, bare) as address:
        yield lambda calls: loop.run_until_complete(all_of(address, calls))


@contextmanager
def envoy_server(loop: Loop, service: str, method: str, bare: Any) -> Iterator[str]:
    """The address of our server for Envoy, or of one that has the `bare` method alone."""
    import grpc
    import grpc.aio

    from crdtbucket.http.server.app import Api
    from crdtbucket.http.server.envoy_service import EnvoyService
    from crdtbucket.http.server.serve_settings import ServeSettings
    from crdtbucket.http.server.siblings import Siblings

    async def begin_bare() -> tuple[Any, str]:
        server = grpc.aio.server()
        handler = grpc.method_handlers_generic_handler(service, {method: bare})
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, f"127.0.0.1:{port}"

    async def begin_ours(file: Path) -> tuple[Any, str]:
        settings = ServeSettings(grpc="127.0.0.1:0")
        api = Api(Limiter.from_file(file), settings, Siblings())
        ours = EnvoyService(api.descriptors, api.quotas, api.tokens, settings, shared=False)
        ours.bind()
        await ours.start()
        return ours, ours.name.removeprefix("grpc://")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "limits.yaml"
        file.write_text(ENVOY)
        begun = begin_ours(file) if bare is None else begin_bare()
        server, address = loop.run_until_complete(begun)
        try:
            yield address
        finally:
            loop.run_until_complete(server.stop(0))


def forward_auth(loop: Loop, *, limited: bool) -> Run:
    """Questions of a proxy: to a handler that answers 204, and to ours."""
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
