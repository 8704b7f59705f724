"""A real server and client of gRPC: the answer to a denied call says when to come back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from crdtbucket import Bucket, BucketSpec, InvalidKey, InvalidSpec, Limiter
from crdtbucket.integrations.grpc import AsyncLimitInterceptor, LimitInterceptor, RpcCall, by_peer

SERVICE = "test.Echo"


def bucket() -> Bucket:
    spec = BucketSpec("rpc", capacity=2, refill_rate=1, refill_interval="1h")
    return Limiter([spec]).bucket("rpc")


def by_tenant(call: RpcCall) -> str:
    return str(call.metadata["tenant"])


def handler(unary: Any, stream: Any) -> grpc.GenericRpcHandler:
    methods = {
        "Say": grpc.unary_unary_rpc_method_handler(unary),
        "Repeat": grpc.stream_stream_rpc_method_handler(stream),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def say(request: bytes, context: Any) -> bytes:
    return request


def repeat(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from requests


async def say_async(request: bytes, context: Any) -> bytes:
    return request


async def repeat_async(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for one in requests:
        yield one


def check_refusal(error: Any) -> None:
    """A denial says when to come back in two ways, for two kinds of clients."""
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the limit is reached; retry in" in error.details()
    metadata = dict([*error.trailing_metadata()])
    assert 3_000_000 < int(metadata["grpc-retry-pushback-ms"]) <= 3_600_000
    status = Status.FromString(metadata["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = RetryInfo()
    assert [detail.Unpack(info) for detail in status.details] == [True]
    told_ms = info.retry_delay.ToMilliseconds()
    assert told_ms == int(metadata["grpc-retry-pushback-ms"])


def check_too_large(error: Any) -> None:
    """A call that could never pass is no denial: it is not to be repeated."""
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "cost 3 is above the capacity of 2 of bucket " in error.details()
    assert "grpc-retry-pushback-ms" not in dict([*error.trailing_metadata()])


@pytest.mark.parametrize(
    "peer",
    ["unix:", "unix:10.0.0.1", "unix:/run/10.0.0.1:80", "unix-abstract:10.0.0.1", "10.0.0.1"],
)
def test_the_path_of_a_unix_socket_is_no_address(peer: str) -> None:
    """A client binds its end to any path."""
    with pytest.raises(InvalidKey, match="has no address: pass key=") as raised:
        by_peer(RpcCall("/test.Echo/Say", {}, peer))
    assert repr(peer) in str(raised.value)


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("ipv4:198.51.100.1:4711", "198.51.100.1"),
        ("ipv6:[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:4711", "2001:db8:1:2::/64"),
    ],
)
def test_a_call_counts_for_the_address_of_its_peer(peer: str, key: str) -> None:
    assert by_peer(RpcCall("/test.Echo/Say", {}, peer)) == key


def test_a_server_of_threads() -> None:
    limit = LimitInterceptor(
        bucket(),
        cost=lambda call: 3 if "large" in call.metadata else 1 + call.method.endswith("/Repeat"),
        exempt=lambda call: "free" in call.metadata,
    )
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, interceptors=[limit])
        server.add_generic_rpc_handlers((handler(say, repeat),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                speak = channel.unary_unary(f"/{SERVICE}/Say")
                stream = channel.stream_stream(f"/{SERVICE}/Repeat")
                assert speak(b"one", timeout=60, metadata=[("free", "yes")]) == b"one"
                with pytest.raises(grpc.RpcError) as told:
                    speak(b"one", timeout=60, metadata=[("large", "yes")])
                check_too_large(told.value)
                assert list(stream(iter([b"a", b"b"]), timeout=60)) == [b"a", b"b"]
                with pytest.raises(grpc.RpcError) as told:
                    speak(b"two", timeout=60)
                check_refusal(told.value)
                with pytest.raises(grpc.RpcError):
                    list(stream(iter([b"a"]), timeout=60))
                with pytest.raises(grpc.RpcError) as told:
                    channel.unary_unary(f"/{SERVICE}/None")(b"", timeout=60)
                assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
        finally:
            server.stop(None).wait()


async def test_a_server_on_an_event_loop() -> None:
    limit = AsyncLimitInterceptor(
        bucket(), key=by_tenant, cost=lambda call: 3 if "large" in call.metadata else 1
    )
    server = grpc.aio.server(interceptors=[limit])
    server.add_generic_rpc_handlers((handler(say_async, repeat_async),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            speak = channel.unary_unary(f"/{SERVICE}/Say")
            stream = channel.stream_stream(f"/{SERVICE}/Repeat")
            tenant = grpc.aio.Metadata(("tenant", "acme"))
            large = grpc.aio.Metadata(("tenant", "acme"), ("large", "yes"))
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await speak(b"one", timeout=60, metadata=large)
            check_too_large(told.value)
            assert await speak(b"one", timeout=60, metadata=tenant) == b"one"
            answers = stream(iter([b"a", b"b"]), timeout=60, metadata=tenant)
            assert [one async for one in answers] == [b"a", b"b"]
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await speak(b"two", timeout=60, metadata=tenant)
            check_refusal(told.value)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await stream(iter([b"a"]), timeout=60, metadata=tenant).read()
            check_refusal(told.value)
            other = grpc.aio.Metadata(("tenant", "other"))
            assert await speak(b"three", timeout=60, metadata=other) == b"three"
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await speak(b"four", timeout=60)  # the key function fails, so the call does
            assert told.value.code() is grpc.StatusCode.UNKNOWN
    finally:
        await server.stop(None)


async def test_plain_functions_on_an_event_loop_run_in_threads() -> None:
    server = grpc.aio.server(interceptors=[AsyncLimitInterceptor(bucket())])
    server.add_generic_rpc_handlers((handler(say, repeat),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            speak = channel.unary_unary(f"/{SERVICE}/Say")
            assert [await speak(b"one", timeout=60) for _ in range(2)] == [b"one"] * 2
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await speak(b"two", timeout=60)
            check_refusal(told.value)
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("field", "wrong"), [("key", "tenant"), ("cost", "3"), ("cost", 0), ("exempt", True)]
)
def test_what_is_no_function_of_a_call_is_refused_before_the_first_one(
    field: str, wrong: Any
) -> None:
    with pytest.raises(InvalidSpec, match=f"^{field} is ") as error:
        LimitInterceptor(bucket(), **{field: wrong})
    assert error.value.field == field


def test_what_is_no_bucket_is_refused_before_the_first_call() -> None:
    for wrong in ("api", Limiter([BucketSpec("api", 1, 1)])):
        with pytest.raises(InvalidSpec, match="bucket of an interceptor is"):
            LimitInterceptor(wrong)  # type: ignore[arg-type]
