"""All channels of one process over an engine: which nodes are there, and which channel a message
belongs to.

After a process is killed, the engine says at once that nobody is subscribed under its name. But it
says the same about a node on the other side of a broken gateway, and about one whose network
connection it has given up. So a channel counts as ended by the peer only when the peer was
connected with the very server that says so, and was seen a moment ago: after seconds of silence it
is a cut, and not an end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from crdtbucket.base.deadline import within
from crdtbucket.mesh.engines.engine import Engine
from crdtbucket.mesh.engines.engine_channel import (
    ENDS,
    INVITES,
    OPENS,
    EngineChannel,
    Envelope,
    open_envelope,
)
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.counters import LOG, MeshCounters
from crdtbucket.mesh.mesh_config import MeshConfig

ASK_S = 0.5
"""Seconds between two questions to the engine whether a peer is there; they are sent along with
frames."""
ANNOUNCE_S = 5.0
ALONE_AFTER = 6
"""Announcements after which a node that has met no other node logs it."""
MAX_PLACE_BYTES = 100
_INSTANCE = struct.Struct(">Q")


@dataclass
class Sighting:
    """The content of the last announcement of a node, and when it came (s of the event loop's
    clock)."""

    at: float
    place: str
    """The server that it is connected with."""


class ExchangeHost(Protocol):
    """The node that uses an exchange."""

    def called(self, channel: EngineChannel) -> bool:
        """A node dials, and its first message waits. Returns False if the call is not accepted."""

    def sighted(self, name: str) -> None:
        """A node has announced itself, or another process that has this node's name."""


class EngineExchange:
    """Channels to nodes by their names; the engine's listener."""

    def __init__(
        self,
        engine: Engine,
        config: MeshConfig,
        counters: MeshCounters,
        host: ExchangeHost | None = None,
        *,
        name: str,
        instance: int,
    ) -> None:
        """`name`, `instance`: of this process. `host`: None for one that nobody calls."""
        self.online = asyncio.Event()
        """Set while the engine is connected."""
        self.sightings: dict[str, Sighting] = {}
        """The nodes that have announced themselves, the newest last."""
        self._engine = engine
        self._host = host
        self._counters = counters
        self._name = name
        self._instance = instance
        self._most = 4 * config.max_peers
        self._recent_s = min(1.0 + 2 * config.gossip_interval, 5.0)
        self._channels: dict[tuple[str, int, bool], EngineChannel] = {}
        self._tasks = BackgroundTasks()
        self._connected = asyncio.Event()
        """Set when the engine has connected again, so that peers have to be informed of the
        server."""
        self._failing = False

    def start(self) -> None:
        """Begins to connect, takes calls, and announces this process."""
        self._engine.start(self)
        self._tasks.keep("announcing this node", self._announce)

    async def stop(self) -> None:
        """Ends all channels, and the engine."""
        for channel in list(self._channels.values()):
            channel.abort()
        await self._engine.stop()
        await self._tasks.end()

    async def connect(self, name: str) -> EngineChannel:
        """A channel to a node; it is not known yet whether the node is there."""
        await self.online.wait()
        number = int.from_bytes(os.urandom(8), "big")
        channel = EngineChannel(self, name, number, dialed=True)
        self._channels[channel.key] = channel
        return channel

    async def invite(self, name: str) -> None:
        """Makes a node dial this one, by an announcement to that node alone."""
        message = Envelope(INVITES, False, 0, self._announcement())
        await self._engine.publish(name, message.encode(), asks=False)

    # -- for channels

    async def post(self, channel: EngineChannel, kind: int, body: bytes) -> None:
        """Sends a message; with one every half second the engine is asked whether anybody is
        there."""
        now = asyncio.get_running_loop().time()
        asks = kind == OPENS or (kind != ENDS and now - channel.asked_at >= ASK_S)
        if asks:
            channel.asked_at = now
        data = Envelope(kind, channel.dialed, channel.number, body).encode()
        if not await self._engine.publish(channel.peer_name, data, asks=asks):
            self._counters.frames_dropped += 1  # later rounds carry the same counts

    def forget(self, channel: EngineChannel) -> None:
        """Removes a channel: no more messages come to it."""
        self._channels.pop(channel.key, None)

    # -- what the engine says

    def engine_up(self, server: str) -> None:
        LOG.info("connected with %s at %s", self._engine.kind, server)
        self._failing = False
        self._counters.engine_connections += 1
        self.online.set()
        self._connected.set()

    def engine_down(self, why: str) -> None:
        if self.online.is_set():
            self._counters.engine_losses += 1
        self.online.clear()
        if not self._failing:
            LOG.warning(
                "%s cannot be reached (%s): until it can, this node decides alone, by what it "
                "predicts for the others; it connects again by itself. Check that the server runs, "
                "and that mesh.servers and mesh.credentials are right",
                self._engine.kind,
                why,
            )
        self._failing = True

    def arrived(self, sender: str, data: bytes) -> None:
        message = open_envelope(data)
        if message is None:
            LOG.debug("a message of %r that is none of this protocol", sender)
            return
        if sender == self._name and (sender, message.number, message.from_dialer) in self._channels:
            return  # some engines deliver a client's own messages to it
        if message.kind == INVITES:
            self.announced(sender, message.body)
            return
        if self._delivered(sender, message) or message.kind == ENDS:
            return
        if message.kind == OPENS and message.from_dialer:
            self._called(sender, message)
        else:  # for an earlier process of this node, or for a channel that has ended
            self._tasks.spawn(self._refuse(sender, message))

    def announced(self, sender: str, data: bytes) -> None:
        if not _INSTANCE.size <= len(data) <= _INSTANCE.size + MAX_PLACE_BYTES:
            return
        if sender == self._name and _INSTANCE.unpack_from(data)[0] == self._instance:
            return
        place = data[_INSTANCE.size :].decode("utf-8", "replace")
        self.sightings.pop(sender, None)
        self.sightings[sender] = Sighting(asyncio.get_running_loop().time(), place)
        while len(self.sightings) > self._most:
            del self.sightings[next(iter(self.sightings))]
        if self._host is not None:
            self._host.sighted(sender)

    def nobody(self, name: str) -> None:
        sighting, place = self.sightings.get(name), self._engine.place
        here = place != "" and sighting is not None and sighting.place == place
        now = asyncio.get_running_loop().time()
        for channel in [one for one in self._channels.values() if one.peer_name == name]:
            if channel.last_seen is None:
                channel.end("nobody of this name is connected", by_peer=here)
            elif here and now - channel.last_seen <= self._recent_s:
                channel.end("its connection to the engine has ended", by_peer=True)

    # -- inside

    def _delivered(self, sender: str, message: Envelope) -> bool:
        """Gives a message to its channel. Returns whether there is one."""
        channel = self._channels.get((sender, message.number, not message.from_dialer))
        if channel is None:
            return False
        if message.kind == ENDS:
            channel.end("closed by the peer", by_peer=True)
        else:
            channel.push(message.body)
        return True

    def _called(self, sender: str, message: Envelope) -> None:
        channel = EngineChannel(self, sender, message.number, dialed=False)
        channel.push(message.body)
        self._channels[channel.key] = channel
        if self._host is None or not self._host.called(channel):
            channel.abort()
            self._tasks.spawn(self._refuse(sender, message))

    async def _refuse(self, sender: str, message: Envelope) -> None:
        answer = Envelope(ENDS, not message.from_dialer, message.number, b"")
        await self._engine.publish(sender, answer.encode(), asks=False)

    def _announcement(self) -> bytes:
        return _INSTANCE.pack(self._instance) + self._engine.place.encode()[:MAX_PLACE_BYTES]

    async def _announce(self) -> None:
        for number in itertools.count():
            await self.online.wait()
            self._connected.clear()
            if number == ALONE_AFTER and not self.sightings:
                LOG.warning(
                    "no other node has announced itself at %s yet. If others run, check that they "
                    "have the same mesh.subject_prefix and mesh.mesh_name, and that mesh.servers "
                    "are joined with their servers",
                    self._engine.kind,
                )
            await self._engine.announce(self._announcement())
            with suppress(asyncio.TimeoutError):
                await within(ANNOUNCE_S, self._connected.wait())
