"""Limits how many connections a server has and how long each may take, since aiohttp has no such
limits. A connection that is silent, sends its head or body too slowly or does not read its answers
is aborted. A connection beyond the limit is surplus: it may still ask for health and for the admin
side, so that operators can examine a server that others have filled, and gets a 503 for anything
else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web

from crdtbucket.base.address import is_loopback
from crdtbucket.base.clock import NS_PER_SECOND, now_ns
from crdtbucket.base.deadline import within
from crdtbucket.http.client_address import key_of_peer
from crdtbucket.http.server.refusal import FULL, Refusal
from crdtbucket.http.server.serve_settings import ServeSettings

LOG = logging.getLogger("crdtbucket.http")
SWEEPS = 10
"""Deadlines are checked this many times within the shortest of them."""
MAX_SURPLUS = 64
"""Most surplus connections; for one more, the oldest of them is refused."""
LAST_REQUESTS_S = 0.1
"""Seconds after the server has begun to end in which a request on an idle connection is still
answered: its client could not know. If the connection were closed at once, the client would not
know whether the request was counted."""
SURPLUS_S = 1.0
"""Seconds in which a surplus connection has to send the head of its request."""


class Connections:
    """All connections of a server, and their deadlines."""

    def __init__(self, settings: ServeSettings) -> None:
        self.open: set[ClientConnection] = set()
        self.refused: Counter[str] = Counter(dict.fromkeys(("full", "slow", "malformed"), 0))
        self.settings = settings
        self.draining = False
        self.request_ns = _ns(settings.request_deadline)
        self.idle_ns = _ns(settings.idle_deadline)
        self._surplus: dict[ClientConnection, None] = {}  # oldest first
        self._of_address: Counter[str] = Counter()
        self._share = settings.max_connections_per_address or -(-settings.max_connections // 2)
        self._empty = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Keeps the deadlines on the running event loop until `stop`."""
        self._sweep(asyncio.get_running_loop())

    async def drain(self) -> None:
        """Ends idle connections within a moment, and each other one after its answer; waits for
        all of them, within the deadline. (aiohttp's own shutdown drops bodies that are on their
        way.)"""
        self.draining = True
        self._empty.clear()  # it has been set whenever the last connection has ended
        deadline = self.settings.drain_deadline
        first = min(deadline, LAST_REQUESTS_S)
        await self._emptied(first)
        for connection in list(self.open):
            if connection.idle:
                connection.force_close()
        await self._emptied(deadline - first)

    def joined(self, connection: ClientConnection) -> None:
        """A client has connected: it gets a place, or is surplus."""
        self.open.add(connection)
        if not self.place_for(connection):
            self._surplus[connection] = None
            if len(self._surplus) > MAX_SURPLUS:
                self._refuse(next(iter(self._surplus)))

    def place_for(self, connection: ClientConnection) -> bool:
        """Whether the connection has a place among those that are served; takes a free one."""
        if connection not in self.open:
            return False  # it ended before the task that reads its first request began
        if connection.placed:
            return True
        address = connection.remote_address
        free = len(self.open) - len(self._surplus) - (connection not in self._surplus)
        if free >= self.settings.max_connections or (
            address is not None and self._of_address[address] >= self._share
        ):
            return False
        connection.placed = True
        self._surplus.pop(connection, None)
        if address is not None:
            self._of_address[address] += 1
        return True

    def left(self, connection: ClientConnection) -> None:
        """A connection is gone. A second call does nothing."""
        if connection not in self.open:
            return
        self.open.discard(connection)
        self._surplus.pop(connection, None)
        address = connection.remote_address
        if connection.placed and address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
        if not self.open:
            self._empty.set()

    def stop(self) -> None:
        """From now on no deadline is checked."""
        if self._timer is not None:
            self._timer.cancel()

    async def _emptied(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            if self.open:
                await within(seconds, self._empty.wait())

    def _refuse(self, connection: ClientConnection) -> None:
        self._surplus.pop(connection, None)
        self.refused["full"] += 1
        connection.refuse()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        settings = self.settings
        shortest = min(settings.head_deadline, settings.request_deadline, settings.idle_deadline)
        # The next call is scheduled first: otherwise, after a bug below, which the loop logs, slow
        # clients would stay connected for ever.
        self._timer = loop.call_later(shortest / SWEEPS, self._sweep, loop)
        now = now_ns()
        for connection in [one for one in self.open if one.deadline_ns <= now]:
            if connection in self._surplus:
                self._refuse(connection)
            else:
                self.refused["slow"] += 1
                connection.abort()


class ClientConnection(web.RequestHandler):
    """One connection of a client."""

    __slots__ = (
        "_body",
        "_connections",
        "_ended",
        "_pipe",
        "busy",
        "deadline_ns",
        "placed",
        "remote_address",
    )

    def __init__(self, connections: Connections, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # as web.Server documents it
            keepalive_timeout=connections.settings.idle_deadline,
            lingering_time=1.0,
            auto_decompress=False,
        )
        self._connections = connections
        self._pipe: asyncio.Transport | None = None
        self.deadline_ns = 0
        self.busy = False
        self._body: StreamReader = EMPTY_PAYLOAD
        """The body of the request that is being answered."""
        self._ended = False
        """Whether the client sends nothing more."""
        self.placed = False
        """Whether it has a place among those that are served."""
        self.remote_address: str | None = None
        """The client's address, of IPv6 its /64 network; None for a client of this host, whose
        services share one address."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.begin(self.accepted(transport))

    def accepted(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        """The connection gets a place, or is surplus, and has a deadline from here on."""
        connections = self._connections
        # uvloop's transports are not a subclass of asyncio's, but have all of its methods.
        self._pipe = cast("asyncio.Transport", transport)
        by_unix_socket = isinstance(transport.get_extra_info("sockname"), (str, bytes))
        if not by_unix_socket:
            peer = transport.get_extra_info("peername")
            self.remote_address = None if peer is None else _remote(peer[0])
        connections.joined(self)
        first = connections.settings.head_deadline
        self.deadline_ns = now_ns() + _ns(first if self.placed else min(first, SURPLUS_S))
        return self._pipe

    def begin(self, pipe: asyncio.Transport) -> None:
        """HTTP is spoken on this transport from now on."""
        self._pipe = pipe
        super().connection_made(pipe)

    async def start(self) -> None:
        """Answers requests, but none of a client that had gone before this began."""
        if self in self._connections.open:
            await super().start()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone, whoever ended it."""
        self._connections.left(self)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's closes it always
        """The client sends nothing more. Returns whether it may still wait for answers."""
        self._ended = True
        request = self._current_request
        if request is not None and request.writer.output_size > 0:
            return False  # a long answer would go on for a client that is gone
        if self._messages and not self._messages[-1][1].is_eof():
            if len(self._messages) == 1 and not self.busy:
                return False
            self._messages.pop()  # this request gets no answer, those before it do
        return not self.idle and (bool(self._messages) or self._body.is_eof())

    @property
    def idle(self) -> bool:
        """Whether no request waits for its answer."""
        return not (self.busy or self._messages)

    def abort(self) -> None:
        """Closes the connection at once, without an answer."""
        if self._pipe is not None:
            self._pipe.abort()

    def refuse(self) -> None:
        """Answers with a 503 and closes the connection."""
        if self._pipe is not None and not self.busy:
            self._pipe.write(FULL)
        self.force_close()

    def takes_up(self, body: StreamReader) -> None:
        """A request is about to be answered, of whose body a part may be on its way."""
        self.busy = True
        self._body = body

    def request_begins(self) -> bool:
        """A head is complete. False when the connection is surplus still."""
        self.deadline_ns = now_ns() + self._connections.request_ns
        return self._connections.place_for(self)

    def goes_on(self) -> None:
        """A part of a long answer is about to be sent: from now on its deadline counts anew."""
        self.deadline_ns = now_ns() + self._connections.request_ns

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the answer."""
        last = self._ended and not self._messages
        if last or self._connections.draining or not self.placed:
            resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.busy = False
            self.deadline_ns = now_ns() + self._connections.idle_ns

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers bytes that are not HTTP, or a head that is too large. It is a mistake of the
        client, so no traceback is logged."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client is gone: no answer is possible, and it is no bug
        if status < 500:
            self._connections.refused["malformed"] += 1
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


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_SECOND)


def _remote(host: str) -> str | None:
    return None if is_loopback(host) else key_of_peer(host)
