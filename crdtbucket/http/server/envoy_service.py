"""Envoy's rate limit service and rate limit quota service over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import grpc
import grpc.aio

from crdtbucket.base.deadline import first_of
from crdtbucket.base.loaded_files import LoadedFiles
from crdtbucket.http.server.descriptor_limits import DescriptorLimits
from crdtbucket.http.server.envoy_messages import METHOD, SERVICE, read_request, write_answer
from crdtbucket.http.server.listening import SOCKET_MODE, UNIX, CannotListen, Listening
from crdtbucket.http.server.quota_messages import (
    QUOTA_METHOD,
    QUOTA_SERVICE,
    read_reports,
    write_actions,
)
from crdtbucket.http.server.quota_server import MAX_ID_BYTES, QuotaServer
from crdtbucket.http.server.quota_subscription import AT_ONCE, QuotaStream
from crdtbucket.http.server.refusal import Refusal, refusal_of
from crdtbucket.http.server.secure_connection import served_context
from crdtbucket.http.server.serve_settings import ServeSettings, others_reach
from crdtbucket.http.server.tokens import Tokens

LOG = logging.getLogger("crdtbucket.http")
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""The codes of refusals, by their HTTP status; all others are INTERNAL."""
MAX_MESSAGE = 2 * MAX_ID_BYTES
"""Bytes. A report holds all bucket ids of an Envoy; if it is refused, none can be charged."""

QUIET_S, GATHER_S = 0.005, 0.05
"""At the end calls are taken in until none has come for the first time, for the second at most (s).
An Envoy waits 20 ms for an answer unless told otherwise."""


class EnvoyService:
    """Answers both services at one address, from `start` to `stop`."""

    def __init__(
        self,
        limits: DescriptorLimits,
        quotas: QuotaServer,
        tokens: Tokens,
        settings: ServeSettings,
        *,
        shared: bool,
    ) -> None:
        """`shared`: other workers listen at the address, too."""
        assert settings.grpc is not None, "there is an address to listen on"
        self._limits = limits
        self._quotas = quotas
        self._tokens = tokens
        self._settings = settings
        self._shared = shared
        self._server: grpc.aio.Server | None = None
        self._assigning: asyncio.Task[None] | None = None
        self._begun, self._holding = 0, False
        """The calls that have begun; and whether their answers are held until the end is said."""
        self._ending = asyncio.Event()
        self.name, self.local = "", not others_reach(settings.grpc)
        """The address where it is reached, once it is bound; and whether only this host can reach
        it."""

    def bind(self) -> None:
        """Takes the address, on the running event loop. Raises `CannotListen`."""
        address = str(self._settings.grpc)
        if not self._shared:
            # Says what is wrong, and removes the socket of a process that is gone.
            Listening(address, option="--grpc").close()
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", int(self._shared)),
                ("grpc.max_receive_message_length", MAX_MESSAGE),
                ("grpc.max_allowed_incoming_connections", self._settings.max_connections),
            ]
        )
        answers = grpc.unary_unary_rpc_method_handler(self._answer)  # bytes to bytes
        streams = grpc.stream_stream_rpc_method_handler(self._stream)
        handlers = {SERVICE: {METHOD: answers}, QUOTA_SERVICE: {QUOTA_METHOD: streams}}
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(*one) for one in handlers.items())
        )
        try:
            if self._settings.tls_cert is None or address.startswith(UNIX):
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, _credentials(self._settings))
        except RuntimeError as error:
            raise CannotListen(f"cannot listen on {address!r}: {error}") from error
        if address.startswith(UNIX):
            os.chmod(address.removeprefix(UNIX), SOCKET_MODE)
            self.name = f"grpc+{address}"
        else:
            self.name = f"grpc://{address.rpartition(':')[0]}:{port}"
        self._server = server

    async def start(self) -> None:
        """Answers from now on."""
        assert self._server is not None, "it is bound"
        await self._server.start()
        self._assigning = asyncio.create_task(self._quotas.run())

    async def stop(self, grace: float) -> None:
        """Takes no new calls, ends the streams, and ends when calls under way are answered, after
        `grace` seconds at most. A second call does nothing.

        gRPC cancels the calls that it has received and not yet handed over, which under load are
        most of them (github.com/grpc/grpc/issues/41785). So all are taken in before, while answers
        are held: a client that waits for them sends no further call until it knows of the end.
        """
        server, self._server = self._server, None
        if self._assigning is not None:
            self._assigning.cancel()
            await asyncio.gather(self._assigning, return_exceptions=True)
        if server is None:
            self._ending.set()  # the first call may have been cancelled
            return
        try:
            await self._gather()
            stopping = asyncio.ensure_future(server.stop(grace))
            await asyncio.sleep(0)  # it tells the clients (GOAWAY), before they get their answers
        finally:
            self._ending.set()  # also when this is cancelled: no answer is held for ever
        await stopping
        if self.name.startswith("grpc+"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.name.removeprefix(f"grpc+{UNIX}"))

    async def _gather(self) -> None:
        """Takes in the calls that gRPC has received."""
        self._holding = True
        now = asyncio.get_running_loop().time
        last, begun = now() + GATHER_S, -1
        while begun != self._begun and now() < last:
            begun = self._begun
            await asyncio.sleep(QUIET_S)

    async def _answer(self, raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self._begun += 1
        async with _refusing(METHOD, context):
            self._check(context)
            domain, descriptors = read_request(raw)
            answer = write_answer(await self._limits.decide(domain, descriptors))
            if self._holding:
                await self._ending.wait()
            return answer
        raise AssertionError("abort raises")

    async def _stream(
        self, reports: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> None:
        async with _refusing(QUOTA_METHOD, context):
            self._check(context)
            stream = self._quotas.open()
            reading, writing = self._read(stream, reports), self._write(stream, context)
            try:
                await first_of(reading, writing, self._ending.wait())
            finally:
                self._quotas.close(stream)

    async def _read(self, stream: QuotaStream, reports: AsyncIterator[bytes]) -> None:
        async for raw in reports:
            for domain, usages in read_reports(raw):
                self._quotas.report(stream, domain, usages)
                await asyncio.sleep(0)  # other calls are answered in between

    async def _write(self, stream: QuotaStream, context: grpc.aio.ServicerContext) -> None:
        while True:
            await stream.ready.wait()
            # Awaits until the Envoy has room for it; until then the next ones replace each other.
            data = write_actions(stream.sent(AT_ONCE))
            writing: asyncio.Future[None] = asyncio.ensure_future(context.write(data))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                # gRPC cannot end a stream while it writes to it, and would leave the Envoy waiting.
                await asyncio.wait([writing])
                raise

    def _check(self, context: grpc.aio.ServicerContext) -> None:
        shown = dict(context.invocation_metadata() or ()).get("authorization", "")
        self._tokens.check_call(str(shown))


@contextlib.asynccontextmanager
async def _refusing(method: str, context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
    """Ends a call with the status of what is raised inside."""
    try:
        yield
    except Exception as error:
        refusal = refusal_of(error)
        if refusal is None:
            LOG.exception("a bug in the answer to %s", method)
            refusal = Refusal(500, "a bug of the server: its log has it")
        code = CODES.get(refusal.status, grpc.StatusCode.INTERNAL)
        await context.abort(code, refusal.detail)


def _credentials(settings: ServeSettings) -> grpc.ServerCredentials:
    """Credentials of the certificate as its files are at each handshake."""
    files = str(settings.tls_cert), str(settings.tls_key)
    pairs = LoadedFiles(files, partial(_pair, *files), LOG)
    used = pairs.now()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        now = pairs.now()
        if now is used:
            return None
        used = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(_configuration(used), changed)


def _pair(cert: str, key: str) -> tuple[bytes, bytes]:
    served_context(cert, key)  # raises for a pair that does not fit
    return Path(key).read_bytes(), Path(cert).read_bytes()


def _configuration(pair: tuple[bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([pair])
