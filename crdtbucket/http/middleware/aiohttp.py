"""Middleware for aiohttp servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from crdtbucket.http.limits import Limits, Verdict
from crdtbucket.http.request import Request
from crdtbucket.limiter.facade import Limiter

_NAME = "crdtbucket.verdict"
# aiohttp before 3.14 has plain names only.
KEY: Any = web.RequestKey(_NAME, Verdict) if hasattr(web, "RequestKey") else _NAME
"""Under this key the request holds the `Verdict`: `request[KEY]`."""


def setup(app: web.Application, limits: Limits, *, open_limiter: bool = True) -> None:
    """Limits all requests of an application, those of its sub-applications too.

    open_limiter: opens the limiter when the application starts, and closes it when it ends.
    """
    if open_limiter:
        app.cleanup_ctx.append(limiter_context(limits.limiter))
    app.middlewares.append(limit_middleware(limits))
    app.on_response_prepare.append(_tell)


def limiter_context(limiter: Limiter) -> Callable[[web.Application], AsyncIterator[None]]:
    """A cleanup context that opens a limiter, before what is in `cleanup_ctx` after it."""

    async def context(_: web.Application) -> AsyncIterator[None]:
        async with limiter:
            yield

    return context


def limit_middleware(limits: Limits) -> Middleware:
    """Asks the rules before the handler; a denied request does not reach it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen = request_of(request, limits)
        verdict = await limits.acquire(seen)
        if not verdict.allowed:
            answer = limits.answer(seen, verdict)
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        request[KEY] = verdict
        try:
            response = await handler(request)
        except web.HTTPException as answered:
            verdict.ended(answered.status)
            raise
        except Exception:
            verdict.ended(500)
            raise
        verdict.ended(response.status)
        return response

    return middleware


def request_of(native: web.Request, limits: Limits) -> Request:
    """The request of an aiohttp request."""
    return Request(
        native,
        method=native.method,
        path=native.path,
        peer=native.remote,
        headers=lambda name: native.headers.getall(name, []),
        trusted=limits.trusted,
        websocket=native.headers.get("Upgrade", "").lower() == "websocket",
    )


async def _tell(native: web.Request, response: web.StreamResponse) -> None:
    # Here and not in the middleware: a stream's head is sent before its handler returns.
    verdict: Verdict | None = native.get(KEY)
    if verdict is not None:
        for name, value in verdict.fields.items():
            response.headers.add(name, value)


__all__ = ["KEY", "limit_middleware", "limiter_context", "request_of", "setup"]
