"""Admission of connections: limits and a deadline for those that have not authenticated yet.

The HTTP server sets no time limit for a client that sends nothing. Here every TCP connection has
three seconds, from its first packet, to get through TLS, the upgrade and the handshake; and it may
send only 16 KiB until then. A refusal costs one small object and no task.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from aiohttp.web import RequestHandler, Server

from crdtbucket.base.accepting import secured_by_tls
from crdtbucket.base.address import source_of
from crdtbucket.base.loaded_files import TlsFiles
from crdtbucket.mesh.links.counters import Refusals
from crdtbucket.mesh.links.handshake import HANDSHAKE_S
from crdtbucket.mesh.links.mesh_tls import NOT_TRUSTED, tls_fault
from crdtbucket.mesh.sockets.web_socket import release

ENDED = (
    "it ended the connection during the TLS handshake, as a node does that has waited for seconds, "
    f"or that {NOT_TRUSTED}"
)
MAX_UNPROVEN = 64
MAX_UNPROVEN_PER_ADDRESS = 32
MAX_UNPROVEN_BYTES = 16_384


class Admission:
    """Counts the connections of a listener, and says whether one more is accepted."""

    def __init__(self, max_peers: int, refusals: Refusals) -> None:
        self.refusals = refusals
        self.connections: set[AcceptedConnection] = set()
        self._max_open = max_peers + MAX_UNPROVEN
        self._unproven: dict[str, dict[AcceptedConnection, None]] = {}
        """By address, the oldest first."""

    def reason_against(self, source: str) -> str | None:
        """Why a connection from `source` is not accepted now; None when it is. When there is no
        room for another unauthenticated connection, the oldest one of the address with most of them
        gives way to an address that has fewer: so a few addresses cannot keep all others out."""
        held = len(self._unproven.get(source, ()))
        if held >= MAX_UNPROVEN_PER_ADDRESS:
            return "too_many_from_address"
        if sum(map(len, self._unproven.values())) >= MAX_UNPROVEN:
            most = max(self._unproven.values(), key=len)
            if len(most) < held + 2:
                return "too_many_unproven"
            oldest = next(iter(most))
            oldest.refuse("crowded_out", "a connection from another address took its place")
            oldest.leave()
        if len(self.connections) >= self._max_open:
            return "too_many_connections"
        return None

    def accepted(self, connection: AcceptedConnection) -> None:
        """Counts a connection that was accepted, as one that has not authenticated."""
        self.connections.add(connection)
        self._unproven.setdefault(connection.source, {})[connection] = None

    def proven(self, connection: AcceptedConnection) -> None:
        """The connection has authenticated, or has ended: it no longer counts as unproven."""
        held = self._unproven[connection.source]
        del held[connection]
        if not held:
            del self._unproven[connection.source]


class AcceptedConnection(asyncio.Protocol):
    """The protocol of one accepted connection; passes everything on to that of the HTTP server."""

    def __init__(
        self,
        admission: Admission,
        server: Server,
        context: ssl.SSLContext | None,
        by_handler: dict[RequestHandler, AcceptedConnection],
    ) -> None:
        self.source = ""
        self.remote = ""
        self._admission = admission
        self._server = server
        self._context = context
        self._by_handler = by_handler
        self._inner: RequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._securing: asyncio.Task[None] | None = None
        self._bytes = 0
        self._early = b""
        self._refused = False
        self._requested = False

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        host, port = transport.get_extra_info("peername", ("unknown", 0))[:2]
        self.remote = f"{host}:{port}"
        self.source = source_of(host)
        refused = self._admission.reason_against(self.source)
        if refused is not None:
            self.refuse(refused, refused.replace("_", " "))
            return
        self._admission.accepted(self)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HANDSHAKE_S, self._expire)
        if self._context is None:
            self._serve(self._transport)
        else:
            self._securing = loop.create_task(self._secure(self._transport, self._context))

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._deadline is not None:
            self._bytes += len(data)
            if self._bytes > MAX_UNPROVEN_BYTES:
                self.refuse("oversize", "it sent too much before it authenticated")
                return
        if self._inner is None:
            self._early += data  # for TLS, or, once it is up, until `_secure` has had its turn
        else:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        if self._inner is not None:
            self._inner.eof_received()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        # Until TLS is up, what goes wrong is reported by `_secure`.
        if self._inner is not None:
            self._end_unasked()
        self.leave()
        if self._inner is not None:
            del self._by_handler[self._inner]
            self._inner.connection_lost(exc)
            self._inner = None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    # -- what the listener calls

    def requested(self) -> None:
        """A whole HTTP request has come: its faults are reported elsewhere."""
        self._requested = True

    def prove(self) -> None:
        """The peer has authenticated: the deadline and the limits end."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._admission.proven(self)

    def refuse(self, reason: str, text: str) -> None:
        """Counts, logs, and cuts the connection; only the first reason counts."""
        if not self._refused:
            self._refuse_once(reason, text)
            self.cut()

    def cut(self) -> None:
        """Closes the connection at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """The connection no longer counts."""
        if self in self._admission.connections:
            self._admission.connections.discard(self)
            self.prove()

    async def settled(self) -> None:
        """Wait until no TLS handshake runs here; soon after `cut`."""
        if self._securing is not None:
            await asyncio.wait({self._securing})

    # -- inside

    def _refuse_once(self, reason: str, text: str) -> None:
        self._refused = True
        self._admission.refusals.add(reason, f"refused a connection from {self.remote}: {text}")

    def _end_unasked(self) -> None:
        if self._bytes and not (self._requested or self._refused):
            # The HTTP server has answered already, if it was a request at all.
            self._refuse_once("http", "it sent no request of this protocol")

    def _serve(self, transport: asyncio.Transport) -> None:
        self._inner = self._server()
        self._by_handler[self._inner] = self
        self._inner.connection_made(transport)

    async def _secure(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        early, self._early = self._early, b""
        try:
            secured = await secured_by_tls(transport, self, context, early, HANDSHAKE_S)
        except (OSError, ssl.SSLError) as error:
            if isinstance(error, ssl.SSLError):
                self.refuse("tls", tls_fault(error))
            else:
                self.refuse("tls", str(error) or ENDED)
            release(error)
            self.leave()
            return
        if secured is None or secured.is_closing() or self._refused:
            transport.abort()
            self._end_unasked()
            self.leave()
            return
        self._transport = secured
        self._serve(secured)
        if self._early and self._inner is not None:
            self._inner.data_received(self._early)
            self._early = b""

    def _expire(self) -> None:
        self.refuse("handshake_timeout", f"not authenticated within {HANDSHAKE_S:g} s")


def admission_factory(
    admission: Admission, server: Server, tls: TlsFiles
) -> tuple[Callable[[], AcceptedConnection], dict[RequestHandler, AcceptedConnection]]:
    """A protocol factory for `create_server`, and the connections by their HTTP handlers."""
    by_handler: dict[RequestHandler, AcceptedConnection] = {}
    return lambda: AcceptedConnection(admission, server, tls.now(), by_handler), by_handler
