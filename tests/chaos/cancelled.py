"""Callers that are cancelled, and what happens to the answers and to the tokens."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from crdtbucket import RedisConfig
from crdtbucket.testing.fault_proxy import FaultProxy
from tests.chaos.audit import Audit, audit
from tests.chaos.figure import Figure, Progress, exactly
from tests.chaos.fleet import UNHURRIED, WIDE, Client, Fleet, fleet, until
from tests.strong.redis_server import Server

BANDS = 60
BAND = 1_500
"""The least difference (tokens) between the levels of two keys, by which an answer shows its
key."""
WORKERS = 100


@dataclass
class Crowd:
    """How many callers were cancelled, and what the others were answered."""

    cancelled: int = 0
    answered: int = 0
    foreign: list[tuple[str, int]] = field(default_factory=list)
    """Keys, and the tokens left in an answer that cannot be about the key."""

    def answer(self, key: str, allowed: bool, remaining: int) -> None:
        """Notes an answer to a caller."""
        self.answered += 1
        number = int(key[1:])
        mine = number * BAND <= WIDE.capacity - remaining < (number + 1) * BAND
        if not (mine and allowed):
            self.foreign.append((key, remaining))


async def crowd(fleet: Fleet, calls: int, seed: int) -> Crowd:
    """Makes at least `calls` acquires that are cancelled, at every stage of their way, and about as
    many that are not."""
    found, dice = Crowd(), random.Random(seed)

    async def ask(client: Client, keys: list[str], cost: int) -> None:
        if len(keys) == 1:
            decision = await fleet.timed(client, WIDE.name, keys[0], cost)
            assert (decision.key, decision.cost) == (keys[0], cost)
            found.answer(keys[0], decision.allowed, decision.remaining)
            return
        many = await client.bucket(WIDE.name).acquire_many(keys, cost)
        for key, allowed, remaining in zip(keys, many.allowed, many.remaining, strict=True):
            client.consumed[WIDE.name, key] += cost * allowed
            found.answer(key, bool(allowed), remaining)

    async def work(client: Client) -> None:
        while found.cancelled < calls:
            cost, size = dice.randint(1, 3), dice.choice((1, 1, 1, 1, 5))
            keys = [f"k{dice.randrange(BANDS)}" for _ in range(size)]
            call = asyncio.create_task(ask(client, keys, cost))
            if dice.random() < 0.5:
                await _wait_a_while(dice)
                call.cancel()
            try:
                await call
            except asyncio.CancelledError:
                found.cancelled += 1

    await asyncio.gather(*(work(fleet.clients[n % len(fleet.clients)]) for n in range(WORKERS)))
    return found


async def _wait_a_while(dice: random.Random) -> None:
    if dice.random() < 0.5:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(dice.random() * 0.008)


@contextlib.asynccontextmanager
async def scene(seed: int = 0) -> AsyncIterator[tuple[Fleet, Server]]:
    """Two nodes whose answers take some milliseconds, and keys with their distinct levels."""
    with Server() as server:
        proxy = FaultProxy(server.port, delay=0.001, seed=seed)
        await proxy.start()
        proxy.there.jitter = proxy.back.jitter = 0.002
        try:
            config = RedisConfig(host=proxy.host, port=proxy.port, deadline=10.0)
            async with fleet(config, nodes=2, seed=seed, modes=UNHURRIED) as nodes:
                for number in range(1, BANDS):
                    await nodes.timed(nodes.clients[0], WIDE.name, f"k{number}", number * BAND)
                yield nodes, server
        finally:
            await proxy.stop()


async def run(calls: int, seed: int = 0) -> tuple[Crowd, Audit]:
    async with scene(seed) as (nodes, server):
        found = await crowd(nodes, calls, seed)
        await until(lambda: nodes.settled, 60)
        return found, audit(nodes, [server])


async def figures(calls: int, progress: Progress) -> AsyncIterator[Figure]:
    found, books = await run(-(-calls // 10))
    progress(f"{found.cancelled} cancelled, {found.answered} answered; {books}")
    yield exactly(f"{found.cancelled} cancelled acquires: foreign replies", 0, len(found.foreign))
    yield exactly(
        "cancelled: charged in Redis, lost, charged twice",
        (books.consumed, 0, 0),
        (books.charged, books.lost, books.over),
    )
