"""How many connections a server has, and how long each may take: aiohttp has no limit of its own.

A connection that is silent, sends its head or body too slowly or does not read its answers is
hung up on; one too many gets a 503 at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter

from aiohttp import web

from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.deadline import within
from crdtbucket.http.refusal import Refusal
from crdtbucket.http.serve_settings import ServeSettings

LOG = logging.getLogger("crdtbucket.http")
SWEEPS = 10
"""A deadline is kept to a tenth of the shortest one."""
_FULL_BODY = (
    b'{"type": "about:blank", "title": "Service Unavailable", "status": 503, '
    b'"detail": "too many connections"}'
)
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n%b"
) % (len(_FULL_BODY), _FULL_BODY)


class Doors:
    """All connections of a server, and their deadlines."""

    def __init__(self, settings: ServeSettings) -> None:
        self.open: set[Connection] = set()
        self.refused: Counter[str] = Counter(dict.fromkeys(("full", "slow", "malformed"), 0))
        self.settings = settings
        self.draining = False
        self._empty = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Keep the deadlines on the running event loop until `stop`."""
        self._sweep(asyncio.get_running_loop())

    async def drain(self) -> None:
        """Ends idle connections at once, each other one with its answer; waits for all of them,
        within the deadline. (aiohttp's own shutdown drops bodies that are still on their way.)"""
        self.draining = True
        for connection in list(self.open):
            if not connection.busy:
                connection.force_close()
        with contextlib.suppress(asyncio.TimeoutError):
            if self.open:
                await within(self.settings.drain_deadline, self._empty.wait())

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        self.open.discard(connection)
        if not self.open:
            self._empty.set()

    def stop(self) -> None:
        """No deadline is kept after this."""
        if self._timer is not None:
            self._timer.cancel()

    def connection(self, server: web.Server) -> Connection:
        """For a caller that has just come."""
        return Connection(self, server)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = now_ns()
        for connection in [one for one in self.open if one.deadline_ns <= now]:
            self.refused["slow"] += 1
            connection.abort()
        settings = self.settings
        shortest = min(settings.head_deadline, settings.request_deadline, settings.idle_deadline)
        self._timer = loop.call_later(shortest / SWEEPS, self._sweep, loop)


class Connection(web.RequestHandler):
    """One connection of a client."""

    __slots__ = ("_doors", "_pipe", "busy", "deadline_ns")

    def __init__(self, doors: Doors, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # as web.Server documents it
            keepalive_timeout=doors.settings.idle_deadline,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self._doors = doors
        self._pipe: asyncio.Transport | None = None
        self.deadline_ns = 0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Lets it in, or says that there are too many."""
        assert isinstance(transport, asyncio.Transport)
        doors = self._doors
        super().connection_made(transport)
        if len(doors.open) >= doors.settings.max_connections:
            doors.refused["full"] += 1
            transport.write(FULL)
            self.force_close()
            return
        self._pipe = transport
        self._until(doors.settings.head_deadline)
        doors.open.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone, whoever ended it."""
        self._doors.left(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Hangs up without another word."""
        if self._pipe is not None:
            self._pipe.abort()

    def request_begins(self) -> None:
        """A head is complete."""
        self.busy = True
        self._until(self._doors.settings.request_deadline)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the answer."""
        if self._doors.draining:
            resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.busy = False
            self._until(self._doors.settings.idle_deadline)

    def _until(self, seconds: float) -> None:
        self.deadline_ns = now_ns() + round(seconds * NS_PER_SECOND)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP, or has too large a head, is a stranger's mistake: no traceback."""
        if status < 500:
            self._doors.refused["malformed"] += 1
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun when the request turned out to be broken")
        if status >= 500:
            LOG.error("a bug in the answer to %s", request.path, exc_info=exc)
            response = Refusal(status, "a bug of the server: its log has it").response()
        else:
            LOG.debug("broken request from %s", request.remote, exc_info=exc)
            response = Refusal(status, "this is no HTTP/1.1 request to be served").response()
        response.force_close()
        return response


__all__ = ["Connection", "Doors"]
