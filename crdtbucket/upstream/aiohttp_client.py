"""A middleware for clients of aiohttp: `ClientSession(middlewares=[upstream_middleware(one)])`."""

from __future__ import annotations

from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

from crdtbucket.upstream.upstream import Upstream


def upstream_middleware(upstream: Upstream) -> ClientMiddlewareType:
    """Each request, one after a redirect too, waits for its turn; it raises `WaitTimeout` before
    anything is sent."""

    async def waiting(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        call = await upstream.wait(request)
        response = await handler(request)
        call.answered(response.status, response.headers.items())
        return response

    return waiting
