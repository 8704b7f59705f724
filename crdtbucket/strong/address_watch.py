"""Notices that the name of a server leads to another address while the old one still answers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.deadline import within
from crdtbucket.strong.server_link import ServerLink

LOG = logging.getLogger("crdtbucket.strong")
LOOK_S = 10.0
"""Between two questions about the name."""
RESOLVE_S = 5.0
TURNS_NS = 3_600 * NS_PER_SECOND
"""If a name returns to an address that it had within this time, its addresses rotate, as those of a
service with several servers do."""


class AddressWatch:
    """Resolves the name of one server regularly. When the name no longer has the address of the
    connection, it gives that connection up, since other nodes now connect to another server."""

    def __init__(
        self, link: ServerLink, clock: Callable[[], int], moved: Callable[[], None]
    ) -> None:
        """`clock`: ns. `moved` is called when the connection is to be made anew."""
        self._link = link
        self._clock = clock
        self._moved = moved
        self._seen: dict[str, int] = {}
        """When the name last had each of its addresses."""

    async def run(self) -> None:
        """Looks every `LOOK_S`, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Looks once. While the name does not resolve, nothing changes."""
        address, connection = self._link.address, self._link.connection
        if connection is None or address.path or address.host == connection.remote:
            return
        resolve = asyncio.get_running_loop().getaddrinfo
        asked = resolve(address.host, address.port, type=socket.SOCK_STREAM)
        try:
            rows = await within(RESOLVE_S, asked)
        except (OSError, asyncio.TimeoutError) as error:
            LOG.debug("%s was not resolved again: %s", address, error)
            return
        found, now, used = {str(row[4][0]) for row in rows}, self._clock(), connection.remote
        known = {one for one, at in self._seen.items() if now - at < TURNS_NS}
        self._seen = {one: self._seen[one] for one in known} | dict.fromkeys(found, now)
        if connection is not self._link.connection or used in found or found & known:
            return
        LOG.warning(
            "Redis %s leads to %s now, and no longer to %s, which still answers: connecting again",
            address,
            ", ".join(sorted(found)),
            used,
        )
        self._moved()
