"""Whole limiters on a NATS server: they share one limit; without the server each is alone."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from crdtbucket import Limiter
from tests.mesh.engines.nats_server import NatsServer
from tests.waits import eventually

FILE = """
node: {node}
region: eu
mesh: {{transport: nats, servers: ["{server}"], secret: a secret of these tests}}
services: {{api: {{bucket: {{capacity: 300, refill_rate: 1, refill_interval: 1h}}}}}}
"""
KEY = "tenant"


def limiter(folder: Path, node: str, server: NatsServer) -> Limiter:
    path = folder / f"{node}.yaml"
    path.write_text(FILE.format(node=node, server=server.url))
    return Limiter.from_file(path)


def left(one: Limiter) -> int:
    return one.bucket("api").peek(KEY).remaining


def alive(one: Limiter) -> int:
    stats = one.stats()
    return 0 if stats["warming_up"] else list(stats["peers"].values()).count("alive")


async def test_three_limiters_hold_one_limit_lose_the_engine_and_agree_again(
    tmp_path: Path,
) -> None:
    with NatsServer() as server:
        async with AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(limiter(tmp_path, name, server))
                for name in ("eu-1", "us-1", "ap-1")
            ]
            await eventually(lambda: all(alive(one) == 2 for one in nodes))
            assert nodes[0].address == "nats:eu-1"
            assert nodes[0].bucket("api").take(KEY, 60).allowed
            await eventually(lambda: [left(one) for one in nodes] == [240] * 3)
            server.kill()
            await eventually(lambda: all(one.stats()["mesh"]["engine_losses"] for one in nodes))
            for one in nodes:  # each alone, and a decision waits for nothing
                assert one.bucket("api").take(KEY, 10).allowed
            assert [left(one) for one in nodes] == [230] * 3
            server.start()
            await eventually(lambda: [left(one) for one in nodes] == [210] * 3)
            assert [one.stats()["mesh"]["engine_connections"] for one in nodes] == [2] * 3
            assert all(alive(one) == 2 for one in nodes)
