"""The network between the nodes of a run, and one that needs no rights: proxies on the loopback
interface."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from typing import Any, Protocol

from crdtbucket.demo.demo_network import NOWHERE
from crdtbucket.testing.fault_proxy import HOST, FaultProxy
from tests.compositions.member import live
from tests.histories.plan import Pair
from tests.strong.redis_server import free_port


class Network(Protocol):
    """The network between the nodes."""

    told: str
    """A description of the network and its faults, for the reader of a report."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def mesh(self, node: int) -> dict[str, Any]:
        """Settings of the mesh of a node: where it listens, and whom it calls."""
        ...

    def life(self, node: int) -> Callable[..., None]:
        """The function that runs a process of a node from beginning to end, as `LibraryProcess`
        starts it."""
        ...

    def reboot(self, node: int, rng: random.Random) -> None:
        """Gives the next process of a node another clock, as after a boot of its machine, where
        that is possible."""
        ...

    def block(self, blocked: frozenset[Pair]) -> None:
        """From now on nothing passes these ways, and everything passes the others."""
        ...

    def weather(self, delay: float, jitter: float, loss: float) -> None:
        """Sets the delay (s), the jitter (s) and the share of lost packets of every way from now
        on."""
        ...


class ProxiedNetwork:
    """All nodes on the loopback interface, with a proxy for each caller and each node that it
    calls."""

    told = (
        "proxies on loopback: connections are held up, so that no packet is lost (a loss is a "
        "delay), and all nodes have one monotonic clock (only the wall clock is moved)"
    )

    def __init__(self, nodes: int, links: Collection[Pair] | None = None) -> None:
        """`links`: the pairs that have a way to each other. None: all."""
        self._ports = [free_port() for _ in range(nodes)]
        self._proxies = {
            (caller, called): FaultProxy(port, seed=caller)
            for caller in range(nodes)
            for called, port in enumerate(self._ports)
            if caller != called
            and (links is None or (caller, called) in links or (called, caller) in links)
        }

    async def start(self) -> None:
        """Opens all ways."""
        for proxy in self._proxies.values():
            await proxy.start()

    async def stop(self) -> None:
        """Closes them."""
        await asyncio.gather(*(proxy.stop() for proxy in self._proxies.values()))

    def mesh(self, node: int) -> dict[str, Any]:
        """The node calls its own proxies, and advertises no address that leads around them."""
        ways = self._proxies.items()
        peers = [f"{HOST}:{proxy.port}" for (caller, _), proxy in ways if caller == node]
        return {"listen": f"{HOST}:{self._ports[node]}", "peers": peers, "advertise": NOWHERE}

    def life(self, node: int) -> Callable[..., None]:
        """A process as any other of this machine."""
        return live

    def reboot(self, node: int, rng: random.Random) -> None:
        """Does nothing: all processes have the clock of this machine."""

    def block(self, blocked: frozenset[Pair]) -> None:
        """Cuts both directions of each pair, since a connection carries what both ends send."""
        for (caller, called), proxy in self._proxies.items():
            proxy.let_pass(
                there=(caller, called) not in blocked, back=(called, caller) not in blocked
            )

    def weather(self, delay: float, jitter: float, loss: float) -> None:
        """Sets the delay; lost packets are sent again, which takes time."""
        for proxy in self._proxies.values():
            for way in (proxy.there, proxy.back):
                way.delay, way.jitter = delay, jitter + 2 * loss
