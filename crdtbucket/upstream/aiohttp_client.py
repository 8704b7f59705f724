"""A middleware for clients of aiohttp: `ClientSession(middlewares=[upstream_middleware(one)])`."""

from __future__ import annotations

import asyncio

from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

from crdtbucket.errors import WaitTimeout
from crdtbucket.upstream.upstream import Upstream, check_upstream


class _AsyncioTimeout(WaitTimeout, asyncio.TimeoutError):
    """A `WaitTimeout` that aiohttp passes on to the caller in Python 3.10, too.

    There `asyncio.TimeoutError` is not the built-in `TimeoutError`, and aiohttp turns any other
    `OSError` of a middleware into a `ClientOSError`.
    """


def upstream_middleware(upstream: Upstream) -> ClientMiddlewareType:
    """Each request, one after a redirect too, waits for its turn; it raises `WaitTimeout` before
    anything is sent. Raises `InvalidSpec` for what is no `Upstream`."""
    check_upstream(upstream)

    async def waiting(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        try:
            call = await upstream.wait(request)
        except WaitTimeout as error:
            raise _AsyncioTimeout(str(error), error.decision) from None
        response = await handler(request)
        call.answered(response.status, response.headers.items())
        return response

    return waiting
