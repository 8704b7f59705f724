"""The network between the regions: a proxy for each ordered pair, which can be cut and healed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from crdtbucket.testing.fault_proxy import HOST, FaultProxy

NOWHERE = f"{HOST}:1"
"""What every region advertises. A node never calls its own address, so gossip shows nobody a way
around the proxies."""


class DemoNetwork(Protocol):
    """The links between the regions."""

    async def start(self) -> None:
        """Opens all ways."""
        ...

    async def stop(self) -> None:
        """Leaves nothing behind."""
        ...

    def mesh(self, region: str) -> dict[str, Any]:
        """Arguments of the `MeshConfig` of a region, without the secret."""
        ...

    def cut(self, region: str) -> None:
        """Nothing passes between this region and the others."""
        ...

    def heal(self, region: str) -> None:
        """The region is back; what was on its way arrives."""
        ...


class RegionNetwork:
    """Every region reaches every other through a proxy of its own for that way."""

    def __init__(self, ports: dict[str, int], delay: float) -> None:
        """`ports`: where each region listens. `delay`: one-way, seconds."""
        self._ports = ports
        self._ways = {
            (caller, called): FaultProxy(port, delay=delay)
            for caller in ports
            for called, port in ports.items()
            if caller != called
        }

    async def start(self) -> None:
        """Open all ways."""
        for proxy in self._ways.values():
            await proxy.start()

    async def stop(self) -> None:
        """Close all ports and connections."""
        await asyncio.gather(*(proxy.stop() for proxy in self._ways.values()))

    def mesh(self, region: str) -> dict[str, Any]:
        """Where it listens, and the proxies that it calls."""
        peers = [
            f"{HOST}:{proxy.port}" for (caller, _), proxy in self._ways.items() if caller == region
        ]
        listen = f"{HOST}:{self._ports[region]}"
        return {"listen": listen, "peers": peers, "advertise": NOWHERE}

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
