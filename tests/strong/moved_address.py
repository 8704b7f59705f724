"""An address that at some moment begins to lead to another server, as a name or a balancer does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.strong.redis_server import Server


class MovedAddress:
    """An address that leads to one server, and later to another; open connections stay."""

    def __init__(self, server: Server) -> None:
        self.leads_to = server
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        to = self.leads_to
        try:
            other_reader, other_writer = await asyncio.open_connection(to.host, to.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.append(other_writer)
        await asyncio.gather(_pipe(reader, other_writer), _pipe(other_reader, writer))

    @contextlib.asynccontextmanager
    async def open(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[MovedAddress]:
        listener = await asyncio.start_server(self._serve, host, port)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for writer in self._writers:
                writer.transport.abort()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.transport.abort()


def linked(replica: Server) -> bool:
    """Whether a replica has caught up with its primary."""
    return b"master_link_status:up" in replica.call("INFO", "replication")
