"""An engine in memory: it does for the nodes of one test, on one event loop, what a NATS server
does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crdtbucket.base.clock import NS_PER_SECOND as NS
from crdtbucket.mesh.engines.engine import EngineListener
from crdtbucket.testing.simulated_network import SimulatedNetwork
from crdtbucket.testing.simulation_settings import SimulationSettings


class Broker:
    """All nodes of one engine. A test may stop it, or cut single nodes off."""

    def __init__(self) -> None:
        self.place = "server 1"
        self.runs = True
        self.nodes: list[MemoryEngine] = []
        self.drop: set[tuple[str, str]] = set()
        """Pairs (from, to) whose messages are lost."""

    def stop(self) -> None:
        """Stops: no node reaches it."""
        self.runs = False
        for node in self.nodes:
            node.lose("the broker has ended")

    def start(self, place: str = "server 2") -> None:
        """Starts again, under another id."""
        self.runs, self.place = True, place
        for node in self.nodes:
            node.find()

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        """Delivers a message from one node to another."""
        asyncio.get_running_loop().call_soon(deliver)


class SimulatedBroker(Broker):
    """A broker whose messages travel in the simulated network; its time is that of the event
    loop."""

    def __init__(self, settings: SimulationSettings) -> None:
        super().__init__()
        self._ends: set[str] = set()
        self.network = SimulatedNetwork(self._ends, settings)

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        loop, network = asyncio.get_running_loop(), self.network
        self._ends |= {source, target}
        network.advance_to(round(loop.time() * NS))
        for at in network.arrivals((source, target)):
            network.schedule(at, self._arrive, source, target, deliver)
            loop.call_at(at / NS, network.advance_to, at)

    def _arrive(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        if self.network.passes(source, target):
            deliver()


class MemoryEngine:
    """One client of a broker; see `Engine`."""

    kind = "memory"

    def __init__(self, broker: Broker, name: str) -> None:
        self.name = name
        self.connected = False
        self._broker = broker
        self._listener: EngineListener | None = None

    @property
    def place(self) -> str:
        return self._broker.place if self.connected else ""

    def start(self, listener: EngineListener) -> None:
        self._listener = listener
        self._broker.nodes.append(self)
        self.find()

    def find(self) -> None:
        """Connects, if the broker runs."""
        if self._broker.runs and self._listener is not None:
            self.connected = True
            self._listener.engine_up("memory")

    def lose(self, why: str) -> None:
        """Ends the connection with the broker."""
        self.connected = False
        assert self._listener is not None
        self._listener.engine_down(why)

    async def publish(self, to: str, data: bytes, *, asks: bool) -> bool:
        if not self.connected:
            return False
        found = [one for one in self._broker.nodes if one.name == to and one.connected]
        for one in found:
            if one is not self and (self.name, to) not in self._broker.drop:
                self._later(one, "arrived", data)
        if asks and not found and self._listener is not None:
            asyncio.get_running_loop().call_soon(self._listener.nobody, to)
        return True

    async def announce(self, data: bytes) -> None:
        if self.connected:
            for one in self._broker.nodes:
                if one is not self and one.connected:
                    self._later(one, "announced", data)

    async def verify(self) -> str:
        return ""

    async def stop(self) -> None:
        self.connected = False
        self._broker.nodes.remove(self)

    def _later(self, other: MemoryEngine, what: str, data: bytes) -> None:
        self._broker.carry(self.name, other.name, lambda: other._take(what, self.name, data))

    def _take(self, what: str, sender: str, data: bytes) -> None:
        if self.connected and self._listener is not None:
            getattr(self._listener, what)(sender, data)
