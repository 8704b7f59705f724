"""A dependency for FastAPI, for limits on single routes. For a whole application: `asgi`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, HTTPException, Response, WebSocketException
from starlette.requests import HTTPConnection
from starlette.requests import Request as StarletteRequest

from crdtbucket.errors import InvalidSpec
from crdtbucket.http.limits import Answer, Limits, Verdict
from crdtbucket.http.middleware.asgi import POLICY_VIOLATION, request_of

Dependency = Callable[[HTTPConnection, Response], Awaitable[Verdict]]


class Denied(HTTPException):
    """A request was denied. `install` answers it; else FastAPI does, with `detail`."""

    def __init__(self, answer: Answer, verdict: Verdict) -> None:
        super().__init__(answer.status, "rate limited", dict(verdict.fields))
        self.answer = answer
        self.verdict = verdict


def limit_dependency(limits: Limits) -> Dependency:
    """A dependency that asks the rules before the route and gives it the `Verdict`.

    Denied, it raises `Denied`; for a WebSocket, which it keeps from being accepted,
    `WebSocketException`. Header fields go with the allowed answers that FastAPI makes; a response
    that the route makes itself has them when it copies `verdict.fields`.
    """
    if limits.may_refund:
        fix = "use LimitMiddleware, or give back in the route: verdict.refund()"
        raise InvalidSpec("refund_if in a dependency, which sees no answer", fix, "refund_if")

    async def dependency(connection: HTTPConnection, response: Response) -> Verdict:
        request = request_of(connection.scope, limits)
        verdict = await limits.acquire(request)
        if verdict.allowed:
            for name, value in verdict.fields.items():
                response.headers.append(name, value)
            return verdict
        answer = limits.answer(request, verdict)
        if request.websocket:
            raise WebSocketException(POLICY_VIOLATION, "rate limited")
        raise Denied(answer, verdict)

    return dependency


def install(app: FastAPI) -> None:
    """Answers denials of `limit_dependency` by their problem document."""
    app.add_exception_handler(Denied, _answer)


async def _answer(_: StarletteRequest, error: Exception) -> Response:
    assert isinstance(error, Denied)
    answer = error.answer
    return Response(answer.body, answer.status, answer.headers)


__all__ = ["Denied", "install", "limit_dependency"]
