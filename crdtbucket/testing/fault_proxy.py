"""A TCP proxy that is the network between two processes, and fails in the ways of networks.

It delays, throttles, stalls, cuts, resets and refuses, while it runs. The processes at its ends are
untouched: they call the proxy's port in place of the other's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from crdtbucket.base.accepting import stop_accepting
from crdtbucket.testing.carried_connection import CarriedConnection, Carrier, Way

HOST = "127.0.0.1"


class FaultProxy(Carrier):
    """Carries connections from a free port to a server; one event loop, `start` to `stop`."""

    def __init__(
        self, port: int = 0, *, host: str = HOST, path: str = "", delay: float = 0.0, seed: int = 0
    ) -> None:
        """`port` and `host`, or the `path` of a unix socket: where calls are carried to. `delay`:
        seconds, each way. `seed`: of the jitter."""
        super().__init__(Way(delay), Way(delay), random.Random(seed))
        self.port = 0
        """The port to call, once started; it never changes."""
        self.host, self._target, self._path = host, port, path
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a port of the loopback interface."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection: from now on callers are refused."""
        server, self._server = self._server, None
        if server is None:
            return
        await stop_accepting([server])
        await self.reset()
        await server.wait_closed()

    @property
    def delay(self) -> float:
        """Seconds that each way takes."""
        return self.there.delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        self.there.delay = self.back.delay = seconds

    @property
    def connections(self) -> int:
        """Connections that are carried now, or wait to be."""
        return len(self.carried)

    # -- faults

    async def down(self) -> None:
        """Refuse new connections and reset the others, as when the server has died."""
        await self.stop()

    async def up(self) -> None:
        """Listen again, on the same port; has no effect when it is not down."""
        if self._server is None:
            await self.start()

    def cut(self) -> None:
        """Nothing passes from now on, and neither end notices it: no bytes, no end of a connection,
        no new one."""
        self.passing = False

    def let_pass(self, *, there: bool, back: bool) -> None:
        """From now on bytes pass in these directions alone. While only one of them passes, no new
        connection is made."""
        self.there.passing, self.back.passing = there, back
        for carried in list(self.carried):
            carried.resume()

    def heal(self) -> None:
        """Everything passes again, first what was held back; stalled connections go on too."""
        self.passing = self.there.passing = self.back.passing = True
        for carried in list(self.carried):
            carried.resume()

    async def reset(self) -> None:
        """End every connection at once, by RST; what was on its way is lost."""
        for carried in list(self.carried):
            carried.end()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn

    def reset_after(self, size: int) -> None:
        """Once: let `size` more bytes to callers pass, then reset the connection of the last."""
        self.fuse = size, CarriedConnection.end

    def stall_after(self, size: int) -> None:
        """Once: let `size` more bytes to callers pass, then hold back the bytes of the server on
        the connection of the last, until `heal`."""
        self.fuse = size, CarriedConnection.stall

    # -- inside

    def _accept(self) -> asyncio.Protocol:
        carried = CarriedConnection(self)
        self.carried.add(carried)
        return carried.caller

    async def reach(self, server: Callable[[], asyncio.Protocol]) -> None:
        """Connects to the server with the protocol that `server` makes."""
        loop = asyncio.get_running_loop()
        if self._path:
            await loop.create_unix_connection(server, self._path)
        else:
            await loop.create_connection(server, self.host, self._target)
