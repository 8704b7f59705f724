"""Limits on single routes of FastAPI. For a whole application: `asgi`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast

from fastapi import Depends, FastAPI, HTTPException, Response, WebSocketException
from starlette.requests import HTTPConnection
from starlette.requests import Request as StarletteRequest

from crdtbucket.errors import InvalidSpec
from crdtbucket.http.answers import ANSWERED, Answer, Verdict, answer_of
from crdtbucket.http.fields import raw_fields
from crdtbucket.http.limits import Limits, check_application, check_limits, check_route
from crdtbucket.http.middleware.asgi import POLICY_VIOLATION, ASGIRequest

P = ParamSpec("P")
R = TypeVar("R")
Dependency = Callable[[HTTPConnection, Response], Awaitable[Verdict]]
MOST_REASON = 123
"""Most bytes of the reason in the frame that closes a WebSocket (RFC 6455, section 5.5)."""
ARGUMENT = "crdtbucket_verdict"
"""The argument by which FastAPI gives a decorated route its verdict."""


class DeniedRequest(HTTPException):
    """A request was denied, is too large, or has an invalid address. `install` answers it; without
    that FastAPI does, with `detail`."""

    def __init__(self, answer: Answer, verdict: Verdict) -> None:
        reason = str(verdict.too_large or verdict.invalid or "rate limited")
        super().__init__(answer.status, reason, dict(verdict.fields))
        self.answer = answer
        self.verdict = verdict


def limit_dependency(limits: Limits) -> Dependency:
    """A dependency that asks the rules before the route and gives it the `Verdict`.

    On a denial it raises `DeniedRequest`, or for a WebSocket, which is then not accepted,
    `WebSocketException`. FastAPI's own allowed answers get the header fields; a response that the
    route makes itself has them if it copies `verdict.fields`.
    """
    check_limits(limits)
    if limits.may_refund:
        fix = "use ASGILimitMiddleware, or give back in the route: verdict.refund()"
        raise InvalidSpec("refund_if in a dependency, which sees no answer", fix, "refund_if")

    if limits.may_hold:
        fix = "use ASGILimitMiddleware, which sees the end of a request"
        raise InvalidSpec("a bucket of slots in a dependency", fix, "rules")

    async def dependency(connection: HTTPConnection, response: Response) -> Verdict:
        client = connection.scope.get("client")
        verdict = limits.take_of_peer(client[0] if client else None)
        if verdict is None:
            verdict = await limits.acquire(ASGIRequest(connection.scope, limits.trusted))
        if verdict.allowed:
            response.raw_headers.extend(raw_fields(verdict.deferred))
            return verdict
        request = ASGIRequest(connection.scope, limits.trusted)
        answer = limits.answer(request, verdict)
        if request.websocket:
            reason = str(verdict.invalid or "rate limited").encode()[:MOST_REASON]
            raise WebSocketException(POLICY_VIOLATION, reason.decode(errors="ignore"))
        raise DeniedRequest(answer, verdict)

    return dependency


def limit_route(limits: Limits) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for a route, below the one of FastAPI: `limit_dependency` for this route alone.

    The function keeps its arguments, and can still be called without a request.
    """
    dependency = Depends(limit_dependency(limits))

    def decorate(route: Callable[P, R]) -> Callable[P, R]:
        check_route("route", route)

        def stripped(kwargs: dict[str, Any]) -> dict[str, Any]:
            kwargs.pop(ARGUMENT, None)
            return kwargs

        if inspect.iscoroutinefunction(route):

            @functools.wraps(route)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await route(*args, **stripped(kwargs))

            limited = cast("Callable[P, R]", awaiting)
        else:

            @functools.wraps(route)
            def limited(*args: P.args, **kwargs: P.kwargs) -> R:
                return route(*args, **stripped(kwargs))

        limited.__signature__ = _with_dependency(route, dependency)  # type: ignore[attr-defined]
        return limited

    return decorate


def _with_dependency(route: Callable[..., Any], dependency: Any) -> inspect.Signature:
    """The route's signature, which FastAPI reads, and the dependency as one more argument."""
    signature = inspect.signature(route)
    verdict = inspect.Parameter(
        ARGUMENT, inspect.Parameter.KEYWORD_ONLY, default=dependency, annotation=Verdict
    )
    given = list(signature.parameters.values())
    last = len(given) - (bool(given) and given[-1].kind is inspect.Parameter.VAR_KEYWORD)
    return signature.replace(parameters=[*given[:last], verdict, *given[last:]])


def install(app: FastAPI) -> None:
    """Answers denials by their problem document: those of `limit_dependency` and `limit_route`,
    and every `LimitExceeded`, `ReservationDenied`, `SlotDenied` and `CostExceedsCapacity` that a
    route lets through. Raises `InvalidSpec` for what is no application."""
    check_application(app, "add_exception_handler")
    for error in (DeniedRequest, *ANSWERED):
        app.add_exception_handler(error, _answer)


async def _answer(_: StarletteRequest, error: Any) -> Response:
    answer = error.answer if isinstance(error, DeniedRequest) else answer_of(error)
    return Response(answer.body, answer.status, answer.headers)
