"""An ASGI lifespan that keeps a limiter open while the server runs the application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from crdtbucket.errors import LimiterClosed
from crdtbucket.limiter.facade import Limiter

LOG = logging.getLogger("crdtbucket.http")
AGAIN = (
    "so an application that is started several times gives the middleware a function that makes "
    "the limits and their limiter"
)


class Lifespan:
    """One start and end of an application."""

    def __init__(
        self,
        limiter: Limiter,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        self._limiter = limiter
        self._receive = receive
        self._send = send
        self._first: MutableMapping[str, Any] | None = None
        self._answered = False

    async def run(self, app: Callable[..., Awaitable[None]], scope: Any) -> None:
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
                # As servers do: an application that knows no lifespan raises, and is served.
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

    async def receive(self) -> MutableMapping[str, Any]:
        """The server's first message, once the limiter is open; then the next ones."""
        first, self._first = self._first, None
        return await self._receive() if first is None else first

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Passes the application's answer on; the server may stop at once after the last
        message."""
        self._answered = True
        if message["type"] != "lifespan.startup.complete":
            await self._limiter.aclose()
        await self._send(message)
