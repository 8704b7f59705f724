"""Clients of the console of a server: of its events, and of a browser's session."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from crdtbucket.http.server.console.console_routes import PROOF
from tests.http.serving import TOKEN, Asker


async def event(response: aiohttp.ClientResponse) -> tuple[str, Any]:
    """The next event of a stream: its kind, and its data."""
    while True:
        text = (await response.content.readuntil(b"\n\n")).decode().strip()
        fields = dict(line.split(": ", 1) for line in text.split("\n"))
        if "event" in fields:
            return fields["event"], json.loads(fields["data"])


@asynccontextmanager
async def following(client: Asker, cookie: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
    """The stream of events, with a session's cookie or without."""
    headers = {"Cookie": cookie} if cookie else {}
    async with client.session.get(f"{client.url}/console/events", headers=headers) as response:
        yield response


async def signed_in(client: Asker) -> dict[str, str]:
    """The fields that the page sends once its user has signed in."""
    status, answer, fields = await client.ask("POST", "/console/sign-in", json={"token": TOKEN})
    assert (status, answer["signed_in"]) == (200, True)
    cookie = dict(fields)["Set-Cookie"].partition(";")[0]
    return {"Cookie": cookie, PROOF: answer["proof"]}
