"""TLS of a server of decisions: its certificate, and connections that begin with a handshake."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl

from aiohttp import web

from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.server.connections import ClientConnection, Connections

LOG = logging.getLogger("crdtbucket.http")


class ServedCertificate:
    """A TLS context whose certificate is that of its files, also after they have changed."""

    def __init__(self, cert: str, key: str) -> None:
        """Paths of PEM files. Raises `CrdtbucketError` when they cannot be loaded."""
        self._files = cert, key
        self._seen = self._stamp()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            self._load(self._context)
        except (OSError, ssl.SSLError) as error:
            raise CrdtbucketError(
                f"--tls-cert {cert} with --tls-key {key} cannot be loaded ({error}): give a "
                "readable PEM certificate and its unencrypted private key"
            ) from error

    def context(self) -> ssl.SSLContext:
        """For the next connection. What cannot be loaded of changed files is logged once, and the
        certificate that is in use stays."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                # On a context of its own first: half a pair must not get into the one in use.
                self._load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
                self._load(self._context)
            except (OSError, ssl.SSLError) as error:
                LOG.error(
                    "the changed %s and %s cannot be loaded, what was in use stays: %s",
                    *self._files,
                    error,
                )
            else:
                LOG.info("the changed certificate %s is in use", self._files[0])
        return self._context

    def _load(self, context: ssl.SSLContext) -> None:
        # A password given here, even an empty one, keeps OpenSSL from asking on the terminal.
        context.load_cert_chain(*self._files, password="")

    def _stamp(self) -> tuple[object, ...]:
        try:
            return tuple((one.st_mtime_ns, one.st_ino) for one in map(os.stat, self._files))
        except OSError as error:
            return (error.errno,)


class SecureConnection(ClientConnection):
    """A connection that has its place, and its deadline, before its handshake has begun."""

    __slots__ = ("_certificate", "_early", "_securing")

    def __init__(
        self, connections: Connections, server: web.Server, certificate: ServedCertificate
    ) -> None:
        super().__init__(connections, server)
        self._certificate = certificate
        self._early = b""
        self._securing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; HTTP begins after the handshake."""
        pipe = self.accepted(transport)
        # Its first step runs before the first read.
        self._securing = asyncio.get_running_loop().create_task(self._secure(pipe))

    def data_received(self, data: bytes) -> None:
        """Decrypted bytes."""
        if self._securing is None:
            super().data_received(data)
        else:
            self._early += data  # the handshake is over, and `_secure` has not had its turn yet

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
        context, secured = self._certificate.context(), None
        try:
            secured = await asyncio.get_running_loop().start_tls(
                pipe, self, context, server_side=True
            )
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


__all__ = ["SecureConnection", "ServedCertificate"]
