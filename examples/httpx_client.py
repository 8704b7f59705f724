"""A client of httpx waits for a bucket of each account, and one that must rest stops no other.

pip install -e '.[httpx]'
python examples/httpx_client.py
"""

from __future__ import annotations

import asyncio
import time

import httpx2
from aiohttp import web

from crdtbucket import BucketSpec, Limiter, WaitTimeout
from crdtbucket.upstream.httpx_transport import AsyncUpstreamTransport
from crdtbucket.upstream.upstream import Upstream

SPEC = BucketSpec("service", capacity=5, refill_rate=20)


async def answer(request: web.Request) -> web.Response:
    """The service: it has a limit for each account, and globex is beyond its own."""
    if request.headers["Account"] == "globex":
        return web.Response(status=429, headers={"Retry-After": "30"})
    return web.Response()


async def sent(client: httpx2.AsyncClient, account: str) -> bool:
    """Whether a call got its token in time."""
    try:
        await client.get("/", headers={"Account": account})
    except WaitTimeout:
        return False
    return True


async def main() -> None:
    """Three calls of one account, one after the other, and then ten of another at once."""
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    upstream = Upstream(
        Limiter([SPEC]), "service", key=lambda request: request.headers["Account"], timeout=20
    )
    transport = AsyncUpstreamTransport(httpx2.AsyncHTTPTransport(), upstream)
    async with httpx2.AsyncClient(transport=transport, base_url=address) as client:
        calls = [await sent(client, "globex") for _ in range(3)]
        print(f"globex: {sum(calls)} of 3 calls sent")
        begun = time.monotonic()
        calls = await asyncio.gather(*(sent(client, "acme") for _ in range(10)))
        print(f"acme: {sum(calls)} of 10 calls sent in {time.monotonic() - begun:.2f} s")
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
