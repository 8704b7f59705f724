"""The stream of the console: one read a second for all clients, none without clients, and its
end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest

from crdtbucket.http.server.console import console_feed, console_sessions
from crdtbucket.http.server.console.console_feed import MAX_LISTENERS, ConsoleFeed
from tests.http.server.console.asking import event, following
from tests.http.serving import Asker, serving
from tests.waits import eventually

ROOT = Path(__file__).parents[4]


def counted(client: Asker, every_s: float) -> list[int]:
    """Replaces the feed of a server; the list gets a number for each look."""
    looks: list[int] = []

    async def look() -> tuple[dict[str, Any], dict[str, Any]]:
        looks.append(len(looks))
        return {"look": looks[-1]}, {}

    client.server.api.console.feed = ConsoleFeed(look, every_s)
    return looks


async def test_all_listeners_share_one_look_and_nobody_costs_none() -> None:
    async with serving() as client:
        looks = counted(client, 3_600)
        feed = client.server.api.console.feed
        assert not feed._looking
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(MAX_LISTENERS):
                stream = await stack.enter_async_context(following(client))
                assert stream.content_type == "text/event-stream"
                assert await event(stream) == ("node", {"look": 0, "private": None})
            status, problem, fields = await client.ask("GET", "/console/events")
            assert (status, dict(fields)["Retry-After"]) == (503, "5")
            assert f"{MAX_LISTENERS} pages" in problem["detail"]
            assert looks == [0]
            assert feed._looking


async def test_a_listener_gets_each_look_and_a_listener_that_leaves_is_noticed() -> None:
    async with serving() as client:
        looks = counted(client, 0.01)
        feed = client.server.api.console.feed
        async with following(client) as stream:
            numbers = [(await event(stream))[1]["look"] for _ in range(5)]
            assert numbers == sorted(set(numbers))
            stream.close()
        await eventually(lambda: not feed._looking)
        before = len(looks)
        async with following(client) as stream:
            assert (await event(stream))[1]["look"] >= before  # not what was seen long ago


async def test_each_event_puts_the_deadline_of_the_answer_off() -> None:
    async with serving() as client:
        counted(client, 0.01)
        async with following(client) as stream:
            await event(stream)
            (connection,) = client.server.api.connections.open
            before = connection.deadline_ns
            await event(stream)
            await event(stream)
            assert connection.deadline_ns > before


async def test_it_ends_with_the_server() -> None:
    async with serving() as client:
        counted(client, 3_600)
        async with following(client) as stream:
            await event(stream)
            stopping = asyncio.ensure_future(client.server.stop())
            assert await event(stream) == ("end", "this node is about to end")
            assert await stream.content.read() == b""
            await asyncio.wait_for(stopping, 30)


async def test_a_bug_in_a_look_ends_the_streams_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bugs = [ZeroDivisionError()]

    async def look() -> tuple[dict[str, Any], dict[str, Any]]:
        if bugs:
            raise bugs.pop()
        return {}, {}

    caplog.set_level(logging.ERROR, "crdtbucket.http")
    async with serving() as client:
        client.server.api.console.feed = feed = ConsoleFeed(look)
        async with following(client) as stream:
            assert (await event(stream))[0] == "end"
            assert await stream.content.read() == b""
        assert "ZeroDivisionError" in caplog.text
        await eventually(lambda: not feed._looking)
        async with following(client) as stream:  # who comes back is served again
            assert (await event(stream))[0] == "node"


def test_the_page_of_the_docs_tells_the_bounds() -> None:
    text = " ".join((ROOT / "docs/console.md").read_text().split())
    assert console_feed.EVERY_S == 1
    for told in (
        "an event a second",
        "looked at once a second for all of them",
        f"{MAX_LISTENERS} pages can be open at once",
        f"ends after {console_sessions.LIFE_S // 3600} hours",
        f"there are {console_sessions.MAX_SESSIONS} at once",
    ):
        assert told in text, told
