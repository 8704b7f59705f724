"""A mesh over two NATS clusters and a gateway, while a server stalls, the gateway is cut, or all
data is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from crdtbucket import BucketSpec, Limiter, MeshConfig
from tests.chaos.figure import Figure, Progress, at_most, exactly
from tests.chaos.fleet import until
from tests.mesh.engines.nats_server import NatsServer
from tests.strong.redis_server import free_port

NODES = {"eu-1": "eu", "eu-2": "eu", "us-1": "us", "us-2": "us"}
STILL = BucketSpec("still", 100_000, 1, "1h", max_debt=0)
"""It hardly refills while a run lasts, so levels can be compared to the token."""
TIGHT = BucketSpec("tight", 400, 400)
LOAD = 2.0
"""The demand of all nodes together, as a multiple of the limit."""
STEP_S = 0.01
FAULTS = ("stall", "cut", "lost")
KEY = "tenant"


class Relay:
    """A way between two gateways that can be cut: everything on it is lost, as by a firewall that
    resets connections."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._forwarding: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Forwards from now on."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Closes the way: nothing gets through, and no connection can be made."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()
        if self._forwarding:
            await asyncio.wait(self._forwarding)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)
        try:
            there, out = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, out}
        try:
            await asyncio.gather(_pump(reader, out), _pump(there, writer))
        finally:
            self._open -= {writer, out}
            writer.transport.abort()
            out.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


class Clusters:
    """Two NATS clusters of one server each, and the gateway between them."""

    def __init__(self) -> None:
        gates = {"eu": free_port(), "us": free_port()}
        self.relays = {name: Relay(port) for name, port in gates.items()}
        self.servers = {name: self._server(name, gates) for name in gates}

    def _server(self, name: str, gates: dict[str, int]) -> NatsServer:
        other = "us" if name == "eu" else "eu"
        return NatsServer(
            f'gateway {{ name: {name}, listen: "127.0.0.1:{gates[name]}", '
            f'advertise: "127.0.0.1:{self.relays[name].port}", connect_retries: 1000, gateways: '
            f'[{{name: {other}, urls: ["nats://127.0.0.1:{self.relays[other].port}"]}}] }}'
        )

    async def __aenter__(self) -> Clusters:
        await self.join()
        for server in self.servers.values():
            await asyncio.to_thread(server.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()
        for server in self.servers.values():
            server.remove()

    async def join(self) -> None:
        """Opens the gateway."""
        for relay in self.relays.values():
            await relay.start()

    async def cut(self) -> None:
        """Closes the gateway, at once and without a sign to the nodes."""
        for relay in self.relays.values():
            await relay.cut()


@dataclass
class Outcome:
    """The figures of one run."""

    over: float
    """Tokens admitted beyond the limit, in capacities, at the worst moment."""
    starved: float
    """The longest time for which a node got nothing (s)."""
    ratio: float
    """What was admitted, divided by what the limit allowed, over the whole run."""
    lost: int
    """The tokens by which the levels of the nodes are off at the end in the bucket that does not
    refill, added up."""
    healed: float
    """Seconds from the end of the last fault until all nodes agreed on that bucket."""


class Load:
    """Callers of all nodes, and a ledger of what they got."""

    def __init__(self, nodes: list[Limiter]) -> None:
        self.nodes = nodes
        self.over = 0.0
        self.starved = 0.0
        self.admitted: Counter[str] = Counter()
        self._begin = time.monotonic()

    async def run(self, ends: asyncio.Event) -> None:
        """Makes calls until `ends` is set, as many even if the event loop runs late."""
        offered, last = 0, {one.node: time.monotonic() for one in self.nodes}
        rate = TIGHT.refill_rate * LOAD / len(self.nodes)
        while not ends.is_set():
            now = time.monotonic()
            calls = int(rate * (now - self._begin)) - offered
            offered += calls
            for one in self.nodes:
                got = one.bucket("tight").take_burst(KEY, calls) if calls else 0
                if got:
                    self.admitted["tight"] += got
                    last[one.node] = now
                self.starved = max(self.starved, now - last[one.node])
                self.admitted["still"] += one.bucket("still").take(KEY, 3).allowed * 3
            self.over = max(self.over, (self.admitted["tight"] - self.allowed(now)) / 400)
            await asyncio.sleep(STEP_S)

    def allowed(self, now: float) -> float:
        """The most tokens that one bucket would have admitted by then."""
        return TIGHT.capacity + TIGHT.refill_rate * (now - self._begin)


async def run(fault: str, seconds: float) -> Outcome:
    """Plays a load before, during and after one fault, each for `seconds`: "stall", "cut" or
    "lost"."""
    async with contextlib.AsyncExitStack() as stack:
        clusters = await stack.enter_async_context(Clusters())
        nodes = [
            await stack.enter_async_context(_node(name, clusters.servers[region].url))
            for name, region in NODES.items()
        ]
        await until(lambda: all(_alive(one) == len(nodes) - 1 for one in nodes), 60)
        load, ends = Load(nodes), asyncio.Event()
        running = asyncio.create_task(load.run(ends))
        await asyncio.sleep(seconds)
        if fault == "stall":
            clusters.servers["us"].freeze()
            await asyncio.sleep(seconds)
            clusters.servers["us"].thaw()
        elif fault == "lost":
            for server in clusters.servers.values():
                server.kill()
            await asyncio.sleep(seconds)
            for server in clusters.servers.values():
                await asyncio.to_thread(server.start)
        else:
            await clusters.cut()
            await asyncio.sleep(seconds)
            await clusters.join()
        await asyncio.sleep(seconds)
        ends.set()
        await running
        begin, wanted = time.monotonic(), STILL.capacity - load.admitted["still"]
        with contextlib.suppress(AssertionError, TimeoutError):
            await until(lambda: all(_left(one) == wanted for one in nodes), 60)
        return Outcome(
            load.over,
            load.starved,
            load.admitted["tight"] / load.allowed(begin),
            sum(abs(_left(one) - wanted) for one in nodes),
            time.monotonic() - begin,
        )


def _node(name: str, server: str) -> Limiter:
    mesh = MeshConfig(transport="nats", servers=[server], secret="a secret of these tests")
    return Limiter([STILL, TIGHT], node=name, region=NODES[name], mesh=mesh)


def _alive(one: Limiter) -> int:
    stats = one.stats()
    return 0 if stats["warming_up"] else list(stats["peers"].values()).count("alive")


def _left(one: Limiter) -> int:
    return one.bucket("still").peek(KEY).remaining


async def figures(calls: int, progress: Progress) -> AsyncIterator[Figure]:
    for fault in FAULTS:
        found = await run(fault, 4.0)
        progress(f"nats, {fault}: {found}")
        yield exactly(f"nats, {fault}: tokens by which levels are off in the end", 0, found.lost)
        yield at_most(f"nats, {fault}: over the limit at the worst", 0.5, found.over, " C")
        yield at_most(f"nats, {fault}: a node got nothing for", 2.0, found.starved, " s")
