"""A WebSocket as the channel of a link: it is dialed, used and closed, and its errors become those
of channels."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Protocol

import aiohttp
from aiohttp import ServerDisconnectedError, WebSocketError, WSMsgType

from crdtbucket.base.address import source_of, split_address, why_unreachable
from crdtbucket.errors import WireError
from crdtbucket.mesh.links.channel import CLOSE_S, ChannelLost, Oversize
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.mesh_tls import NOT_TRUSTED, dns_names, is_mutual, tls_fault
from crdtbucket.mesh.links.session import MAX_SEALED

PATH = "/crdtbucket/mesh"
# The library refuses a message of exactly its limit too.
MAX_MESSAGE = MAX_SEALED + 1
PORT = "is this the port that mesh.listen of a node names?"
HUNG_UP = "it closed the connection without an answer"
BROKEN_OFF = "the connection broke off without a goodbye"
_BINARY = WSMsgType.BINARY  # up to Python 3.11 a function looks it up
_SILENCE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
_REFUSALS = {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE}


class WebSocket(Protocol):
    """The methods that the client's and the server's WebSocket of aiohttp have in common."""

    async def receive(self) -> Any: ...
    async def send_frame(self, message: bytes, opcode: WSMsgType) -> None: ...
    async def close(self) -> bool: ...
    def get_extra_info(self, name: str) -> Any: ...
    def exception(self) -> BaseException | None: ...


class WebSocketChannel:
    """One WebSocket, of either side; see `Channel`."""

    lossy = False
    peer_name = ""

    def __init__(self, ws: WebSocket, remote: str, *, certified: bool) -> None:
        """`remote`: the host at the other end. `certified`: TLS has checked its certificate."""
        self.remote = remote
        self.certified = certified
        self._ws = ws

    @property
    def source(self) -> str:
        """The address of the other end, whatever name was called."""
        address = self._ws.get_extra_info("peername")
        return source_of(address[0] if address else self.remote)

    @property
    def certified_names(self) -> tuple[str, ...]:
        """The names (DNS) in the certificate that TLS has checked."""
        return dns_names(self._ws.get_extra_info("peercert") if self.certified else None)

    async def send(self, data: bytes) -> None:
        """Sends one binary message."""
        try:
            await self._ws.send_frame(data, _BINARY)
        except (ConnectionError, RuntimeError) as error:  # the WebSocket is closing or closed
            release(error)
            raise ChannelLost(f"sending failed: {error}", by_peer=not is_silence(error)) from error

    async def receive(self) -> bytes:
        """The next binary message."""
        message = await self._ws.receive()
        if message.type is _BINARY:
            data: bytes = message.data
            return data
        if message.type is WSMsgType.TEXT:
            raise WireError("a text message where frames are binary")
        fault = self._ws.exception()
        if message.type is WSMsgType.ERROR:
            if getattr(message.data, "code", None) == 1009:
                raise Oversize(str(message.data))
            if isinstance(message.data, WebSocketError):
                raise WireError(f"no WebSocket: {message.data}")
            text = str(message.data or fault or "broken")
        else:
            text = "closed by the peer" if message.type is WSMsgType.CLOSE else BROKEN_OFF
        raise ChannelLost(text, by_peer=not is_silence(fault))

    async def close(self) -> None:
        """Closes the WebSocket in an orderly way if the peer answers soon, and else breaks it."""
        closing = asyncio.ensure_future(self._ws.close())
        try:
            await asyncio.wait({closing}, timeout=CLOSE_S / 2)
        finally:
            if not closing.done():
                self.abort()
                closing.cancel()
                await asyncio.wait({closing})
            if not closing.cancelled() and (error := closing.exception()) is not None:
                LOG.debug("closing a WebSocket failed: %s", error)
                self.abort()
            release(self._ws.exception())

    def abort(self) -> None:
        """Ends the TCP connection below without waiting for anything."""
        sock = self._ws.get_extra_info("socket")
        if sock is None:
            return  # already gone
        # Some loops hand out an object that cannot do this: a copy of the descriptor can.
        try:
            with socket.fromfd(sock.fileno(), sock.family, sock.type) as same:
                same.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the peer was faster


def http_session() -> aiohttp.ClientSession:
    """The HTTP client that dials nodes."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def connect(
    http: aiohttp.ClientSession, address: str, context: ssl.SSLContext | None
) -> WebSocketChannel:
    """The channel to the node at this address. Raises `ChannelLost`, and `WireError` where a
    process answers that speaks HTTP only, or fails in TLS."""
    try:
        ws = await http.ws_connect(
            f"{'ws' if context is None else 'wss'}://{address}{PATH}",
            ssl=context if context is not None else True,
            compress=0,
            max_msg_size=MAX_MESSAGE,
            timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
        )
    except (aiohttp.ClientError, OSError, ValueError) as error:  # the last: of no possible host
        release(error)
        text = _words(error, context)
        if _answers(error):
            raise WireError(text) from error
        raise ChannelLost(text, by_peer=is_refusal(error)) from error
    checked = context is not None and context.verify_mode is ssl.CERT_REQUIRED
    return WebSocketChannel(ws, split_address(address)[0], certified=checked)


def release(error: BaseException | None) -> None:
    """Drops the stack frames of an error of a library, and of its causes. Their local variables
    hold the WebSocket, the message and the link, and often the error itself: such a cycle would
    stay in memory until Python's garbage collector runs, which is rarely."""
    for one in _causes(error):
        one.__traceback__ = None


def is_silence(error: BaseException | None) -> bool:
    """Whether an error means that nothing came back from the peer's host, not even a refusal."""
    return any(
        isinstance(one, TimeoutError) or getattr(one, "errno", None) in _SILENCE
        for one in _causes(error)
    )


def _words(error: Exception, context: ssl.SSLContext | None) -> str:
    """Why a call failed, in words; if no connection was made, in the words of the system.
    `context`: that of the call."""
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"it answers HTTP with status {error.status}, as no node of a mesh does: {PORT}"
    if isinstance(error, ServerDisconnectedError) and is_mutual(context):
        return f"{HUNG_UP}: it {NOT_TRUSTED}, has no room for another connection, or is no node"
    if isinstance(error, ServerDisconnectedError):
        # As a node does that can open no file, or has too many connections.
        return f"{HUNG_UP}: it has no room for another (its log says why), or is no node: {PORT}"
    for cause in _causes(error):
        # Errors of the HTTP library are of this class, too, without its attributes.
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, aiohttp.ClientError):
            return tls_fault(cause)
    if isinstance(error, aiohttp.ClientConnectorError):
        return why_unreachable(error.os_error)
    if isinstance(error, ConnectionResetError):  # the library's own has a text of its own
        return os.strerror(errno.ECONNRESET)
    if isinstance(error, OSError):
        return why_unreachable(error)
    return str(error) or type(error).__name__


def _answers(error: Exception) -> bool:
    """Whether a process has answered the call, and no link is possible with it."""
    ended = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    faults = [one for one in _causes(error) if isinstance(one, ssl.SSLError)]
    answered = isinstance(error, aiohttp.WSServerHandshakeError) or bool(faults)
    return answered and not any(isinstance(one, ended) for one in faults)


def is_refusal(error: BaseException) -> bool:
    """Whether the error of a call shows that the host refused it, or that the other end closed the
    connection at once, as a proxy in front of an ended process does."""
    if is_silence(error):
        return False
    kinds = (ConnectionError, ServerDisconnectedError)
    return any(
        isinstance(one, kinds) or getattr(one, "errno", None) in _REFUSALS for one in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
