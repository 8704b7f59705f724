"""The channel below a link ends when it is told to, on each event loop that may run it."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from crdtbucket.mesh.links.channel import ChannelLost
from crdtbucket.mesh.sockets.web_socket import PATH, connect, http_session


async def aborted() -> None:
    """Aborts a channel twice: its peer sees the end, and whoever receives does."""
    ended = asyncio.Event()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        ended.set()
        return ws

    app = web.Application()
    app.router.add_get(PATH, serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with http_session() as http:
            channel = await connect(http, f"{host}:{port}", None)
            channel.abort()
            await asyncio.wait_for(ended.wait(), 60)
            with pytest.raises(ChannelLost):
                await channel.receive()
            channel.abort()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_an_abort_ends_the_connection(library: str) -> None:
    loop = pytest.importorskip(library).new_event_loop()
    try:
        loop.run_until_complete(aborted())
    finally:
        loop.close()
