"""TLS of the sidecar: its certificate, and connections that begin with a handshake."""

from __future__ import annotations

import asyncio
import logging
import ssl

from aiohttp import web

from crdtbucket.base.accepting import secured_by_tls
from crdtbucket.base.loaded_files import LoadedFiles, load_key_pair
from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.server.connections import ClientConnection, Connections

LOG = logging.getLogger("crdtbucket.http")


def served_context(cert: str, key: str) -> ssl.SSLContext:
    """The TLS context for serving clients with this certificate. Raises `CrdtbucketError` for PEM
    files that cannot be loaded."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    named = f"--tls-cert {cert} with --tls-key {key}"
    load_key_pair(context, cert, key, named, CrdtbucketError)
    return context


class SecureConnection(ClientConnection):
    """A connection that has its place, and its deadline, before its handshake has begun."""

    __slots__ = ("_certificate", "_early", "_securing")

    def __init__(
        self,
        connections: Connections,
        server: web.Server,
        certificate: LoadedFiles[ssl.SSLContext],
    ) -> None:
        super().__init__(connections, server)
        self._certificate = certificate
        self._early = b""
        self._securing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; HTTP begins after the handshake."""
        pipe = self.accepted(transport)
        self._securing = asyncio.get_running_loop().create_task(self._secure(pipe))

    def data_received(self, data: bytes) -> None:
        """Takes decrypted bytes; before `_secure` has begun, bytes of the handshake."""
        if self._securing is None:
            super().data_received(data)
        else:
            self._early += data

    def eof_received(self) -> bool:  # type: ignore[override]  # as of its base
        """The client sends nothing more; TLS ends for both sides at once."""
        return False

    def refuse(self) -> None:
        """Closes it; with a 503 where the client can read it."""
        if self._securing is None:
            super().refuse()
        else:
            self.abort()

    def force_close(self) -> None:
        """Closes it after what is being answered."""
        if self._securing is not None:
            self.abort()
        super().force_close()

    async def _secure(self, pipe: asyncio.Transport) -> None:
        context, secured = self._certificate.now(), None
        early, self._early = self._early, b""
        try:
            secured = await secured_by_tls(pipe, self, context, early)
        except OSError as error:  # TLS' own errors are some, too
            LOG.debug("no TLS with %s: %s", self.remote_address or "this host", error)
        self._securing = None
        if secured is None or secured.is_closing():
            pipe.abort()
            self.connection_lost(None)  # asyncio calls it only after a handshake that succeeded
            return
        self.begin(secured)
        if self._early:
            early, self._early = self._early, b""
            super().data_received(early)
