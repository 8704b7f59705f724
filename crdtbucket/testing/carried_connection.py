"""One connection through the fault proxy: its two ends, and the bytes on their way between them."""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import cast

_LINGER_ZERO = struct.pack("ii", 1, 0)  # a close then sends RST
# Most bytes on their way in one direction; beyond that the sender's own socket fills up.
_IN_FLIGHT = 1 << 20
# A narrow way hands on what it carries in this many pieces a second.
_PIECES = 100


@dataclass
class Way:
    """One direction of all connections. A change affects the bytes that come after it."""

    delay: float = 0.0
    """The delay in seconds."""
    jitter: float = 0.0
    """Up to so many seconds are added to the delay, evenly spread; bytes keep their order."""
    bandwidth: float = 0.0
    """Bytes a second on each connection; 0: no bound."""
    close_delay: float = 0.0
    """Seconds for which the end of a stream is held back beyond that."""
    passing: bool = True
    """False while nothing passes in this direction alone; see `FaultProxy.let_pass`."""


class Carrier(ABC):
    """Carries connections: their ways, and the faults of all of them."""

    def __init__(self, there: Way, back: Way, random: Random) -> None:
        self.there = there
        """From callers to the server."""
        self.back = back
        """From the server to callers."""
        self.random = random
        self.passing = True
        """False while a cut lasts."""
        self.carried: set[CarriedConnection] = set()
        """The connections that are carried now, or wait to be."""
        self.fuse: tuple[int, Callable[[CarriedConnection], None]] | None = None
        """After how many more bytes to callers a fault happens to the connection that carries the
        last of them, and that fault; None without one."""

    @abstractmethod
    async def reach(self, server: Callable[[], asyncio.Protocol]) -> None:
        """Connects to the server with the protocol that `server` makes. Raises `OSError`."""

    def limit(self, size: int) -> tuple[int, Callable[[CarriedConnection], None] | None]:
        """How many of `size` bytes to a caller may pass, and the fault that happens to the
        connection then."""
        if self.fuse is None:
            return size, None
        left, action = self.fuse
        if size < left:
            self.fuse = left - size, action
            return size, None
        self.fuse = None
        return left, action


class CarriedConnection:
    """One connection: its two ends, and the stream in each direction."""

    def __init__(self, proxy: Carrier) -> None:
        self.proxy = proxy
        self.ended = False
        self.caller, self.server = _End(self), _End(self)
        self._streams = (
            _Stream(self, proxy.there, self.caller, self.server),
            _Stream(self, proxy.back, self.server, self.caller),
        )
        self._reaching: asyncio.Task[None] | None = None

    def made(self, end: _End) -> None:
        """One end is connected; that of the caller comes first."""
        if self.ended:
            end.abort()
        else:
            self.resume()

    def resume(self) -> None:
        """Lets bytes pass again, also after a cut or a stall."""
        proxy = self.proxy
        # A new connection needs both directions.
        open_ = proxy.passing and proxy.there.passing and proxy.back.passing
        if open_ and self._reaching is None:
            self._reaching = asyncio.ensure_future(self._reach())
        for stream in self._streams:
            stream.stalled = False
            stream.pump()

    def stall(self) -> None:
        """Holds back the bytes of the server."""
        self._streams[1].stalled = True

    def end(self) -> None:
        """Resets both ends."""
        if self._reaching is not None:
            self._reaching.cancel()
        self._forget()
        for end in (self.caller, self.server):
            end.abort()

    def finish(self) -> None:
        """One direction has ended. When both have, sends what is still buffered and closes both
        ends."""
        if all(stream.done for stream in self._streams):
            self._forget()
            for end in (self.caller, self.server):
                end.close()

    def _forget(self) -> None:
        self.ended = True
        self.proxy.carried.discard(self)

    async def _reach(self) -> None:
        try:
            await self.proxy.reach(lambda: self.server)
        except OSError:
            self.end()  # the server cannot be reached: the caller's connection ends


class _End(asyncio.Protocol):
    """One end of a connection. Bytes from its socket go into the stream `out`; bytes of the stream
    `into` go to its socket."""

    out: _Stream
    into: _Stream

    def __init__(self, carried: CarriedConnection) -> None:
        self.transport: asyncio.Transport | None = None
        self.full = False
        self._carried = carried

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._carried.made(self)

    def data_received(self, data: bytes) -> None:
        self.out.put(data)

    def eof_received(self) -> bool:
        self.out.put(b"")
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._carried.ended:
            self.out.put(None)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.into.pump()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Ends the connection at once, by RST where it is TCP."""
        if self.transport is None:
            return
        found = self.transport.get_extra_info("socket")
        if found.family != socket.AF_UNIX and not self.transport.is_closing():
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.transport.abort()


class _Stream:
    """One direction: pieces on their way, each with the time at which it is due.

    A piece is bytes, b"" for their end, or None for a reset.
    """

    def __init__(self, carried: CarriedConnection, way: Way, source: _End, sink: _End) -> None:
        self.done = self.stalled = False
        self._carried, self._way, self._source, self._sink = carried, way, source, sink
        self._pieces: deque[tuple[float, bytes | None]] = deque()
        self._size = 0
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        source.out = sink.into = self

    def put(self, data: bytes | None) -> None:
        """Takes bytes that the source has sent."""
        way = self._way
        due = asyncio.get_running_loop().time() + way.delay
        due += way.jitter * self._carried.proxy.random.random()
        if not data:
            self._last = max(due + way.close_delay, self._last)
            self._pieces.append((self._last, data))
        else:
            step = max(1, int(way.bandwidth / _PIECES)) if way.bandwidth else len(data)
            for start in range(0, len(data), step):
                piece = data[start : start + step]
                spent = len(piece) / way.bandwidth if way.bandwidth else 0.0
                self._last = max(due, self._last) + spent
                self._pieces.append((self._last, piece))
            self._size += len(data)
        self.pump()

    def pump(self) -> None:
        """Hands on all that is due and may pass."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop, pieces = asyncio.get_running_loop(), self._pieces
        while pieces and self._may_pass():
            due, data = pieces[0]
            if due > loop.time():
                self._timer = loop.call_at(due, self.pump)
                break
            pieces.popleft()
            self._pass(data)
        source = self._source.transport
        if source is not None:
            if self._size > _IN_FLIGHT:
                source.pause_reading()
            else:
                source.resume_reading()

    def _may_pass(self) -> bool:
        carried, sink = self._carried, self._sink
        passing = carried.proxy.passing and self._way.passing
        passing &= not self.stalled and not carried.ended
        return passing and sink.transport is not None and not sink.full

    def _pass(self, data: bytes | None) -> None:
        carried, sink = self._carried, self._sink.transport
        assert sink is not None
        if data is None or sink.is_closing():
            carried.end()
        elif not data:
            self.done = True
            try:
                sink.write_eof()
            except OSError:  # reset meanwhile, which the loop has yet to report
                carried.end()
            else:
                carried.finish()
        elif self._way is carried.proxy.there:
            self._size -= len(data)
            sink.write(data)
        else:
            size, action = carried.proxy.limit(len(data))
            self._size -= size
            sink.write(data[:size])
            if size < len(data):
                self._pieces.appendleft((0.0, data[size:]))
            if action is not None:
                action(carried)
