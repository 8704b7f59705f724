"""Closes a listening server so that no accepted connection is lost, and begins TLS on a connection,
on every event loop that may run it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import cast


async def stop_accepting(servers: Iterable[asyncio.Server]) -> None:
    """Closes servers of the running event loop; their connections stay. Once it returns, each
    connection that was accepted is known to its protocol, and no further one is accepted.

    asyncio accepts a socket in one turn of the event loop, makes its transport in the next, and
    informs its protocol in the one after. A server that is closed before the second leaves the
    socket open for ever, and whoever ends all connections before the third overlooks this one.
    """
    loop, closing = asyncio.get_running_loop(), list(servers)
    for server in closing:
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())  # uvloop has none there: it accepts for one more turn
    await asyncio.sleep(0)
    for server in closing:
        server.close()
    await asyncio.sleep(0)


async def secured_by_tls(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    early: bytes,
    timeout: float | None = None,
) -> asyncio.Transport | None:
    """The transport of decrypted bytes, once the handshake has succeeded.

    `early`: what `protocol` has got until now. asyncio runs a task that `connection_made` begins
    before it reads, and uvloop reads first: these bytes belong to the handshake. `timeout`: seconds
    for that, by default the event loop's. Raises `OSError` when it fails.
    """
    transport.pause_reading()
    loop = asyncio.get_running_loop()

    async def handshaken() -> asyncio.Transport | None:
        if transport.is_closing():  # uvloop would wait for ever
            raise ConnectionAbortedError("the client was gone before its handshake began")
        return await loop.start_tls(
            transport, protocol, context, server_side=True, ssl_handshake_timeout=timeout
        )

    handshake = loop.create_task(handshaken())
    try:
        if early:
            await asyncio.sleep(0)  # TLS takes the transport over,
            await asyncio.sleep(0)  # and begins
            _hand_over(early, transport)
        return await handshake
    finally:
        handshake.cancel()  # where this was cancelled before it was waited for
        del handshake  # else its error would refer to itself, until garbage is collected


def _hand_over(early: bytes, transport: asyncio.Transport) -> None:
    """Gives TLS what was read before it began, as the transport would."""
    tls = cast("asyncio.BufferedProtocol", transport.get_protocol())  # uvloop's is no subclass
    while early and not transport.is_closing():
        place = memoryview(tls.get_buffer(len(early)))
        part, early = early[: len(place)], early[len(place) :]
        place[: len(part)] = part
        tls.buffer_updated(len(part))
