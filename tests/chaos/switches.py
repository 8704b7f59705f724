"""Measures how soon the mode changes, and how often."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from crdtbucket import RedisConfig
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.testing.fault_proxy import FaultProxy
from tests.chaos import faults
from tests.chaos.figure import Figure, Progress, at_most
from tests.chaos.fleet import WIDE, Client, Fleet, fleet, until
from tests.strong.moved_address import MovedAddress, linked
from tests.strong.redis_server import Server

RATE = 300
"""Decisions a second of the load beside which it is measured."""
WINDOW_S, LIMIT_S, SHARE = 1.0, 0.020, 0.01
"""What makes an endpoint slow by default: a p99 above 20 ms for 1 s."""


@contextlib.asynccontextmanager
async def loaded(config: RedisConfig) -> AsyncIterator[Fleet]:
    """Three nodes under a steady load."""
    async with (
        fleet(config, mesh=True, modes=ControllerSettings()) as nodes,
        nodes.loaded(RATE, 1.0),
    ):
        yield nodes


@contextlib.asynccontextmanager
async def proxied(delay: float = 0.0) -> AsyncIterator[tuple[FaultProxy, Server, RedisConfig]]:
    with Server() as server:
        server.has_known_processes()
        proxy = FaultProxy(server.port, delay=delay)
        await proxy.start()
        try:
            yield proxy, server, RedisConfig(host=proxy.host, port=proxy.port)
        finally:
            await proxy.stop()


def switched(client: Client, after: Mode) -> float | None:
    """When a node changed to this mode (`time.monotonic`)."""
    return next((at for at, notice in client.notices if notice.after is after), None)


async def until_all(nodes: Fleet, mode: Mode, seconds: float) -> None:
    await until(lambda: all(switched(c, mode) is not None for c in nodes.clients), seconds)


def evidence(client: Client) -> float:
    """When the answers to its callers had been too slow for a whole window."""
    window: deque[tuple[float, bool]] = deque()
    slow, since = 0, None
    for end, took in client.latencies:
        window.append((end, took > LIMIT_S))
        slow += took > LIMIT_S
        while window[0][0] < end - WINDOW_S:
            slow -= window.popleft()[1]
        if slow <= SHARE * len(window):
            since = None
        elif since is None:
            since = end
        if since is not None and end - since >= WINDOW_S:
            return end
    raise AssertionError("the answers were never slow for a window")


async def latency_spike() -> float:
    """Seconds from the evidence to eventual, of the slowest node."""
    async with proxied() as (proxy, _, config), loaded(config) as nodes:
        await asyncio.sleep(1.5)
        proxy.delay = 0.015
        await until_all(nodes, Mode.EVENTUAL, 60)
        await asyncio.sleep(0.2)
        return max((switched(c, Mode.EVENTUAL) or 0.0) - evidence(c) for c in nodes.clients)


async def outage(fail: Callable[[FaultProxy, Server], Awaitable[None]]) -> float:
    """Seconds from a fault to fallback, of the slowest node."""
    async with proxied() as (proxy, server, config), loaded(config) as nodes:
        await asyncio.sleep(1.0)
        begin = time.monotonic()
        await fail(proxy, server)
        await until_all(nodes, Mode.FALLBACK, 60)
        return max((switched(c, Mode.FALLBACK) or 0.0) - begin for c in nodes.clients)


async def _refused(proxy: FaultProxy, _: Server) -> None:
    await proxy.down()


async def _silent(proxy: FaultProxy, _: Server) -> None:
    proxy.cut()


async def _frozen(_: FaultProxy, server: Server) -> None:
    server.freeze()


async def _read_only(_: FaultProxy, server: Server) -> None:
    server.call("REPLICAOF", "127.0.0.1", 1)


OUTAGES = {"refused": _refused, "silent": _silent, "frozen": _frozen, "read only": _read_only}


async def failover(frozen: bool) -> tuple[float, float]:
    """Seconds until the slowest node is strong again: from the end of the primary, and from the
    promotion. `frozen`: one sentinel does not answer."""
    staged = faults.failed_over(0.0, "redis-server", frozen=frozen)
    async with staged as stage, loaded(stage.config) as nodes:
        await asyncio.sleep(1.0)
        begin = time.monotonic()
        await stage.fail()
        promoted = time.monotonic()
        await until_all(nodes, Mode.STRONG, 20)
        end = max(switched(c, Mode.STRONG) or 0.0 for c in nodes.clients)
        return end - begin, end - promoted


async def moved_address() -> float:
    """Seconds until the slowest node has a strong decision, after the primary has become a replica
    of another server, to which its address now leads. The old connections stay open."""
    with Server() as first, Server() as second:
        second.call("REPLICAOF", first.host, first.port)
        await until(lambda: linked(second), 60)
        async with MovedAddress(first).open() as address:
            config = RedisConfig(host=first.host, port=address.port)
            async with loaded(config) as nodes:
                await asyncio.sleep(1.0)
                second.call("REPLICAOF", "NO", "ONE")
                address.leads_to = second
                first.call("REPLICAOF", second.host, second.port)
                began = time.monotonic()
                ended = await asyncio.gather(*map(_strong_again, nodes.clients))
                return max(ended) - began


async def _strong_again(client: Client) -> float:
    """The time of the first decision that only the other server can have made."""
    while True:
        decision = await client.bucket(WIDE.name).acquire("moved")
        if decision.mode is Mode.STRONG:
            return time.monotonic()
        await asyncio.sleep(0.005)


async def flapping(seconds: float, period: float) -> int:
    """The most switches of a node within a minute, while Redis is up and down for half a period
    each."""
    async with proxied() as (proxy, _, config), loaded(config) as nodes:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await proxy.down()
            await asyncio.sleep(period / 2)
            await until_all(nodes, Mode.FALLBACK, 60)  # the first time it may take longer
            await proxy.up()
            await asyncio.sleep(period / 2)
        return max(_in_a_minute([at for at, _ in client.notices]) for client in nodes.clients)


def _in_a_minute(times: list[float]) -> int:
    return max((sum(0 <= other - at < 60 for other in times) for at in times), default=0)


async def figures(calls: int, progress: Progress) -> AsyncIterator[Figure]:
    yield at_most("latency spike: evidence to eventual", 100, await latency_spike() * 1e3, " ms")
    for name, fail in OUTAGES.items():
        yield at_most(f"outage ({name}): to fallback", 1, await outage(fail), " s")
    for beside, frozen in (("", False), (", one sentinel frozen", True)):
        whole, promoted = await failover(frozen)
        note = f"{promoted:.2f} s after the promotion"
        yield at_most(f"Sentinel failover{beside}: back to strong", 3, whole, " s", note)
    moved = await moved_address()
    yield at_most("an address that leads to the promoted replica: strong again", 3, moved, " s")
    progress("flapping for 60 s")
    quick, slow = await asyncio.gather(flapping(60.0, 1.5), flapping(60.0, 14.0))
    # At most 2 k + 1 in any k minutes: two a minute in the long run, and one that was saved up
    # before.
    yield at_most("flapping every 1.5 s: switches in a minute", 3, quick)
    yield at_most("flapping every 14 s: switches in a minute", 3, slow)
