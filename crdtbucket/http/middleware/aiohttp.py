"""Middleware for aiohttp servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from crdtbucket.errors import InvalidSpec
from crdtbucket.http.answers import ANSWERED, Verdict, answer_of
from crdtbucket.http.fields import field_pairs
from crdtbucket.http.limits import Limits, check_limits
from crdtbucket.http.request import Request
from crdtbucket.limiter.facade import Limiter
from crdtbucket.limiter.multi import check_limiter
from crdtbucket.spec.field_checks import check_flag

KEY = web.RequestKey("crdtbucket.verdict", Verdict)
"""Under this key the request holds the `Verdict`: `request[KEY]`."""


def setup(app: web.Application, limits: Limits, *, open_limiter: bool = True) -> None:
    """Limits all requests of an application, those of its sub-applications too.

    open_limiter: opens the limiter when the application starts, and closes it when it ends.
    """
    check_limits(limits)
    _check_application(app)
    check_flag("open_limiter", open_limiter)
    if open_limiter:
        app.cleanup_ctx.append(limiter_context(limits.limiter))
    app.middlewares.append(limit_middleware(limits))
    app.on_response_prepare.append(_add_fields)


def install(app: web.Application) -> None:
    """Answers every `LimitExceeded`, `ReservationDenied`, `SlotDenied` and `CostExceedsCapacity`
    that a handler lets through by a problem document. After `setup`, so that rules with
    `refund_if` see its status."""
    _check_application(app)
    app.middlewares.append(_answer_denials)


@web.middleware
async def _answer_denials(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ANSWERED as error:
        if request.writer.output_size:
            raise  # another answer is under way
        answer = answer_of(error)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


def limiter_context(limiter: Limiter) -> Callable[[web.Application], AsyncIterator[None]]:
    """A cleanup context that opens a limiter, before what is in `cleanup_ctx` after it. Raises
    `InvalidSpec` for what is no limiter."""
    check_limiter(limiter, "limiter_context(limiter)")

    async def context(_: web.Application) -> AsyncIterator[None]:
        async with limiter:
            yield

    return context


def limit_middleware(limits: Limits) -> Middleware:
    """Asks the rules before the handler; a denied request does not reach it."""

    check_limits(limits)
    watched = limits.may_refund or limits.may_hold

    # No coroutine of its own: what is admitted at once goes on as the handler's.
    @web.middleware
    def middleware(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        verdict = limits.take_of_peer(request.remote)
        if verdict is None or not verdict.allowed or watched:
            return _answered(limits, request, handler, verdict)
        request[KEY] = verdict
        return handler(request)

    return middleware


async def _answered(
    limits: Limits, request: web.Request, handler: Handler, verdict: Verdict | None
) -> web.StreamResponse:
    """The answer of the handler, or of the limits. `verdict`: None where there is none yet."""
    if verdict is None:
        verdict = await limits.acquire(AiohttpRequest(request, limits.trusted))
    if not verdict.allowed:
        answer = limits.answer(AiohttpRequest(request, limits.trusted), verdict)
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
    else:
        verdict.ended(response.status)
        return response
    finally:
        verdict.release()


def _check_application(app: object) -> None:
    if not isinstance(app, web.Application):
        raise InvalidSpec(f"app is {app!r}", "pass the web.Application first", "app")


class AiohttpRequest(Request):
    """The request of an aiohttp request."""

    __slots__ = ()

    native: web.Request

    @property
    def method(self) -> str:
        """The method of the request, in capitals."""
        return self.native.method

    @property
    def path(self) -> str:
        """The decoded path of the request, from the server's root. An encoded slash stays %2F: in
        aiohttp's routes it belongs to its segment."""
        return self.native.rel_url.path_safe.replace("%25", "%")

    @property
    def peer(self) -> str | None:
        """The address of the other end of the connection; None when the server knows none."""
        return self.native.remote

    @property
    def websocket(self) -> bool:
        """Whether the request opens a WebSocket."""
        return self.native.headers.get("Upgrade", "").lower() == "websocket"

    def _values(self, name: str) -> Sequence[str]:
        return self.native.headers.getall(name, [])


async def _add_fields(native: web.Request, response: web.StreamResponse) -> None:
    # Here and not in the middleware: a stream's head is sent before its handler returns.
    try:
        verdict = native[KEY]
    except KeyError:
        return
    if verdict.deferred:
        response.headers.extend(field_pairs(verdict.deferred))
