"""A message engine as the carrier: nodes find each other by their names, and need no addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from crdtbucket.base.address import MOST_CHARACTERS
from crdtbucket.base.deadline import within
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.engines.engine import Engine
from crdtbucket.mesh.engines.engine_channel import EngineChannel
from crdtbucket.mesh.engines.engine_exchange import EngineExchange
from crdtbucket.mesh.engines.subjects import decode_name, encode_name
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.channel import ChannelLost
from crdtbucket.mesh.links.handshake import HANDSHAKE_S, MeshEndpoint, answered
from crdtbucket.mesh.links.unreached import PeerSource
from crdtbucket.mesh.mesh_config import MeshConfig

MAX_HANDSHAKES = 64
MAX_HANDSHAKES_PER_NAME = 4
SECOND_PAUSE_S = 1.0
"""Seconds for which a node leaves the first dial to the other one."""
FRESH_S = 60.0
"""A node that announced itself within this time (s) is dialled, even if no member names it."""


class EngineTransport:
    """Channels over an engine; see `Transport`. It is also the `ExchangeHost`."""

    def __init__(self, host: MeshEndpoint, config: MeshConfig, engine: Engine) -> None:
        """Raises `MeshError` for a node whose name is too long for its address."""
        self.address = f"{engine.kind}:{encode_name(host.name)}"
        if len(self.address) > MOST_CHARACTERS:
            raise MeshError(
                f"the name of this node is too long for {engine.kind}, where all but letters, "
                f"digits and - takes three characters a byte: make {self.address!r} at most "
                f"{MOST_CHARACTERS} characters long"
            )
        self._host = host
        self._kind = engine.kind
        self._exchange = EngineExchange(
            engine, config, host.counters, self, name=host.name, instance=host.instance
        )
        self._tasks = BackgroundTasks()
        self._handshakes: list[str] = []
        """The nodes that dial at the moment, by name, once for each dial."""
        self._running = False

    async def start(self) -> None:
        """Connects in the background: a node serves without its engine."""
        self._running = True
        self._exchange.start()

    def sources(self) -> list[PeerSource]:
        """None: nodes announce themselves."""
        return []

    def wanted(self, known: Sequence[str]) -> list[str]:
        """The nodes that announce themselves, and members, if they are of this engine."""
        now = asyncio.get_running_loop().time()
        fresh = [n for n, one in self._exchange.sightings.items() if now - one.at < FRESH_S]
        found = [f"{self._kind}:{encode_name(name)}" for name in fresh]
        found += [one for one in known if one.startswith(f"{self._kind}:")]
        # The sightings do not contain this process' own announcements: if one has its name, it
        # comes from another process, which is dialled, so that one of the two learns of the
        # conflict.
        has_namesake = self._host.name in fresh
        return [one for one in dict.fromkeys(found) if has_namesake or one != self.address]

    async def refuse_new(self) -> None:
        """Takes no more calls."""
        self._running = False

    async def stop(self) -> None:
        """Ends what is left, and the connection with the engine."""
        await self._tasks.end()
        await self._exchange.stop()

    # -- for the dialer

    def may_dial(self, address: str) -> bool:
        """Whether the address can be the name of a node of this engine."""
        if decode_name(address.removeprefix(f"{self._kind}:")) is not None:
            return True
        self._host.refusals.add("address", f"not dialling {address!r}: no name of a node")
        return False

    def first_pause(self, address: str) -> float:
        """The pause (s) before a new node is dialed: of two nodes that see each other the one whose
        name sorts first dials."""
        return 0.0 if self.address <= address else SECOND_PAUSE_S

    async def ready(self) -> None:
        """Returns when the engine is connected: without it no node can be dialled."""
        await self._exchange.online.wait()

    async def connect(self, address: str) -> EngineChannel:
        """A channel to the node with this name."""
        name = decode_name(address.removeprefix(f"{self._kind}:"))
        if name is None:
            raise ChannelLost(f"{address!r} is no name of a node", by_peer=False)
        return await self._exchange.connect(name)

    # -- for the exchange

    def sighted(self, name: str) -> None:
        """Dials a node that has announced itself and has no link, or makes it dial this one."""
        address = f"{self._kind}:{encode_name(name)}"
        if not self._running or self._host.links.get(name) is not None:
            self._host.found()
        elif self.first_pause(address):
            self._host.found()
            self._tasks.spawn(self._exchange.invite(name))
        else:
            self._host.found(address)

    def called(self, channel: EngineChannel) -> bool:
        """Accepts a call, unless too many callers have not proved their identity yet."""
        name = channel.peer_name
        if not self._running:
            return False
        if (
            len(self._handshakes) >= MAX_HANDSHAKES
            or self._handshakes.count(name) >= MAX_HANDSHAKES_PER_NAME
        ):
            text = f"refused a call of {name!r}: too many have not authenticated"
            self._host.refusals.add("too_many_unproven", text)
            return False
        self._handshakes.append(name)
        self._tasks.spawn(self._answer(channel))
        return True

    # -- inside

    async def _answer(self, channel: EngineChannel) -> None:
        name = channel.peer_name
        place = f"{self._kind}:{encode_name(name)}"
        link = None
        try:
            link = await within(HANDSHAKE_S, answered(channel, self._host, place))
        except asyncio.TimeoutError:
            text = f"refused a call of {place}: not authenticated within {HANDSHAKE_S:g} s"
            self._host.refusals.add("handshake_timeout", text)
        except WireError as error:
            self._host.refusals.add("malformed", f"refused a call of {place}: {error}")
        finally:
            self._handshakes.remove(name)
        if link is None:
            await channel.close()
        else:
            await self._host.serve(link)
