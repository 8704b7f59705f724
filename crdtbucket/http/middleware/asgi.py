"""Middleware for every ASGI application, for HTTP and WebSocket. It keeps the limiter open while
the server runs the application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

from crdtbucket.errors import LimiterClosed
from crdtbucket.http.answers import Answer, Verdict
from crdtbucket.http.fields import DeferredFields, raw_fields
from crdtbucket.http.limits import Limits, check_application, check_limits
from crdtbucket.http.request import Request
from crdtbucket.limiter.facade import Limiter
from crdtbucket.spec.field_checks import check_flag

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
HEADS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
AGAIN = (
    "so an application that is started several times gives the middleware a function that makes "
    "the limits and their limiter"
)


class ASGILimitMiddleware:
    """Asks the rules before the application; a denied request does not reach it.

    A denial is answered at once: a request by a problem document, a WebSocket before it is
    accepted. Answers are not held back: the header fields are added to the first message.
    """

    def __init__(
        self, app: App, limits: Limits | Callable[[], Limits], *, open_limiter: bool = True
    ) -> None:
        """limits: the rules, or a function that makes them and their limiter each time that the
        server starts the application. open_limiter: opens the limiter when the server starts the
        application, and closes it when the server ends (ASGI lifespan). False: the program does.
        """
        check_limits(limits, maker=True)
        check_application(app)
        check_flag("open_limiter", open_limiter)
        self.app = app
        self._make = None if isinstance(limits, Limits) else limits
        self._limits = limits if isinstance(limits, Limits) else None
        self._open_limiter = open_limiter

    @property
    def limits(self) -> Limits:
        """The limits of this start of the application; made now if the server has no lifespan."""
        if self._limits is None:
            assert self._make is not None
            check_limits(made := self._make())
            self._limits = made
        return self._limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as the server calls it."""
        kind = scope["type"]
        if kind != "http" and kind != "websocket":
            await self._other(scope, receive, send)
            return
        limits = self._limits or self.limits
        client = scope.get("client")
        verdict = limits.take_of_peer(client[0] if client else None)
        if verdict is None:
            verdict = await limits.acquire(ASGIRequest(scope, limits.trusted))
        if not verdict.allowed:
            answer = limits.answer(ASGIRequest(scope, limits.trusted), verdict)
            await _deny(scope, receive, send, answer)
            return
        scope[KEY] = verdict
        if limits.may_refund or limits.may_hold:
            await _watched(self.app, scope, receive, send, verdict)
        elif verdict.deferred:
            await self.app(scope, receive, _with_fields(verdict.deferred, send))
        else:
            await self.app(scope, receive, send)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and self._open_limiter:
            if self._make is not None:
                self._limits = None  # the limiter of an earlier start is closed
            await Lifespan(self.limits.limiter, receive, send).run(self.app, scope)
        else:
            await self.app(scope, receive, send)


class ASGIRequest(Request):
    """The request of an ASGI scope."""

    __slots__ = ()

    @property
    def method(self) -> str:
        """The method of the request, in capitals."""
        method: str = self.native.get("method", "GET")
        return method.upper()  # not every server does it, and Django takes "post" for POST

    @property
    def path(self) -> str:
        """The decoded path of the request, from the server's root."""
        path: str = self.native["path"]
        return path

    @property
    def peer(self) -> str | None:
        """The address of the other end of the connection; None when the server knows none."""
        client = self.native.get("client")
        return client[0] if client else None

    @property
    def websocket(self) -> bool:
        """Whether the request opens a WebSocket."""
        return bool(self.native["type"] == "websocket")

    def _values(self, name: str) -> Sequence[str]:
        raw = name.encode("latin-1")
        return [value.decode("latin-1") for key, value in self.native["headers"] if key == raw]


def _with_fields(deferred: DeferredFields, send: Send) -> Send:
    """`send` that adds the fields to the head of an answer as it passes."""

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] in HEADS:
            message = {**message, "headers": [*message.get("headers", ()), *raw_fields(deferred)]}
        return send(message)

    return sending


async def _watched(app: App, scope: Scope, receive: Receive, send: Send, verdict: Verdict) -> None:
    """Calls the application, and tells the verdict the status of its answer and when it ends."""
    status = 500  # of an application that never answers
    adding = _with_fields(verdict.deferred, send)

    def watching(message: Message) -> Awaitable[None]:
        nonlocal status
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            status = message["status"]
        elif kind == "websocket.accept":
            status = 101
        elif kind == "websocket.close" and status != 101:
            status = 403
        return adding(message)

    try:
        await app(scope, receive, watching)
    except Exception:
        verdict.ended(500)
        raise
    else:
        verdict.ended(status)
    finally:
        verdict.release()


async def _deny(scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
    prefix = ""
    if scope["type"] == "websocket":
        await receive()  # the message that it wants to connect
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        prefix = "websocket."
    start = {"status": answer.status, "headers": raw_fields(answer.headers)}
    await send({"type": f"{prefix}http.response.start", **start})
    await send({"type": f"{prefix}http.response.body", "body": answer.body})


class Lifespan:
    """One start and end of an application, during which a limiter is open."""

    def __init__(self, limiter: Limiter, receive: Receive, send: Send) -> None:
        self._limiter = limiter
        self._receive = receive
        self._send = send
        self._first: Message | None = None
        self._answered = False

    async def run(self, app: App, scope: Scope) -> None:
        """Runs the application's start and end while the limiter is open. The application may
        ignore the lifespan."""
        self._first = await self._receive()
        try:
            await self._open()
        except Exception as error:
            await self._send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        try:
            try:
                await app(scope, self.receive, self.send)
            except Exception:
                if self._answered:
                    raise
                # As servers do, it serves an application that raises because it knows no lifespan.
                LOG.info("the application has no ASGI lifespan", exc_info=True)
                await self._send({"type": "lifespan.startup.complete"})
                await self._receive()
                await self.send({"type": "lifespan.shutdown.complete"})
        finally:
            await self._limiter.aclose()

    async def _open(self) -> None:
        try:
            await self._limiter.__aenter__()
        except LimiterClosed as error:
            raise LimiterClosed(f"{error}; {AGAIN}") from error

    async def receive(self) -> Message:
        """The server's first message, once the limiter is open; then the next ones."""
        first, self._first = self._first, None
        return await self._receive() if first is None else first

    async def send(self, message: Message) -> None:
        """Passes the application's answer on; the server may stop at once after the last
        message."""
        self._answered = True
        if message["type"] != "lifespan.startup.complete":
            await self._limiter.aclose()
        await self._send(message)
