"""A TCP proxy that is the network between two processes: it delays, stalls and resets.

The processes at its ends are untouched: they call the proxy's port in place of the other's.
"""

from __future__ import annotations

import asyncio

HOST = "127.0.0.1"
_CHUNK = 65_536
# Chunks on their way in one direction; beyond that the sender's own socket fills up, as it would.
_IN_FLIGHT = 64


class Proxy:
    """Carries connections from a free port to `host:port`; one event loop, `start` to `stop`."""

    def __init__(self, port: int, *, host: str = HOST, delay: float = 0.0) -> None:
        """`port` and `host`: where calls are carried to. `delay`: seconds, each way."""
        self.host, self.target = host, port
        self.delay = delay
        self.port = 0
        """Where to call it, once started."""
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port of the loopback interface."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is None:
            return
        self._server.close()
        await self.reset()
        await self._server.wait_closed()
        self._server = None

    @property
    def connections(self) -> int:
        """Connections that are carried now, or wait to be."""
        return len(self._connections)

    def cut(self) -> None:
        """Nothing passes from now on, and nobody is told: no byte, no end, no new connection."""
        self._open.clear()

    def heal(self) -> None:
        """Everything passes again, what was held back first."""
        self._open.set()

    async def reset(self) -> None:
        """End every connection at once; what was on its way is lost."""
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            # Asked for by `reset`, which waits for it: the server need not hear of it.
            pass
        except OSError:
            pass  # an end is gone, which is told to the other by closing
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        far_reader, far_writer = await asyncio.open_connection(self.host, self.target)
        ways = [
            asyncio.ensure_future(self._pass(reader, far_writer)),
            asyncio.ensure_future(self._pass(far_reader, writer)),
        ]
        try:
            await asyncio.gather(*ways)
            # Both ends said their last word: what is still buffered for them goes out first.
            writer.close()
            far_writer.close()
            await writer.wait_closed()
            await far_writer.wait_closed()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction of a connection, until its sender ends it."""
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
        reading = asyncio.ensure_future(self._read(reader, way))
        try:
            while True:
                due, data = await way.get()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                await self._open.wait()
                if not data:
                    writer.write_eof()
                    break
                writer.write(data)
                await writer.drain()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(
        self, reader: asyncio.StreamReader, way: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        data = b"?"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                data = b""  # a reset: the other end sees the end of the stream
            await way.put((asyncio.get_running_loop().time() + self.delay, data))


__all__ = ["HOST", "Proxy"]
