"""The process of one region of the demo: its console."""

from __future__ import annotations

import aiohttp

from crdtbucket import BucketSpec, Limiter
from crdtbucket.demo.region import console
from tests.strong.redis_server import free_port


async def test_a_region_shows_its_console_where_it_is_asked_to() -> None:
    async with Limiter([BucketSpec("api", 1, 1)]) as limiter, aiohttp.ClientSession() as session:
        async with console(limiter, None):
            pass
        port = free_port()
        url = f"http://127.0.0.1:{port}/console"
        async with console(limiter, port):
            async with session.get(url) as answer:
                assert (answer.status, answer.content_type) == (200, "text/html")
            async with session.get(f"{url}/session") as answer:
                assert (await answer.json())["admin"] is False  # nobody can sign in
        try:
            async with session.get(url):
                raise AssertionError("it answers after its end")
        except aiohttp.ClientConnectionError:
            pass
