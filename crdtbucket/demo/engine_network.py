"""The network of a run with NATS: two clusters of one server each, and a gateway between them."""

from __future__ import annotations

import asyncio
from typing import Any

from crdtbucket.demo.demo_network import DemoNetwork
from crdtbucket.demo.nats_process import NatsProcess
from crdtbucket.demo.processes import free_port
from crdtbucket.demo.traffic import CUT_REGION
from crdtbucket.testing.fault_proxy import HOST, FaultProxy

CLUSTERS = HOME, AWAY = "home", "away"


class EngineNetwork(DemoNetwork):
    """One region has a cluster of its own; a proxy stands in each way of the gateway."""

    def __init__(self, delay: float) -> None:
        """`delay`: of the gateway, one-way, seconds. Raises `DemoError` without a server."""
        self._servers = {name: NatsProcess() for name in CLUSTERS}
        self._gates = {name: free_port() for name in CLUSTERS}
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
        """The server of its cluster."""
        server = self._servers[AWAY if region == CUT_REGION else HOME]
        return {"transport": "nats", "servers": [f"nats://{HOST}:{server.port}"]}

    async def stall(self, seconds: float) -> None:
        """The server of the other regions stands still, with all that it holds."""
        server = self._servers[HOME]
        server.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            server.thaw()
