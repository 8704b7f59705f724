"""A channel over an engine. Its messages carry a number, so that two dials between the same nodes
are kept apart."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import NamedTuple, Protocol

from crdtbucket.mesh.links.channel import ChannelLost

OPENS, CARRIES, ENDS, INVITES = 1, 2, 3, 4
FROM_DIALER = 128
"""Added to the kind of a message that the dialing side sent."""
_HEAD = struct.Struct(">BQ")
MAX_WAITING = 256
MAX_WAITING_BYTES = 4 * 1024 * 1024


class Envelope(NamedTuple):
    """One message of a channel."""

    kind: int
    from_dialer: bool
    number: int
    """Random 64 bits of the dialer."""
    body: bytes

    def encode(self) -> bytes:
        """The bytes of the message."""
        kind = self.kind | (FROM_DIALER if self.from_dialer else 0)
        return _HEAD.pack(kind, self.number) + self.body


def open_envelope(data: bytes) -> Envelope | None:
    """The message in these bytes; None for bytes that are no message, or one of a later version."""
    if len(data) < _HEAD.size:
        return None
    kind, number = _HEAD.unpack_from(data)
    from_dialer, kind = bool(kind & FROM_DIALER), kind & ~FROM_DIALER
    if kind not in (OPENS, CARRIES, ENDS, INVITES):
        return None
    return Envelope(kind, from_dialer, number, data[_HEAD.size :])


class Postman(Protocol):
    """Carries the messages of channels."""

    async def post(self, channel: EngineChannel, kind: int, body: bytes) -> None:
        """Sends a message of this kind to the other end of the channel."""

    def forget(self, channel: EngineChannel) -> None:
        """The channel has ended: nothing more comes to it."""


class EngineChannel:
    """A channel to one peer over a message engine, which knows the peer by its name alone."""

    lossy = True
    certified = False
    certified_names = ()
    remote = source = ""

    def __init__(self, postman: Postman, peer_name: str, number: int, *, dialed: bool) -> None:
        self.peer_name = peer_name
        self.number = number
        self.dialed = dialed
        self.last_seen: float | None = None
        """When the last message came (the loop's s); None before the first."""
        self.asked_at = -1e9
        """When the engine was last asked whether the peer is there (the loop's s)."""
        self._postman = postman
        self._opened = not dialed
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._more = asyncio.Event()
        self._end: tuple[str, bool] | None = None
        """How the channel has ended, and whether the peer ended it; None before."""

    @property
    def key(self) -> tuple[str, int, bool]:
        """The key under which an exchange finds the channel: the peer, the number, and whether this
        side dialed."""
        return self.peer_name, self.number, self.dialed

    async def send(self, data: bytes) -> None:
        """Posts a message; while the engine is gone it is lost."""
        if self._end is not None:
            return  # `receive` says so, after all that came before the end
        kind = CARRIES if self._opened else OPENS
        self._opened = True
        await self._postman.post(self, kind, data)

    async def receive(self) -> bytes:
        """The next message; the oldest ones were dropped where too many waited."""
        while not self._waiting:
            if self._end is not None:
                # A new error each time: one that is kept would keep the stack frames it has passed.
                raise ChannelLost(self._end[0], by_peer=self._end[1])
            self._more.clear()
            await self._more.wait()
        data = self._waiting.popleft()
        self._waiting_bytes -= len(data)
        return data

    async def close(self) -> None:
        """Sends the other end a notice, and ends. Safe to call twice."""
        if self.end("closed", by_peer=False):
            await self._postman.post(self, ENDS, b"")

    def abort(self) -> None:
        """Ends it without a message; one that is sent here after this is answered with an end."""
        self.end("closed", by_peer=False)

    # -- for the postman

    def push(self, data: bytes) -> None:
        """A message has come."""
        self.last_seen = asyncio.get_running_loop().time()
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        while len(self._waiting) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
            self._waiting_bytes -= len(self._waiting.popleft())
        self._more.set()

    def end(self, why: str, *, by_peer: bool) -> bool:
        """Marks the channel as ended; False when it had ended before."""
        if self._end is not None:
            return False
        self._end = why, by_peer
        self._postman.forget(self)
        self._more.set()
        return True
