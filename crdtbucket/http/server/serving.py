"""A limiter that is served over HTTP until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable

from aiohttp import web

from crdtbucket.http.serve_settings import ServeSettings
from crdtbucket.http.server.app import Api
from crdtbucket.http.server.listening import Listening
from crdtbucket.limiter.facade import Limiter

LOG = logging.getLogger("crdtbucket.http")
LAST_WORDS_S = 0.1
"""For handlers whose connections have ended, or did not within the deadline."""
ENDING = (signal.SIGTERM, signal.SIGINT)


class SidecarServer:
    """Answers HTTP from `start` to `stop`; the limiter is opened and closed by others."""

    def __init__(self, limiter: Limiter, settings: ServeSettings) -> None:
        self.api = Api(limiter, settings)
        self.addresses: list[str] = []
        """Where it is reached, once started."""
        self._settings = settings
        self._listening: list[Listening] = []
        self._servers: list[asyncio.Server] = []
        self._http: web.Server | None = None

    def bind(self) -> None:
        """Takes all addresses. Raises `CannotListen`, and then has none."""
        try:
            for address in self._settings.listen:
                self._listening.append(Listening(address))
        except BaseException:
            self.give_up_addresses()
            raise

    async def start(self) -> None:
        """Answers on the addresses that are bound."""
        self._http = self.api.server()
        self.api.connections.start()
        loop = asyncio.get_running_loop()
        for one in self._listening:
            unix = one.socket.family == socket.AF_UNIX
            listen = loop.create_unix_server if unix else loop.create_server
            self._servers.append(await listen(self._connection, sock=one.socket))
            self.addresses.append(one.name)
            if not one.local:
                LOG.warning(
                    "%s is reached from other hosts: whoever reaches it can take tokens", one.name
                )

    def _refuse_new(self) -> None:
        self.api.views.draining = True
        for one in self._listening:
            one.unlink()
        for server in self._servers:
            server.close()
        self.give_up_addresses()

    async def stop(self) -> None:
        """Answers what is under way, within the deadline, and closes every connection."""
        self._refuse_new()
        await self.api.connections.drain()
        if self._http is not None:
            await self._http.shutdown(LAST_WORDS_S)
        self.api.connections.stop()

    def _connection(self) -> asyncio.Protocol:
        assert self._http is not None
        return self.api.connections.connection(self._http)

    def give_up_addresses(self) -> None:
        """Nobody can come any more."""
        for one in self._listening:
            one.close()


async def serve(limiter: Limiter, settings: ServeSettings) -> None:
    """Opens the limiter and serves it until SIGTERM or SIGINT; then ends in order.

    What is under way is answered, then the mesh is left, Redis told what it is owed, and the
    snapshot written. A second signal ends the process at once.
    """
    server = SidecarServer(limiter, settings)
    server.bind()  # first: who has no address should not join
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, _setting(loop, ending))
    try:
        async with limiter:
            await server.start()
            where = ", ".join(server.addresses)
            LOG.info("%s serves %d bucket(s) on %s", limiter.node, len(limiter.buckets), where)
            await ending.wait()
            LOG.info("%s ends: answering what is under way, then leaving", limiter.node)
            await server.stop()
    finally:
        server.give_up_addresses()
        for number in ENDING:
            loop.remove_signal_handler(number)


def _setting(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    def end() -> None:
        event.set()
        for number in ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    return end


__all__ = ["SidecarServer", "serve"]
