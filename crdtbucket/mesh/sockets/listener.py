"""The listening side: a WebSocket server that turns connections of peers into links."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from typing import Any

from aiohttp.web import (
    BaseRequest,
    RequestHandler,
    Response,
    Server,
    StreamResponse,
    WebSocketResponse,
)

from crdtbucket.base.accepting import stop_accepting
from crdtbucket.base.file_shortage import ListeningSocket, fix_of
from crdtbucket.base.loaded_files import TlsFiles
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.channel import Oversize
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.handshake import MeshEndpoint, answered
from crdtbucket.mesh.sockets.admission import AcceptedConnection, Admission, admission_factory
from crdtbucket.mesh.sockets.web_socket import MAX_MESSAGE, PATH, WebSocketChannel

# The kernel queues so many connections: in a flood, a peer should wait its turn, not be dropped.
KERNEL_QUEUE = 512
# One turn of the event loop accepts so many at most, so that a flood cannot stall it.
ACCEPTS_A_TURN = 32


class _HttpLog(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Logs bad HTTP without a traceback: it is the mistake of a client, and is counted."""

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        self.debug(msg, *args)


ELSEWHERE = "choose a free port of this machine, or stop what uses it"
IN_USE = (
    "if another worker of this node listens there, set `shared: auto` in the configuration, or "
    'shared="auto", in all of them: they are one node then, of which one listens; else '
    f"{ELSEWHERE}"
)
NOT_HERE = (
    "name an address of this machine, such as 0.0.0.0 for all that it has; one by which others "
    "reach it, and which it does not have itself, belongs in mesh.advertise"
)
FIXES = {
    errno.EADDRINUSE: IN_USE,
    errno.EADDRNOTAVAIL: NOT_HERE,
    errno.EACCES: "choose a port above 1023, or run as a user that may listen there",
    socket.EAI_NONAME: NOT_HERE,
}


class Listener:
    """Accepts peers on one address for as long as it runs."""

    def __init__(self, host: MeshEndpoint, tls: TlsFiles) -> None:
        self._host = host
        self._admission = Admission(host.max_peers, host.refusals)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._http: Server | None = None
        self._by_handler: dict[RequestHandler, AcceptedConnection] = {}

    async def start(self, address: str, port: int) -> int:
        """Listen; returns the port, a free one where `port` is 0. Raises `MeshError`."""
        self._http = Server(
            self._handle,
            access_log=None,
            logger=_HttpLog(LOG, {}),
            keepalive_timeout=0,
            lingering_time=0,
            max_line_size=1024,
            max_field_size=2048,
            auto_decompress=False,
        )
        factory, self._by_handler = admission_factory(self._admission, self._http, self._tls)
        loop = asyncio.get_running_loop()
        sock: socket.socket | None = None
        try:
            found = await loop.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            sock = _bound_socket(*found[0])
            self._server = await loop.create_server(
                factory, sock=sock, backlog=ACCEPTS_A_TURN, start_serving=False
            )
            await self._server.start_serving()
            # asyncio has one number for both; listening again changes the kernel's alone.
            sock.listen(KERNEL_QUEUE)
        except BaseException as error:  # such as the caller's cancellation
            if self._server is not None:
                self._server.close()
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            raise MeshError(
                f"cannot listen on mesh.listen {address}:{port} ({error.strerror or error}): "
                + fix_of(error, FIXES.get(error.errno or 0, ELSEWHERE))
            ) from error
        bound: int = sock.getsockname()[1]
        return bound

    async def refuse_new(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            await stop_accepting([self._server])

    async def stop(self) -> None:
        """Cut what is still connected and wait until nothing runs."""
        await self.refuse_new()
        connections = list(self._admission.connections)
        for connection in connections:
            connection.cut()
        await asyncio.gather(*(connection.settled() for connection in connections))
        if self._http is not None:
            await self._http.shutdown(1.0)

    async def _handle(self, request: BaseRequest) -> StreamResponse:
        connection = self._by_handler.get(request.protocol)
        if connection is None:
            raise ConnectionResetError("closed meanwhile")
        connection.requested()
        ws = WebSocketResponse(timeout=0.5, compress=False, max_msg_size=MAX_MESSAGE)
        # Only browsers send the origin of a page: no web page may talk to a mesh on its user's
        # machine.
        stranger = request.path != PATH or "Origin" in request.headers
        if stranger or not ws.can_prepare(request).ok:
            self._host.refusals.add(
                "http", f"refused {connection.remote}: not a request of this protocol"
            )
            response = Response(status=404, text="not found\n")
            response.force_close()
            return response
        context = self._tls.now()
        channel = WebSocketChannel(
            ws,
            connection.remote.rpartition(":")[0],
            certified=context is not None and context.verify_mode is ssl.CERT_REQUIRED,
        )
        try:
            await ws.prepare(request)
            await self._shake_hands(channel, connection)
        except ConnectionError as error:
            LOG.debug("%s hung up: %s", connection.remote, error)
        finally:
            await channel.close()
            connection.cut()
        return ws

    async def _shake_hands(self, channel: WebSocketChannel, connection: AcceptedConnection) -> None:
        try:
            link = await answered(channel, self._host, connection.remote)
        except (Oversize, WireError) as error:
            reason = "oversize" if isinstance(error, Oversize) else "malformed"
            connection.refuse(reason, str(error))
            return
        if link is not None:
            connection.prove()
            await self._host.serve(link)


def _bound_socket(
    family: int, kind: int, proto: int, _name: str, address: tuple[Any, ...]
) -> socket.socket:
    sock = ListeningSocket(family, kind, proto)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # "[::]:7946" means every address of the machine, IPv4 too.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
