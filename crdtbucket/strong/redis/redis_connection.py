"""One connection to one Redis: commands out, replies handed on in their order, and nothing else.

No task, future or timer belongs to a call, and no call is retried: so calls are cheap, and it is
safe to give a call up, since a callback then ignores its reply.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import cast

from crdtbucket.base.address import Address
from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import within
from crdtbucket.errors import CrdtbucketError, RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.command_batch import Batch
from crdtbucket.strong.redis.lateness import Newest, lateness_of
from crdtbucket.strong.redis.login import dial, ended, garbled, shake_hands, silent, unreachable
from crdtbucket.strong.redis.resp import NOTHING, GarbledReply, ReplyReader, encode

OnReply = Callable[[object], None]
OnLost = Callable[["RedisConnection", RedisUnavailable], None]
OnRead = Callable[[], None]
WRITE_BUFFER = 256 * 1024
"""Bytes that wait for a server which does not read, beyond what the system buffers."""
MAX_OPEN_CALLS = 16_384
FULL_BATCH = 64
"""When this many commands of one turn of the loop have gathered, they leave at once, without
waiting for more."""


class RedisConnectionLost(RedisUnavailable):
    """The connection ended with this call open: whether the command ran is not known."""

    def __init__(self, message: str, kind: str = "lost") -> None:
        super().__init__(message, kind)


class RedisConnection(asyncio.Protocol):
    """One connection to Redis, made by `open`. It may be used on its event loop only."""

    def __init__(self, address: Address, reader: ReplyReader | None = None) -> None:
        self.address = address
        self._on_lost: OnLost | None = None
        self._on_read: OnRead | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader() if reader is None else reader
        self._calls: deque[tuple[OnReply, Batch]] = deque()
        self._gathered: list[bytes] = []
        self._batch = Batch()
        self._lateness = lateness_of(self._loop)
        self._newest: Newest | None = None
        self._waits = False
        # Whether several commands came in the last turn that had any: then the first of the next
        # waits for the others instead of travelling alone before them.
        self._several = False
        self._paused = False
        self._lost: RedisConnectionLost | None = None

    @classmethod
    async def open(
        cls,
        address: Address,
        access: Access,
        timeout: float,
        *,
        scripts: Sequence[str] = (),
        reader: ReplyReader | None = None,
        on_lost: OnLost | None = None,
        on_read: OnRead | None = None,
    ) -> RedisConnection:
        """Connects, logs in, chooses the database and loads `scripts`, all within `timeout` s.

        `reader`: reads what arrives, if that is more than replies. `on_lost` is called once when
        the connection has ended, by either side, after every open call has got that error;
        `on_read` after the replies of one read, if there were any, have been handed out. Raises
        `RedisUnavailable`.
        """
        connection = cls(address, reader)
        try:
            await within(timeout, connection._start(access, scripts))
            connection._check_open()
        except asyncio.TimeoutError as error:
            connection.abort()
            raise silent(address, access, timeout) from error
        except OSError as error:
            connection.abort()
            raise unreachable(address, error) from error
        except BaseException:
            connection.abort()
            raise
        connection._on_lost, connection._on_read = on_lost, on_read
        return connection

    # -- calls

    def send(self, command: bytes, on_reply: OnReply) -> Batch:
        """Sends one command; `on_reply` gets its reply, however late, in the order of the sends.

        A reply is what Redis answered, a `RedisErrorReply` included, or `RedisConnectionLost` when
        the connection ended first. Commands of one turn of the loop go out together; the first one
        goes out at once when none is open. Returns the batch in which the command leaves, which
        says when it was written and, within `on_reply`, how long the answer took. When an
        `on_reply` finds no answer to its command, it raises `GarbledReply`, which ends the
        connection. Raises `RedisConnectionLost` when the connection has ended already: nothing was
        sent.
        """
        if self._lost is not None:
            self._check_open()
        calls, gathered, batch = self._calls, self._gathered, self._batch
        calls.append((on_reply, batch))
        if gathered:
            gathered.append(command)
            if len(gathered) >= FULL_BATCH:
                self._write()
        elif len(calls) > 1 or self._several:
            gathered.append(command)
            self._loop.call_soon(self._flush)
        else:
            gathered.append(command)
            self._write()
        return batch

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest open call was written (`clock.now_ns`); None when none is."""
        return (self._calls[0][1].written_ns or None) if self._calls else None

    @property
    def congested(self) -> bool:
        """Whether no more should be sent for now: the server does not read, or answer.

        What is sent all the same is kept in memory.
        """
        return self._paused or len(self._calls) >= MAX_OPEN_CALLS

    def has_room(self, calls: int) -> bool:
        """Whether one more may be sent where at most so many may be open."""
        return len(self._calls) < calls and not self._paused and self._lost is None

    @property
    def remote(self) -> str:
        """The IP address of the server; "" on a Unix socket, and before there is a connection."""
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, or is ending."""
        return self._lost is not None

    def abort(self) -> None:
        """Ends it at once. Open calls get the error in the next turns of the loop."""
        self._end(RedisConnectionLost(f"the connection to Redis at {self.address} was closed here"))

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._newest = Newest(transport.get_extra_info("socket"))
        if self._lost is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        calls, next_reply = self._calls, self._reader.next
        now, read = now_ns(), None
        try:
            self._reader.feed(data)
            while (reply := next_reply()) is not NOTHING:
                if not calls:
                    raise GarbledReply("an answer that nobody asked for")
                on_reply, batch = calls.popleft()
                if batch is not read:
                    read, batch.arrived_ns = batch, now - self._unread_ns(batch, now)
                on_reply(reply)
        except GarbledReply as error:
            # From here on it is not known which reply belongs to which call.
            self._end(RedisConnectionLost(garbled(self.address, error), "script"))
        finally:
            if read is not None and self._on_read is not None:
                self._on_read()
        if not calls:
            self._rest()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost is None:
            self._lost = RedisConnectionLost(ended(self.address, exc))
        # One callback each, so that one that fails does not keep others from their answers.
        for on_reply, _ in self._calls:
            self._loop.call_soon(on_reply, self._lost)
        self._calls.clear()
        self._gathered.clear()
        self._rest()
        if self._newest is not None:
            self._newest.close()
        if self._on_lost is not None:
            self._loop.call_soon(self._on_lost, self, self._lost)

    # --

    async def _start(self, access: Access, scripts: Sequence[str]) -> None:
        await dial(lambda: self, self.address, access)
        # All of it goes out in one write: a server without room may have closed the connection by
        # then, and a second write would end it before its reason is read.
        self._several = True
        await shake_hands(self.address, access, scripts, partial(asked, self))
        self._several = False

    def _flush(self) -> None:
        if self._gathered:  # else the batch was full, and has left
            self._several = len(self._gathered) > 1
            if self._lost is None:
                self._write()
            self._gathered.clear()

    def _write(self) -> None:
        """Writes the commands that were gathered; from now on the server's answers are waited
        for."""
        assert self._transport is not None
        batch, self._batch = self._batch, Batch()
        data = b"".join(self._gathered)
        self._gathered.clear()
        batch.leave(now := now_ns())
        if not self._waits:
            self._waits = True
            self._lateness.begin(now)
        batch.late_ns = self._lateness.total(now)
        self._transport.write(data)

    def _rest(self) -> None:
        if self._waits:
            self._waits = False
            self._lateness.end()

    def _unread_ns(self, batch: Batch, now: int) -> int:
        """The time for which an answer to the batch, which is read now, has been here."""
        late = self._lateness.total(now) - batch.late_ns
        age = self._newest.age_ns() if late and self._newest is not None else None
        return late if age is None else min(late, age)

    def _check_open(self) -> None:
        if self._lost is not None:
            raise RedisConnectionLost(self._lost.message, self._lost.kind)

    def _end(self, reason: RedisConnectionLost) -> None:
        if self._lost is None:
            self._lost = reason
        if self._transport is not None:
            self._transport.abort()


def sent(connection: RedisConnection, command: bytes) -> asyncio.Future[object]:
    """The reply to come, an error as a value; cancelled, the reply is dropped when it comes."""
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def replied(reply: object) -> None:
        if not future.done():
            future.set_result(reply)

    connection.send(command, replied)
    return future


def asked(connection: RedisConnection, *words: bytes | str | int) -> asyncio.Future[object]:
    """`sent` for a command in words."""
    return sent(connection, encode(*words))


async def ask(connection: RedisConnection, *words: bytes | str | int) -> object:
    """Redis' reply to one command, for rare commands.

    Raises `RedisErrorReply` for an error that Redis answered, and `RedisConnectionLost`. It waits
    without end: bound it from outside. Cancelled, its reply reaches nobody else.
    """
    return good(await asked(connection, *words))


async def all_of(replies: Iterable[Awaitable[object]]) -> list[object]:
    """Replies to commands that are sent together. Raises the first error among them, as `ask`."""
    return [good(reply) for reply in await asyncio.gather(*replies)]


def good(reply: object) -> object:
    """The reply, which is raised when it is an error."""
    if isinstance(reply, CrdtbucketError):
        raise reply
    return reply
