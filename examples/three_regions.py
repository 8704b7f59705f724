"""Three limiters on loopback keep one limit of 500 tokens, whoever takes them.

pip install -e .
python examples/three_regions.py

In production each limiter is a process in a region of its own; here all three share an event loop.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from crdtbucket import BucketSpec, Limiter, MeshConfig

# Refills so slowly that the sum at the end is the capacity and nothing else.
SPEC = BucketSpec("inference", capacity=500, refill_rate=1, refill_interval="1m")
KEY = "tenant-42"


def node(name: str, *peers: str) -> Limiter:
    """One region. It only needs one address: the nodes tell each other of the rest."""
    mesh = MeshConfig(listen="127.0.0.1:0", peers=peers, secret="only for loopback")
    return Limiter([SPEC], node=name, region=name[:2], mesh=mesh)


async def linked(limiters: list[Limiter]) -> None:
    """Wait until every node is linked with all the others."""
    others = len(limiters) - 1
    while True:
        states = [limiter.stats() for limiter in limiters]
        linked = [list(state["peers"].values()).count("alive") for state in states]
        if min(linked) == others and not any(state["warming_up"] for state in states):
            return
        await asyncio.sleep(0.02)


async def demand(limiter: Limiter, calls: int, pause: float) -> int:
    """Calls of 1 token, `pause` seconds apart; how many were allowed."""
    allowed = 0
    for _ in range(calls):
        allowed += bool(limiter.bucket(SPEC.name).take(KEY))
        await asyncio.sleep(pause)
    return allowed


async def main() -> None:
    """The eu region asks three times as fast as the others; together they ask for too much."""
    async with AsyncExitStack() as stack:
        eu = await stack.enter_async_context(node("eu-1"))
        us = await stack.enter_async_context(node("us-1", eu.address))
        ap = await stack.enter_async_context(node("ap-1", eu.address))
        limiters = [eu, us, ap]
        await asyncio.wait_for(linked(limiters), 15)

        got = await asyncio.gather(
            demand(eu, 600, 0.003), demand(us, 200, 0.009), demand(ap, 200, 0.009)
        )
        for limiter, allowed in zip(limiters, got, strict=True):
            print(f"{limiter.region}: {allowed} of its calls allowed")
        print(f"together: {sum(got)} of {SPEC.capacity} tokens")


if __name__ == "__main__":
    asyncio.run(main())
