"""Middleware for every ASGI application, for HTTP and WebSocket."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from crdtbucket.http.limits import Answer, Limits, Verdict
from crdtbucket.http.request import Request
from crdtbucket.limiter.facade import Limiter

LOG = logging.getLogger("crdtbucket.http")
POLICY_VIOLATION = 1008
"""The WebSocket's close code; before the WebSocket is accepted, the server makes it a 403."""
KEY = "crdtbucket"
"""Under this name the scope holds the `Verdict`."""

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class LimitMiddleware:
    """Asks the rules before the application; a denied request does not reach it.

    What is denied is answered at once: a request by a problem document, a WebSocket before it is
    accepted. Answers are not held back: header fields go with the first message.
    """

    def __init__(self, app: App, limits: Limits, *, open_limiter: bool = True) -> None:
        """open_limiter: opens the limiter when the server starts the application, and closes it
        when the server ends (ASGI lifespan). False: the program does."""
        self.app = app
        self.limits = limits
        self._open_limiter = open_limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as the server calls it."""
        kind = scope["type"]
        if kind == "lifespan" and self._open_limiter:
            await Lifespan(self.limits.limiter, receive, send).run(self.app, scope)
        elif kind in ("http", "websocket"):
            await self._request(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = request_of(scope, self.limits)
        verdict = await self.limits.acquire(request)
        if not verdict.allowed:
            await _deny(scope, receive, send, self.limits.answer(request, verdict))
            return
        scope[KEY] = verdict
        told = Told(verdict, send)
        try:
            await self.app(scope, receive, told.send)
        except Exception:
            verdict.ended(500)
            raise
        verdict.ended(told.status)


class Told:
    """Adds the fields to an answer as it passes, and remembers its status."""

    def __init__(self, verdict: Verdict, send: Send) -> None:
        self.status = 500  # of an application that never answered
        self._fields = _encoded(verdict.fields)
        self._send = send

    async def send(self, message: Message) -> None:
        """What the application sends."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._fields]}
        elif kind == "websocket.accept":
            self.status = 101
            message = {**message, "headers": [*message.get("headers", ()), *self._fields]}
        elif kind == "websocket.close" and self.status != 101:
            self.status = 403
        await self._send(message)


class Lifespan:
    """Keeps a limiter open while the server runs the application."""

    def __init__(self, limiter: Limiter, receive: Receive, send: Send) -> None:
        self._limiter = limiter
        self._receive = receive
        self._send = send
        self._first: Message | None = None
        self._answered = False

    async def run(self, app: App, scope: Scope) -> None:
        """The application's start and end within the limiter's. It may ignore the lifespan."""
        self._first = await self._receive()
        try:
            await self._limiter.__aenter__()
        except Exception as error:
            await self._send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        try:
            try:
                await app(scope, self.receive, self.send)
            except Exception:
                if self._answered:
                    raise
                # As servers do: an application that knows no lifespan raises, and is served.
                LOG.info("the application has no ASGI lifespan", exc_info=True)
                await self._send({"type": "lifespan.startup.complete"})
                await self._receive()
                await self.send({"type": "lifespan.shutdown.complete"})
        finally:
            await self._limiter.aclose()

    async def receive(self) -> Message:
        """What the server said first, when the limiter is open; then what it says."""
        first, self._first = self._first, None
        return await self._receive() if first is None else first

    async def send(self, message: Message) -> None:
        """What the application answers; the server may stop at once after the last word."""
        self._answered = True
        if message["type"] != "lifespan.startup.complete":
            await self._limiter.aclose()
        await self._send(message)


def request_of(scope: Scope, limits: Limits) -> Request:
    """The request of an ASGI scope."""

    def headers(name: str) -> list[str]:
        raw = name.encode("latin-1")
        return [value.decode("latin-1") for key, value in scope["headers"] if key == raw]

    client = scope.get("client")
    return Request(
        scope,
        method=scope.get("method", "GET"),
        path=scope["path"],
        peer=client[0] if client else None,
        headers=headers,
        trusted=limits.trusted,
        websocket=scope["type"] == "websocket",
    )


async def _deny(scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
    prefix = ""
    if scope["type"] == "websocket":
        await receive()  # that it wants to connect
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        prefix = "websocket."
    start = {"status": answer.status, "headers": _encoded(answer.headers)}
    await send({"type": f"{prefix}http.response.start", **start})
    await send({"type": f"{prefix}http.response.body", "body": answer.body})


def _encoded(fields: Any) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()
    ]


__all__ = ["KEY", "LimitMiddleware", "request_of"]
