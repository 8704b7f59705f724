"""Calls nodes over an engine, by their names, for an observer, which is no node itself."""

from __future__ import annotations

import asyncio
import os

from crdtbucket.base.deadline import within
from crdtbucket.mesh.engines.engine import Engine
from crdtbucket.mesh.engines.engine_channel import EngineChannel, open_envelope
from crdtbucket.mesh.engines.engine_exchange import ANNOUNCE_S, EngineExchange
from crdtbucket.mesh.engines.subjects import decode_name, encode_name
from crdtbucket.mesh.links.channel import ChannelLost
from crdtbucket.mesh.links.counters import MeshCounters
from crdtbucket.mesh.mesh_config import MeshConfig

ANNOUNCED_S = ANNOUNCE_S + 1.0
"""Seconds within which every node that the engine reaches has announced itself."""


class EngineCaller(EngineExchange):
    """An exchange that calls nodes, and takes no calls."""

    def __init__(self, engine: Engine, config: MeshConfig, name: str) -> None:
        """`name`: the engine has to allow publishing and subscribing under it."""
        instance = int.from_bytes(os.urandom(8), "big")
        super().__init__(engine, config, MeshCounters(), name=name, instance=instance)
        self.kind = engine.kind
        self._said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """"" when the engine is connected; else why it is not."""

    async def enter(self, timeout: float) -> str:
        """Connects within `timeout` s; "" when the engine allows all that is needed, or why not."""
        self._engine.start(self)
        await asyncio.wait({self._said}, timeout=timeout)
        if not self._said.done():
            return f"no answer within {timeout:g} s: is it overloaded, or a firewall between?"
        if why := self._said.result():
            return f"{why}: start it, or correct mesh.servers and mesh.credentials"
        try:
            return await within(timeout, self._engine.verify())
        except asyncio.TimeoutError:
            return f"no answer within {timeout:g} s: is it overloaded?"

    async def nodes(self) -> list[str]:
        """The addresses of all nodes that announce themselves, sorted; it takes `ANNOUNCED_S`."""
        await asyncio.sleep(ANNOUNCED_S)
        return [f"{self.kind}:{encode_name(name)}" for name in sorted(self.sightings)]

    async def connect(self, address: str) -> EngineChannel:
        """A channel to the node at an address of this engine. Raises `ChannelLost`."""
        kind, _, encoded = address.partition(":")
        name = decode_name(encoded)
        if kind != self.kind or name is None:
            raise ChannelLost(f"{address!r} is no node of {self.kind}", by_peer=False)
        return await super().connect(name)

    async def close(self) -> None:
        """Ends all calls, and the connection with the engine."""
        await self.stop()

    # -- what the engine says

    def engine_up(self, server: str) -> None:
        """The engine is connected."""
        self.online.set()
        self._say("")

    def engine_down(self, why: str) -> None:
        """The engine is not connected: calls that are under way get no answer."""
        self.online.clear()
        self._say(why or "it does not answer")

    def arrived(self, sender: str, data: bytes) -> None:
        """A message has come: for a call of this process, for another process with this name, or
        for the node itself."""
        message = open_envelope(data)
        if message is not None and not message.from_dialer:
            self._delivered(sender, message)

    def _say(self, why: str) -> None:
        if not self._said.done():
            self._said.set_result(why)
