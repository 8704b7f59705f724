"""The end of a listening server, without a connection that is left half made."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


async def stop_accepting(servers: Iterable[asyncio.Server]) -> None:
    """Closes servers of the running event loop; their connections stay. Once it returns, each
    connection that was accepted is known to its protocol, and no further one is accepted.

    asyncio accepts a socket in one turn of the event loop, makes its transport in the next, and
    tells its protocol in the one after. A server that is closed before the second leaves the
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
