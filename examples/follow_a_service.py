"""Two nodes of a mesh call a service that allows less than they think: they follow what it says.

pip install -e .
python examples/follow_a_service.py
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from aiohttp import ClientSession, web

from crdtbucket import BucketSpec, Limiter, MeshConfig, WaitTimeout
from crdtbucket.http import Limits, Rule
from crdtbucket.http.middleware.aiohttp import setup
from crdtbucket.upstream.aiohttp_client import upstream_middleware
from crdtbucket.upstream.upstream import Upstream

ALLOWED = BucketSpec("service", capacity=20, refill_rate=20, refill_interval="1h")
BELIEVED = BucketSpec("service", capacity=100, refill_rate=100, refill_interval="1h")
SECRET = "a secret of this example"


async def service(stack: AsyncExitStack) -> str:
    """The address of a service that allows 20 calls, and says so in its answers."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/", answer)
    setup(app, Limits(Limiter([ALLOWED]), Rule("service")))
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/"


async def node(stack: AsyncExitStack, name: str, peers: list[str]) -> Limiter:
    """A node of the mesh."""
    mesh = MeshConfig(listen="127.0.0.1:0", peers=peers, secret=SECRET)
    return await stack.enter_async_context(Limiter([BELIEVED], node=name, mesh=mesh))


async def calls(follows: str | None) -> Counter[str]:
    """What becomes of 60 calls, each node's in turn."""
    async with AsyncExitStack() as stack:
        address = await service(stack)
        first = await node(stack, "eu-1", [])
        second = await node(stack, "us-1", [first.address])
        clients = []
        for limiter in (first, second):
            upstream = Upstream(limiter, "service", timeout=0, follows=follows)
            client = ClientSession(middlewares=[upstream_middleware(upstream)])
            clients.append(await stack.enter_async_context(client))
        outcomes = Counter[str]()
        for number in range(60):
            try:
                async with clients[number % 2].get(address) as answer:
                    outcomes["answered" if answer.status == 200 else "denied"] += 1
            except WaitTimeout:
                outcomes["not sent"] += 1
            await asyncio.sleep(0.01)
        return outcomes


async def main() -> None:
    """Both ways, one after the other."""
    for words, follows in (("by their own limit", None), ("following the service", "requests")):
        outcomes = await calls(follows)
        kinds = ("answered", "denied", "not sent")
        print(f"{words}: {', '.join(f'{outcomes[kind]} {kind}' for kind in kinds)}")


if __name__ == "__main__":
    asyncio.run(main())
