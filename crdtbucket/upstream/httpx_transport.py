"""Transports for httpx2 and httpx: each request waits for its turn.

    httpx2.AsyncClient(transport=AsyncUpstreamTransport(httpx2.AsyncHTTPTransport(), upstream))

They import neither package, because a client asks of a transport only for these methods.
"""

from __future__ import annotations

from typing import Any

from crdtbucket.errors import InvalidSpec
from crdtbucket.upstream.upstream import Upstream, check_upstream


class UpstreamTransport:
    """A transport for `Client` that waits for tokens, and then sends by another transport."""

    def __init__(self, transport: Any, upstream: Upstream) -> None:
        """transport: what sends the requests, such as `httpx2.HTTPTransport()`."""
        _check(transport, "handle_request", upstream)
        self._transport = transport
        self._upstream = upstream

    def handle_request(self, request: Any) -> Any:
        """The answer. Raises `WaitTimeout` before anything is sent."""
        call = self._upstream.wait_sync(request)
        response = self._transport.handle_request(request)
        call.answered(response.status_code, response.headers.multi_items())
        return response

    def close(self) -> None:
        """Closes the transport within."""
        self._transport.close()

    def __enter__(self) -> UpstreamTransport:
        self._transport.__enter__()
        return self

    def __exit__(self, *ended: Any) -> None:
        self._transport.__exit__(*ended)


class AsyncUpstreamTransport:
    """A transport for `AsyncClient` that waits for tokens, and then sends by another transport."""

    def __init__(self, transport: Any, upstream: Upstream) -> None:
        """transport: what sends the requests, such as `httpx2.AsyncHTTPTransport()`."""
        _check(transport, "handle_async_request", upstream)
        self._transport = transport
        self._upstream = upstream

    async def handle_async_request(self, request: Any) -> Any:
        """The answer. Raises `WaitTimeout` before anything is sent."""
        call = await self._upstream.wait(request)
        response = await self._transport.handle_async_request(request)
        call.answered(response.status_code, response.headers.multi_items())
        return response

    async def aclose(self) -> None:
        """Closes the transport within."""
        await self._transport.aclose()

    async def __aenter__(self) -> AsyncUpstreamTransport:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *ended: Any) -> None:
        await self._transport.__aexit__(*ended)


def _check(transport: object, method: str, upstream: object) -> None:
    check_upstream(upstream)
    if isinstance(transport, type) or not callable(getattr(transport, method, None)):
        fix = f"pass a transport, which has {method}()"
        raise InvalidSpec(f"transport is {transport!r}", fix, "transport")
