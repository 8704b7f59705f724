"""Three nodes that serve, a network between them that can be cut, and pictures of their console.

    python -m tests.http.server.console.three_nodes FOLDER

writes the pictures that docs/console.md shows, and more, into a folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from crdtbucket import BucketSpec, Limiter, MeshConfig
from crdtbucket.demo.demo_network import RegionNetwork
from tests.http.chromium import Page, chromium, page
from tests.http.serving import TOKEN, Asker, serving
from tests.strong.redis_server import free_port
from tests.waits import eventually

REGIONS = ("eu", "us", "ap")
BUCKETS = (
    BucketSpec("ai-agent-inference", 400, 40),
    BucketSpec("search", 120, 120),
    BucketSpec("checkout", 5_000, 5),
    BucketSpec("login", 10, 10, "1min"),
    BucketSpec.concurrency("exports", 4),
)
SHAPES = {
    "wide-light": (1440, 900, False),
    "wide-dark": (1440, 900, True),
    "narrow-light": (360, 780, False),
    "narrow-dark": (360, 780, True),
}
"""Width, height, and whether the system prefers dark."""


@asynccontextmanager
async def three_nodes() -> AsyncIterator[tuple[RegionNetwork, list[Asker]]]:
    """The network and the nodes, which are linked."""
    network = RegionNetwork({region: free_port() for region in REGIONS}, 0.02)
    async with contextlib.AsyncExitStack() as stack:
        await network.start()
        stack.push_async_callback(network.stop)
        clients = []
        for region in REGIONS:
            mesh = MeshConfig(**network.mesh(region), secret="a secret of these tests")
            limiter = Limiter(BUCKETS, node=f"{region}-1", region=region, mesh=mesh)
            serves = serving(limiter, admin_token=TOKEN)
            clients.append(await stack.enter_async_context(serves))
        every = [one.limiter for one in clients]
        await eventually(lambda: all(_alive(one) == len(every) for one in every))
        yield network, clients


def _alive(limiter: Limiter) -> int:
    return sum(row["state"] == "alive" and not row["unseen"] for row in limiter.fleet())


async def load(clients: list[Asker], ticks: int) -> None:
    """Calls at all nodes, ten turns a second: some buckets deny, some hardly any."""
    dice = random.Random(1)
    kinds = [("ai-agent-inference", 6, 12, 3.0), ("search", 40, 1, 9.0), ("checkout", 30, 8, 4.0)]
    for tick in range(ticks):
        for client in clients:
            for name, keys, cost, calls in [*kinds, ("login", 8, 1, 0.3)]:
                wave = calls * (1 + 0.8 * math.sin(tick / 60))
                for _ in range(int(wave + dice.random())):
                    key = f"tenant-{int(dice.paretovariate(1.1)) % keys}"
                    bucket = client.limiter.bucket(name)
                    decision = bucket.take(key, cost)
                    client.server.api.calls.weigh(bucket, key, cost, decision.allowed)
        await asyncio.sleep(0.1)


async def sign_in(one: Page) -> None:
    """Signs in by the keyboard."""
    await one.press("s")
    await one.until("document.getElementById('sign-dialog').open")
    await one.type(TOKEN)
    await one.press("Enter")
    await one.until("document.querySelectorAll('#key-rows tr').length > 1")


async def pictures(folder: Path) -> None:
    """Takes the pictures in a minute of load, half of it in a partition."""
    program = chromium()
    assert program is not None, "there is no chromium: make chromium"
    async with three_nodes() as (network, clients), page(program) as one:
        await one.shape(*SHAPES["wide-light"][:2], dark=False)
        await one.open(f"{clients[0].url}/console")
        await load(clients, 250)
        await sign_in(one)
        network.cut("ap")
        await load(clients, 250)
        await one.value("document.querySelector('#key-rows button').click()")
        await one.until("document.querySelectorAll('#why-answer li').length")
        for name, (width, height, dark) in SHAPES.items():
            await one.shape(width, height, dark=dark)
            await one.value("new Promise((done) => setTimeout(done, 300))")
            (folder / f"console-{name}.png").write_bytes(await one.picture())


if __name__ == "__main__":
    asyncio.run(pictures(Path(sys.argv[1])))
