"""Server-sent events: the state that the console shows, sent once a second to a few listeners. All
listeners are served from one look at the node per second. Without listeners the node is not looked
at.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from crdtbucket.http.server.connections import ClientConnection
from crdtbucket.http.server.refusal import Refusal

LOG = logging.getLogger("crdtbucket.http")
EVERY_S = 1.0
"""Seconds between two looks."""
MAX_LISTENERS = 16
RETRY_MS = 3_000
"""So long a browser waits before it connects again."""
HEAD = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events back until its buffer is full
}

Look = Callable[[], Awaitable[tuple[dict[str, Any], dict[str, Any]]]]
"""Returns the public and the private part of what is shown."""


class ConsoleFeed:
    """The stream of events of one server."""

    def __init__(self, look: Look, every_s: float = EVERY_S) -> None:
        self._look = look
        self._every_s = every_s
        self._listeners = 0
        self._ended = self._fault = ""
        """Why no more streams begin, and why the present ones end."""
        self._turn = 0
        """The number of the newest look."""
        self._public = self._both = ""
        self._next: asyncio.Event = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def _over(self) -> str:
        return self._ended or self._fault

    def end(self, reason: str) -> None:
        """Ends all streams, and refuses new ones."""
        self._ended = reason
        self._wake()

    async def follow(
        self, request: web.BaseRequest, signed_in: Callable[[], Awaitable[bool]]
    ) -> web.StreamResponse:
        """Answers with a stream until the client goes or the server ends. `signed_in` is asked
        before each event whether the private part may be in it. Raises `Refusal`."""
        if self._over or self._listeners >= MAX_LISTENERS:
            text = self._over or f"{MAX_LISTENERS} pages of the console are open: close one"
            raise Refusal(503, text, headers={"Retry-After": "5"})
        self._listeners += 1
        try:
            return await self._stream(request, signed_in)
        finally:
            self._listeners -= 1
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = None
                self._turn = 0
                self._fault = ""

    async def _stream(
        self, request: web.BaseRequest, signed_in: Callable[[], Awaitable[bool]]
    ) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, ClientConnection)
        response = web.StreamResponse(headers=HEAD)
        await response.prepare(request)
        await response.write(f"retry: {RETRY_MS}\n\n".encode())
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look_on())
        seen = 0
        while True:
            while self._turn == seen and not self._over:
                await self._next.wait()
            if self._over:
                break
            seen = self._turn
            data = self._both if await signed_in() else self._public
            # A client that does not read is cut off after the deadline of a request.
            connection.goes_on()
            await response.write(f"event: node\ndata: {data}\n\n".encode())
        await response.write(f"event: end\ndata: {json.dumps(self._over)}\n\n".encode())
        response.force_close()
        return response

    def _wake(self) -> None:
        # Each look has a new event, since all listeners have to see it set.
        self._next.set()
        self._next = asyncio.Event()

    async def _look_on(self) -> None:
        while True:
            try:
                public, private = await self._look()
            except Exception:
                LOG.exception("a bug in what the console shows")
                self._fault = "a bug of the server: its log has it"
                self._wake()
                return
            self._public = json.dumps({**public, "private": None})
            self._both = json.dumps({**public, "private": private})
            self._turn += 1
            self._wake()
            await asyncio.sleep(self._every_s)
