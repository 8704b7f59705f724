"""Ways in which a server fails under load, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from crdtbucket import RedisConfig
from crdtbucket.testing.fault_proxy import FaultProxy
from tests.chaos.fleet import until
from tests.strong.redis_groups import watched
from tests.strong.redis_server import Server, free_port


@dataclass
class Stage:
    """A server, how to reach it, and its fault."""

    config: RedisConfig
    fail: Callable[[], Awaitable[None]]
    """Makes the server fail; returns when the fault is over."""
    primary: Callable[[], Server]
    """The server that holds the records at the end."""


async def freeze(server: Server, seconds: float) -> None:
    """Stops the process of a server (SIGSTOP) for a while."""
    server.freeze()
    await asyncio.sleep(seconds)
    server.thaw()


async def refuse_writes(server: Server, seconds: float) -> None:
    """Makes the server a replica of no server, and then a primary without the replicas that it must
    have."""
    server.call("REPLICAOF", "127.0.0.1", free_port())
    await asyncio.sleep(seconds / 3)
    server.call("REPLICAOF", "NO", "ONE")
    await asyncio.sleep(seconds / 6)
    server.call("CONFIG", "SET", "min-replicas-to-write", 1)
    await asyncio.sleep(seconds / 6)
    server.call("CONFIG", "SET", "min-replicas-to-write", 0)


async def fill(server: Server, seconds: float) -> None:
    """Fills the memory of the server up to its limit, where it accepts no writes."""
    server.call("CONFIG", "SET", "maxmemory", 1)
    await asyncio.sleep(seconds / 2)
    server.call("CONFIG", "SET", "maxmemory", 0)


async def forget_scripts(server: Server, seconds: float) -> None:
    """Makes the server forget the script ten times a second."""
    for _ in range(round(seconds * 10)):
        server.call("SCRIPT", "FLUSH")
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def _alone(
    fault: Callable[[Server, float], Awaitable[None]], seconds: float, program: str
) -> AsyncIterator[Stage]:
    """One server, with nothing on disk."""
    with Server(program=program) as server:
        yield Stage(RedisConfig(url=server.url), lambda: fault(server, seconds), lambda: server)


def _gone(server: Server, seconds: float) -> Stage:
    """A server that is killed, and starts again so many seconds later."""

    async def fail() -> None:
        server.kill()
        await asyncio.sleep(seconds)
        server.start()

    return Stage(RedisConfig(url=server.url), fail, lambda: server)


@contextlib.asynccontextmanager
async def killed(seconds: float, program: str) -> AsyncIterator[Stage]:
    """The server is killed; a log on disk that is synced every second brings most of its data
    back."""
    with Server("appendonly yes", "appendfsync everysec", program=program) as server:
        yield _gone(server, seconds / 3)


@contextlib.asynccontextmanager
async def restarted_empty(seconds: float, program: str) -> AsyncIterator[Stage]:
    """The server is gone for a moment, and has lost all of its data."""
    with Server(program=program) as server:
        yield _gone(server, seconds / 20)


@contextlib.asynccontextmanager
async def failed_over(
    seconds: float, program: str, *, frozen: bool = False
) -> AsyncIterator[Stage]:
    """The primary dies, and the sentinels promote its replica. `frozen`: the sentinel that is asked
    first no longer answers."""
    async with watched(program) as (primary, replica, sentinels):

        async def fail() -> None:
            if frozen:
                sentinels[0].freeze()
            primary.kill()
            await until(lambda: _is_primary(replica), 20)

        addresses = [f"{one.host}:{one.port}" for one in sentinels]
        config = RedisConfig(sentinel_master="main", sentinels=addresses)
        yield Stage(config, fail, lambda: replica)


def _is_primary(server: Server) -> bool:
    try:
        return b"role:master" in server.call("INFO", "replication")
    except ConnectionError:
        return False  # sentinels end all connections of the server that they promote


@contextlib.asynccontextmanager
async def reset_in_reply(seconds: float, program: str) -> AsyncIterator[Stage]:
    """A connection breaks within a reply, four times a second; every fourth time a reply stalls
    first."""
    dice = random.Random(1)
    with Server(program=program) as server:
        proxy = FaultProxy(server.port)
        await proxy.start()

        async def fail() -> None:
            for number in range(round(seconds * 4)):
                if number % 4:
                    proxy.reset_after(dice.randrange(1, 200))
                    await asyncio.sleep(0.25)
                else:
                    proxy.stall_after(dice.randrange(1, 200))
                    await asyncio.sleep(0.125)
                    await proxy.reset()
                    await asyncio.sleep(0.125)

        try:
            yield Stage(RedisConfig(host=proxy.host, port=proxy.port), fail, lambda: server)
        finally:
            await proxy.stop()


FAULTS = {
    "frozen": partial(_alone, freeze),
    "killed": killed,
    "restarted empty": restarted_empty,
    "failed over": failed_over,
    "read only": partial(_alone, refuse_writes),
    "memory full": partial(_alone, fill),
    "scripts flushed": partial(_alone, forget_scripts),
    "reset in a reply": reset_in_reply,
}
