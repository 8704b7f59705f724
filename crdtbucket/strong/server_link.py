"""The event loop's connection to one server, and the fence of the requests on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from crdtbucket._core import Decision
from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.script import FENCED, UNKNOWN
from crdtbucket.strong.redis.server_facts import ServerFacts, facts
from crdtbucket.strong.store_request import Answered, SentRequest, StoreRequest


class LinkListener(Protocol):
    """Is called when the connection to a server ends, and after each read from it."""

    def connection_lost(self, error: RedisUnavailable) -> None:
        """The connection in use ended, and not because it was dropped here."""

    def replies_read(self) -> None:
        """The replies that came in one read have been handed out."""


class ServerLink:
    """At most one connection at a time. Each has a fence, a number above those of all earlier
    connections, so that the script refuses requests that still arrive over an earlier one."""

    def __init__(
        self,
        address: Address,
        access: Access,
        next_fence: Callable[[], int],
        listener: LinkListener,
        scripts: Sequence[str],
    ) -> None:
        """`scripts`: what every connection loads first."""
        self.address = address
        self.access = access
        self.connection: RedisConnection | None = None
        self.fence = 0
        self.beats = b""
        """The beats of other regions of a replicated Redis, which calls to this server carry."""
        self._scripts = scripts
        self._next_fence = next_fence
        self._listener = listener
        self._opening: asyncio.Task[tuple[RedisConnection, ServerFacts]] | None = None

    def renew(self, access: Access) -> None:
        """Connections that are opened from now on use these credentials; from any thread."""
        self.access = access

    async def open(self, timeout: float) -> tuple[RedisConnection, ServerFacts] | None:
        """A new connection, which is not in use yet, and the facts about its server. None when the
        server has moved meanwhile; then it does not wait for an answer of the old one. Raises
        `RedisUnavailable`, and `asyncio.TimeoutError` when the facts took too long."""
        opening = self._opening = asyncio.ensure_future(self._opened(timeout))
        try:
            await asyncio.wait({opening})
        except BaseException:
            opening.add_done_callback(_unwanted)
            opening.cancel()
            raise
        if opening is not self._opening:
            _unwanted(opening)
            return None
        return opening.result()

    async def _opened(self, timeout: float) -> tuple[RedisConnection, ServerFacts]:
        connection = await RedisConnection.open(
            self.address,
            self.access,
            timeout,
            scripts=self._scripts,
            on_lost=self._lost,
            on_read=self._listener.replies_read,
        )
        try:
            return connection, await within(timeout, facts(connection))
        except BaseException:
            connection.abort()  # no other object refers to it yet
            raise

    def use(self, connection: RedisConnection) -> None:
        """Requests go over this connection from now on. Call it under the lock of the ledger."""
        self.fence = self._next_fence()
        self.connection = connection

    def drop(self) -> None:
        """Ends the connection, which is no failure of the server."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def move(self, address: Address) -> None:
        """The server is at another address from now on."""
        self.address = address
        self.drop()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()

    def raise_fence(self) -> None:
        """Keeps out every request that was sent before. Call it under the lock of the ledger."""
        self.fence = self._next_fence()

    def note_beats(self, words: bytes) -> None:
        """From now on calls to this server carry these beats of the other regions."""
        self.beats = words

    def book(
        self, request: SentRequest, answer: Answered, wanted: bool, forgot: Callable[[], object]
    ) -> Decision | SentRequest | None:
        """Books an answer of the server. Returns what `Ledger.book` does. `forgot` is called when
        the server lacks a record that it held. Call it under the lock of the ledger."""
        if answer.status is FENCED:
            # A later connection has sent a request for its key: the connection of another server,
            # from which the key was moved to this one, or that of a thread.
            assert isinstance(request, StoreRequest), "others have no fence"
            if request.call.fence == self.fence:
                self.raise_fence()
            request.call.fence = self.fence
            return request
        if answer.status is UNKNOWN and not request.ledger.lacking(request):
            forgot()
        return request.ledger.book(request, answer, self.fence, wanted)

    def _lost(self, connection: RedisConnection, error: RedisUnavailable) -> None:
        if connection is self.connection:
            self.connection = None
            self._listener.connection_lost(error)


def _unwanted(opening: asyncio.Task[tuple[RedisConnection, ServerFacts]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()
