"""The network between the regions: a proxy for each ordered pair, which can be cut and healed."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from crdtbucket.testing.fault_proxy import HOST, FaultProxy

NOWHERE = f"{HOST}:1"
"""What every region advertises. A node never calls its own address, so gossip shows nobody a way
around the proxies."""


class DemoNetwork(ABC):
    """The links between the regions: proxies, which can be cut."""

    def __init__(self, ways: Mapping[tuple[str, str], FaultProxy]) -> None:
        """`ways`: by their two ends."""
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
