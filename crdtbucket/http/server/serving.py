"""Serves a limiter over HTTP until a signal ends the process."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from crdtbucket.base.accepting import stop_accepting
from crdtbucket.base.counted import counted
from crdtbucket.base.loaded_files import LoadedFiles
from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.server.app import Api
from crdtbucket.http.server.connections import ClientConnection
from crdtbucket.http.server.console.console_routes import CONSOLE
from crdtbucket.http.server.listening import ACCEPTS_A_TURN, BACKLOG, Listening
from crdtbucket.http.server.secure_connection import SecureConnection, served_context
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.siblings import Siblings
from crdtbucket.limiter.facade import Limiter

if TYPE_CHECKING:
    from crdtbucket.http.server.envoy_service import EnvoyService

LOG = logging.getLogger("crdtbucket.http")
LAST_WORDS_S = 0.1
"""Seconds for handlers whose connections have ended, or have not ended within the deadline."""
ENDING = (signal.SIGTERM, signal.SIGINT)


class SidecarServer:
    """Answers HTTP from `start` to `stop`; the limiter is opened and closed by others."""

    def __init__(
        self,
        limiter: Limiter,
        settings: ServeSettings,
        siblings: Siblings | None = None,
        listening: Iterable[Listening] = (),
    ) -> None:
        """`siblings`: the other workers of the server. `listening`: addresses that are bound."""
        self._siblings = siblings or Siblings()
        self.api = Api(limiter, settings, self._siblings)
        limiter.certificates.watch("serve", settings.tls_cert)
        self.addresses: list[str] = []
        """Where clients reach it, once started."""
        self._listening = list(listening)
        self._wanted = () if self._listening else settings.listen
        self._servers: list[asyncio.Server] = []
        self._http: web.Server | None = None
        self._certificate: LoadedFiles[ssl.SSLContext] | None = None
        self._envoy: EnvoyService | None = None

    def bind(self) -> None:
        """Binds all addresses, on the running event loop if one of them is for gRPC. Raises
        `CannotListen`, after which none is bound, and `CrdtbucketError` for a missing package."""
        settings = self.api.settings
        if settings.tls_cert is not None and settings.tls_key is not None:
            files = settings.tls_cert, settings.tls_key
            self._certificate = LoadedFiles(files, partial(served_context, *files), LOG)
        try:
            for address in self._wanted:
                self._listening.append(Listening(address))
            if settings.grpc is not None:
                self._envoy = self._envoy_service(settings)
                self._envoy.bind()
        except BaseException:
            self.give_up_addresses()
            raise

    async def start(self) -> None:
        """Answers on the addresses that are bound."""
        self._http = self.api.server()
        self.api.connections.start()
        for one in self._listening:
            await self._listen(one)
            tls = self._certificate is not None
            self.addresses.append(one.name.replace("http:", "https:", 1) if tls else one.name)
            if not one.local:
                self._warn(self.addresses[-1])
        if self._envoy is not None:
            await self._envoy.start()
            self.addresses.append(self._envoy.name)
            if not self._envoy.local:
                self._warn(self._envoy.name)
        if self._siblings.address:
            private = Listening(self._siblings.address)
            self._listening.append(private)
            await self._listen(private)

    async def _listen(self, one: Listening) -> None:
        loop = asyncio.get_running_loop()
        unix = one.socket.family == socket.AF_UNIX
        listen = loop.create_unix_server if unix else loop.create_server
        certificate = None if unix else self._certificate
        factory = self._connections(certificate)
        self._servers.append(await listen(factory, sock=one.socket, backlog=ACCEPTS_A_TURN))
        # asyncio has one number for both; listening again changes the kernel's alone.
        one.socket.listen(BACKLOG)

    def _warn(self, address: str) -> None:
        if self.api.settings.calls_need is None:
            LOG.warning("other hosts can reach %s, and each of them can take tokens", address)
        elif self._certificate is None:
            LOG.warning(
                "other hosts can reach %s without TLS: the token can be read on the way",
                address,
            )

    async def stop(self) -> None:
        """Answers what is under way, within the deadline, and closes every connection."""
        self.api.ending()
        for one in self._listening:
            one.unlink()
        await stop_accepting(self._servers)
        self.give_up_addresses()
        await asyncio.gather(self.api.connections.drain(), self.end_envoy())
        if self._http is not None:
            await self._http.shutdown(LAST_WORDS_S)
        self.api.connections.stop()
        await self._siblings.close()

    def _envoy_service(self, settings: ServeSettings) -> EnvoyService:
        try:
            from crdtbucket.http.server.envoy_service import EnvoyService
        except ImportError as error:
            raise CrdtbucketError(
                f"--grpc needs grpcio and protobuf ({error}): pip install 'crdtbucket[envoy]'"
            ) from error
        shared = bool(self._siblings.address)
        api = self.api
        return EnvoyService(api.descriptors, api.quotas, api.tokens, settings, shared=shared)

    async def end_envoy(self) -> None:
        """Answers what is under way for Envoy, and gives its address up; once is enough."""
        if self._envoy is not None:
            await self._envoy.stop(self.api.settings.drain_deadline)

    def _connections(
        self, certificate: LoadedFiles[ssl.SSLContext] | None
    ) -> Callable[[], ClientConnection]:
        http, connections = self._http, self.api.connections
        assert http is not None
        if certificate is None:
            return lambda: ClientConnection(connections, http)
        return lambda: SecureConnection(connections, http, certificate)

    def give_up_addresses(self) -> None:
        """Closes all addresses: from now on no client can connect."""
        for one in self._listening:
            one.close()


async def serve(
    server: SidecarServer, limiter: Limiter, *, until_closed: int | None = None
) -> None:
    """Opens the limiter and serves it until SIGTERM or SIGINT; then ends in order.

    The open requests are answered, then the node leaves the mesh, sends Redis what was counted
    without it, and writes the snapshot. A second signal ends the process at once. `until_closed`:
    the reading end of a pipe; the server ends as well when the other end is closed.
    """
    server.bind()  # first, as a node without an address should not join
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, _setting(loop, ending))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # one for a worker may have come before
    if until_closed is not None:
        loop.add_reader(until_closed, _closed(loop, until_closed, ending))
    try:
        async with limiter:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # it is handled now
            await server.start()
            where = ", ".join(server.addresses)
            buckets = counted(count_of_buckets(limiter), "bucket")
            what = "%s serves %s on %s, and its console at %s"
            LOG.info(what, limiter.node, buckets, where, CONSOLE)
            await ending.wait()
            LOG.info("%s ends: answering what is open, then leaving", limiter.node)
            await server.stop()
    finally:
        server.give_up_addresses()
        await server.end_envoy()
        for number in ENDING:
            loop.remove_signal_handler(number)


def count_of_buckets(limiter: Limiter) -> int:
    """The buckets of a limiter without those of overrides."""
    every = limiter.buckets
    by_glob = sum(len(one.spec.overrides) for one in every.values())
    from_outside: int = limiter.stats()["overrides"]["limits"]
    return len(every) - by_glob - from_outside


def _closed(loop: asyncio.AbstractEventLoop, pipe: int, event: asyncio.Event) -> Callable[[], None]:
    def closed() -> None:
        loop.remove_reader(pipe)
        event.set()

    return closed


def _setting(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    def end() -> None:
        event.set()
        for number in ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    return end
