"""The network between the regions, which can be cut and healed: a proxy for each ordered pair, or
with NATS one in each way of the gateway between two clusters."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from crdtbucket.demo.processes import reserved_port
from crdtbucket.demo.server_process import NatsProcess
from crdtbucket.demo.traffic import CUT_REGION
from crdtbucket.testing.fault_proxy import HOST, FaultProxy

NOWHERE = f"{HOST}:1"
"""The address that every region advertises. A node never calls its own address, so gossip shows no
node a way around the proxies."""
DELAY_S = 0.04
"""The delay of the links, one-way."""
CLUSTERS = HOME, AWAY = "home", "away"


class DemoNetwork(ABC):
    """The links between the regions: proxies, which can be cut."""

    def __init__(self, ways: Mapping[tuple[str, str], FaultProxy]) -> None:
        """`ways`: the proxies by the names of their two ends."""
        self._ways = ways

    async def start(self) -> None:
        """Opens all ways."""
        for proxy in self._ways.values():
            await proxy.start()

    async def stop(self) -> None:
        """Closes all ports and connections."""
        await asyncio.gather(*(proxy.stop() for proxy in self._ways.values()))

    @abstractmethod
    def mesh(self, region: str) -> dict[str, Any]:
        """Arguments of the `MeshConfig` of a region, without the secret."""

    def cut(self, region: str) -> None:
        """Nothing passes between this region and the others."""
        for proxy in self._touching(region):
            proxy.cut()

    def heal(self, region: str) -> None:
        """The region is back; what was on its way arrives."""
        for proxy in self._touching(region):
            proxy.heal()

    def _touching(self, region: str) -> Sequence[FaultProxy]:
        return [proxy for pair, proxy in self._ways.items() if region in pair]


class RegionNetwork(DemoNetwork):
    """Every region reaches every other through a proxy of its own for that way."""

    def __init__(self, ports: dict[str, int], delay: float) -> None:
        """`ports`: where each region listens. `delay`: one-way, seconds."""
        super().__init__(
            {
                (caller, called): FaultProxy(port, delay=delay)
                for caller in ports
                for called, port in ports.items()
                if caller != called
            }
        )
        self._ports = ports

    def mesh(self, region: str) -> dict[str, Any]:
        """Where it listens, and the proxies that it calls."""
        peers = [
            f"{HOST}:{proxy.port}" for (caller, _), proxy in self._ways.items() if caller == region
        ]
        listen = f"{HOST}:{self._ports[region]}"
        return {"listen": listen, "peers": peers, "advertise": NOWHERE}


class EngineNetwork(DemoNetwork):
    """One region has a cluster of its own; a proxy stands in each way of the gateway."""

    def __init__(self, delay: float) -> None:
        """`delay`: of the gateway, one-way, seconds. Raises `DemoError` without a server."""
        self._servers = {name: NatsProcess() for name in CLUSTERS}
        self._gates = {name: reserved_port() for name in CLUSTERS}
        self._gateways = {name: FaultProxy(self._gates[name], delay=delay) for name in CLUSTERS}
        super().__init__({(name, CUT_REGION): way for name, way in self._gateways.items()})

    async def start(self) -> None:
        """Opens the ways, and starts both servers."""
        await super().start()
        for name, other in (CLUSTERS, CLUSTERS[::-1]):
            there = f'{{name: {other}, urls: ["nats://{HOST}:{self._gateways[other].port}"]}}'
            await self._servers[name].start(
                f'gateway {{ name: {name}, listen: "{HOST}:{self._gates[name]}"',
                f'advertise: "{HOST}:{self._gateways[name].port}", connect_retries: 100',
                f"gateways: [{there}] }}",
            )

    async def stop(self) -> None:
        """Ends the servers, and closes the ways."""
        await asyncio.gather(*(one.kill() for one in self._servers.values()))
        await super().stop()

    def mesh(self, region: str) -> dict[str, Any]:
        """The settings by which a region joins the server of its cluster."""
        server = self._servers[AWAY if region == CUT_REGION else HOME]
        return {"transport": "nats", "servers": [f"nats://{HOST}:{server.port}"]}

    async def stall(self, seconds: float) -> None:
        """The server of the other regions stands still, with all that it holds."""
        await self._servers[HOME].stall(seconds)
