"""Interceptors for servers of gRPC: a denied call ends with `RESOURCE_EXHAUSTED`.

Its trailing metadata says when to come back, in both ways that clients know: `RetryInfo` in the
status, and `grpc-retry-pushback-ms`, which the retries of gRPC's own clients follow.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from crdtbucket._core import Decision
from crdtbucket.base.extras import extra
from crdtbucket.errors import CostExceedsCapacity, InvalidKey
from crdtbucket.http.client_address import client_address
from crdtbucket.http.request_rules import check_callable, check_cost
from crdtbucket.limiter.bucket import Bucket, check_bucket

with extra("grpc"):
    import grpc
    import grpc.aio

STATUS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"


class RpcCall(NamedTuple):
    """A call as the functions of an interceptor see it."""

    method: str
    """The full name of the method, such as "/package.Service/Method"."""
    metadata: Mapping[str, str | bytes]
    """The metadata that the client sent, by lower-case names; of several values the last."""
    peer: str
    """The other end, such as "ipv4:203.0.113.9:5000"."""


def by_peer(call: RpcCall) -> str:
    """A call's key unless another is given: the peer's address, IPv6 by its /64. Raises
    `InvalidKey` for a peer without one, as on a Unix socket."""
    family, _, peer = unquote(call.peer).partition(":")
    if family not in ("ipv4", "ipv6"):  # of a Unix socket it is a path, which a client chooses
        raise InvalidKey(
            f"the peer {call.peer!r} has no address: pass key=, a function of the call"
        )
    return client_address(peer, None, ())


class RpcLimit:
    """The bucket, key and cost of a call: the part that both kinds of interceptors share."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        key: Callable[[RpcCall], str | bytes] = by_peer,
        cost: int | Callable[[RpcCall], int] = 1,
        exempt: Callable[[RpcCall], bool] = lambda call: False,
    ) -> None:
        """cost: tokens, or a function of the call; a call that costs more than the capacity ends
        with `INVALID_ARGUMENT`. exempt: true for calls that are not limited. An exception in one of
        the functions fails the call: none passes unlimited because of it. Raises `InvalidSpec` for
        what is no bucket or no function, and `WrongKind` for a bucket of slots."""
        check_bucket(bucket, "an interceptor")
        check_callable("key", key, "the call")
        check_cost(cost, "the call")
        check_callable("exempt", exempt, "the call")
        self._bucket = bucket
        self._key = key
        self._cost = cost
        self._exempt = exempt

    def _charge(self, method: str, context: Any) -> tuple[str | bytes, int] | None:
        """Key and cost; None for a call that is exempt."""
        call = RpcCall(method, dict([*(context.invocation_metadata() or ())]), context.peer())
        if self._exempt(call):
            return None
        cost = self._cost(call) if callable(self._cost) else self._cost
        return self._key(call), cost

    def check(self, method: str, context: grpc.ServicerContext) -> None:
        """Takes the tokens, or ends the call."""
        charge = self._charge(method, context)
        try:
            decision = None if charge is None else self._bucket.acquire_sync(*charge)
        except CostExceedsCapacity as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if decision is not None and not decision.allowed:
            message, metadata = refused(decision)
            context.set_trailing_metadata(metadata)
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)

    async def check_async(self, method: str, context: Any) -> None:
        """Takes the tokens on an event loop, or ends the call."""
        charge = self._charge(method, context)
        try:
            decision = None if charge is None else await self._bucket.acquire(*charge)
        except CostExceedsCapacity as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if decision is not None and not decision.allowed:
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            await context.abort(code, *refused(decision))


class LimitInterceptor(RpcLimit, grpc.ServerInterceptor):  # type: ignore[misc]
    """Takes tokens before each call of a server with threads: `grpc.server(pool,
    interceptors=[LimitInterceptor(bucket)])`."""

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> grpc.RpcMethodHandler | None:
        """The handler of the call, which takes the tokens first."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method

        def limited(behavior: Callable[..., Any]) -> Callable[..., Any]:
            return _blocking(self, method, behavior)

        return None if handler is None else _around(handler, limited)


class AsyncLimitInterceptor(RpcLimit, grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Takes tokens before each call of a server on an event loop:
    `grpc.aio.server(interceptors=[AsyncLimitInterceptor(bucket)])`."""

    async def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> grpc.RpcMethodHandler | None:
        """The handler of the call, which takes the tokens first."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method

        def limited(behavior: Callable[..., Any]) -> Callable[..., Any]:
            if inspect.isasyncgenfunction(behavior):
                return _streaming(self, method, behavior)
            if inspect.iscoroutinefunction(behavior):
                return _awaiting(self, method, behavior)
            return _blocking(self, method, behavior)  # it runs in a thread

        return None if handler is None else _around(handler, limited)


def refused(decision: Decision) -> tuple[str, tuple[tuple[str, str | bytes], ...]]:
    """The message and the trailing metadata of a call that was denied."""
    wait_ms = max(math.ceil(decision.retry_after * 1e3), 1)
    message = f"{decision.spec.key}: the limit is reached; retry in {wait_ms / 1e3:g} s"
    seconds, ms = divmod(wait_ms, 1_000)
    delay = _number(1, seconds) + _number(2, ms * 1_000_000)
    info = _bytes(1, RETRY_INFO) + _bytes(2, _bytes(1, delay))
    code: int = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    status = _number(1, code) + _bytes(2, message.encode()) + _bytes(3, info)
    return message, ((STATUS_KEY, status), (PUSHBACK_KEY, str(wait_ms)))


def _around(
    handler: grpc.RpcMethodHandler, limited: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> grpc.RpcMethodHandler:
    """The same handler with another behaviour."""
    asks = "stream" if handler.request_streaming else "unary"
    kind = f"{asks}_{'stream' if handler.response_streaming else 'unary'}"
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    behavior = limited(getattr(handler, kind))
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def _blocking(
    limit: RpcLimit, method: str, behavior: Callable[..., Any]
) -> Callable[[Any, Any], Any]:
    def answer(request: Any, context: Any) -> Any:
        limit.check(method, context)
        return behavior(request, context)

    return answer


def _awaiting(
    limit: RpcLimit, method: str, behavior: Callable[..., Any]
) -> Callable[[Any, Any], Any]:
    async def answer(request: Any, context: Any) -> Any:
        await limit.check_async(method, context)
        return await behavior(request, context)

    return answer


def _streaming(
    limit: RpcLimit, method: str, behavior: Callable[..., Any]
) -> Callable[[Any, Any], Any]:
    async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
        await limit.check_async(method, context)
        async for one in behavior(request, context):
            yield one

    return answer


# A status of google.rpc by hand: four fields, and no package of their classes.


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
