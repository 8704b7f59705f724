"""A real process is killed: its peers know that it is dead, not cut off."""

from __future__ import annotations

import asyncio
import sys
import time

from crdtbucket import BucketSpec, Limiter, MeshConfig
from tests.strong.redis_server import free_port
from tests.waits import eventually

SECRET = "a secret of this test"
SPEC = BucketSpec("api", 1_000, 100)
DEAD_S = 3.0
VICTIM = f"""
import asyncio, sys
from crdtbucket import BucketSpec, Limiter, MeshConfig

async def main():
    mesh = MeshConfig(listen=sys.argv[1], peers=sys.argv[2:], secret={SECRET!r})
    async with Limiter([BucketSpec("api", 1_000, 100)], node="victim", mesh=mesh) as limiter:
        while True:
            limiter.bucket("api").take("k")
            await asyncio.sleep(0.02)

asyncio.run(main())
"""


def limiter(node: str, port: int, *others: int) -> Limiter:
    mesh = MeshConfig(
        listen=f"127.0.0.1:{port}",
        peers=[f"127.0.0.1:{other}" for other in others],
        secret=SECRET,
        ended_is_dead=DEAD_S,
    )
    return Limiter([SPEC], node=node, mesh=mesh)


async def test_a_process_killed_with_9_is_forgotten_by_the_others() -> None:
    ports = [free_port() for _ in range(3)]
    survivors = [limiter("one", *ports), limiter("two", ports[1], ports[0], ports[2])]
    addresses = [f"127.0.0.1:{port}" for port in (ports[2], *ports[:2])]
    async with survivors[0], survivors[1]:
        victim = await asyncio.create_subprocess_exec(sys.executable, "-c", VICTIM, *addresses)
        try:
            await eventually(lambda: all(peers(one) == ["alive", "alive"] for one in survivors))
            await eventually(lambda: all(counted(one) for one in survivors))
        finally:
            killed = time.monotonic()
            victim.kill()
            await victim.wait()
        await eventually(lambda: all(state(one) == "dead" for one in survivors))
        assert time.monotonic() - killed >= DEAD_S
        assert all(one.stats()["table"]["forgotten"] == 1 for one in survivors)
        await eventually(
            lambda: state(survivors[0], "two") == state(survivors[1], "one") == "alive"
        )


def peers(one: Limiter) -> list[str]:
    return list(one.stats()["peers"].values())


def state(one: Limiter, peer: str = "victim") -> str:
    found: str = one.stats()["peers"][peer]
    return found


def counted(one: Limiter) -> bool:
    """Whether the victim's takes have come."""
    return bool(one.bucket("api").peek("k").debt)
