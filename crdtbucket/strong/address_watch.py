"""Notices that the name of a server leads to another address while the old one still answers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable

from crdtbucket.base.address import Address
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.deadline import within
from crdtbucket.strong.server_link import ServerLink

LOG = logging.getLogger("crdtbucket.strong")
LOOK_S = 6.0
"""Between two looks at the name."""
ASKS, AGAIN_S = 4, 1.0
"""How often a name is asked for that seems to have moved, and the time between."""
RESOLVE_S = 5.0
TURNS_NS = 3_600 * NS_PER_SECOND
"""A name whose addresses came back more than once within this time has several in turns."""
MISSES = 3
"""Such a name has moved when the one in use is gone for so many times as long as any of these."""


class AddressWatch:
    """Asks for the name of one server, and gives up a connection to an address that the name has
    no more, since nodes that connect anew are at another server by then.

    A name with several addresses may have one or some of them in each answer, which is no move. So
    it is asked a few times: all answers have to lack the address in use, and to have another one in
    common. Where each answer holds for longer, the addresses of such a name are seen to come back.
    """

    def __init__(
        self, link: ServerLink, clock: Callable[[], int], moved: Callable[[], None]
    ) -> None:
        """`clock`: ns. `moved` is called when the connection is to be made anew."""
        self._link = link
        self._clock = clock
        self._moved = moved
        self._seen: dict[str, int] = {}
        """When the name last had each of its addresses."""
        self._last: set[str] = set()
        """Those in its last answer."""
        self._back: deque[tuple[int, int]] = deque(maxlen=64)
        """When answers had an address again that the one before had not, and after how long."""
        self._missed: tuple[str, int] | None = None
        """The address in use, and since when no answer has it."""

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
        answers: list[set[str]] = []
        while len(answers) < ASKS:
            if answers:
                await asyncio.sleep(AGAIN_S)
            found = await self._ask(address)
            if not found or connection is not self._link.connection:
                return
            self._note(found)
            if connection.remote in found:
                self._missed = None
                return
            answers.append(found)
        if self._has_moved(set.intersection(*answers), connection.remote):
            LOG.warning(
                "Redis %s leads to %s now, and no longer to %s, which still answers: "
                "connecting again",
                address,
                ", ".join(sorted(found)),
                connection.remote,
            )
            self._moved()

    async def _ask(self, address: Address) -> set[str]:
        resolve = asyncio.get_running_loop().getaddrinfo
        asked = resolve(address.host, address.port, type=socket.SOCK_STREAM)
        try:
            rows = await within(RESOLVE_S, asked)
        except (OSError, asyncio.TimeoutError) as error:
            LOG.debug("%s was not resolved again: %s", address, error)
            return set()
        return {str(row[4][0]) for row in rows}

    def _note(self, found: set[str]) -> None:
        now = self._clock()
        self._seen = {one: at for one, at in self._seen.items() if now - at < TURNS_NS}
        if back := (found - self._last) & self._seen.keys():
            self._back.append((now, max(now - self._seen[one] for one in back)))
        self._last = found
        self._seen |= dict.fromkeys(found, now)

    def _has_moved(self, common: set[str], used: str) -> bool:
        """Whether the name has moved from the address in use; `common`: those of all answers."""
        now = self._clock()
        if self._missed is None or self._missed[0] != used:
            self._missed = used, now
        gone = [after for at, after in self._back if now - at < TURNS_NS]
        if len(gone) > 1:
            return now - self._missed[1] >= MISSES * max(gone)
        return bool(common) or now - self._missed[1] >= TURNS_NS
