"""The channels of one Redis as the engine of a mesh: one connection publishes, one subscribes."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import cast

from crdtbucket.base.address import Address
from crdtbucket.base.deadline import within
from crdtbucket.base.loaded_files import TlsFiles
from crdtbucket.errors import CrdtbucketError, RedisUnavailable
from crdtbucket.mesh.engines.engine import RIGHTS_FIX, EngineListener
from crdtbucket.mesh.engines.subjects import Subjects
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.strong.redis.access import Access, server_access
from crdtbucket.strong.redis.login import check, handshake, unreachable
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import RedisConnection, RedisConnectionLost, ask
from crdtbucket.strong.redis.resp import NOTHING, GarbledReply, RedisErrorReply, ReplyReader, encode

CONNECT_S = 3.0
PING_S = 2.0
"""Between two pings; a server that has not answered one when the next is due is given up."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 1.0


class Subscriber(asyncio.Protocol):
    """A connection that is subscribed to patterns; it is closed by `abort`, or by the server."""

    def __init__(self, address: Address, received: Callable[[str, bytes], None]) -> None:
        """`received(channel, data)` is called with every message."""
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why it has ended, once it has."""
        self._address = address
        self._received = received
        self._reader = ReplyReader()
        self._transport: asyncio.Transport | None = None
        self._replies: asyncio.Queue[object] = asyncio.Queue()

    async def open(self, access: Access, patterns: tuple[str, ...]) -> None:
        """Connects, logs in, and subscribes. Raises `RedisUnavailable` and `OSError`."""
        loop, address = asyncio.get_running_loop(), self._address
        await loop.create_connection(lambda: self, address.host, address.port, ssl=access.tls)
        for step in handshake(access, ()):
            check(address, access, step, await self._ask(*step))
        for pattern in patterns:
            reply = await self._ask("PSUBSCRIBE", pattern)
            if isinstance(reply, RedisErrorReply):
                text = f"Redis at {address} does not let this node read {pattern} ({reply})"
                text += f": {RIGHTS_FIX}"
                raise RedisUnavailable(text, "auth")
            if isinstance(reply, RedisUnavailable):
                raise reply

    async def ping(self) -> None:
        """Returns when the server has answered, or the connection has ended."""
        await self._ask("PING")

    def abort(self) -> None:
        """Ends it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.next()) is not NOTHING:
                if isinstance(reply, list) and len(reply) == 4 and reply[0] == b"pmessage":
                    self._received(reply[2].decode("latin-1"), reply[3])
                else:
                    self._replies.put_nowait(reply)
        except GarbledReply as error:
            self._end(f"it sent {error}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection has ended{f' ({exc})' if exc else ''}")
        lost = RedisConnectionLost(f"Redis at {self._address} closed the connection")
        self._replies.put_nowait(lost)

    async def _ask(self, *words: str | int) -> object:
        assert self._transport is not None
        self._transport.write(encode(*words))
        return await self._replies.get()

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)


class RedisEngine:
    """See `Engine`."""

    kind = "redis"

    def __init__(
        self,
        config: RedisConfig,
        tls: TlsFiles,
        subjects: Subjects,
        rng: random.Random,
    ) -> None:
        """`config`: of one server."""
        self.place = ""
        self._address = config.target.addresses[0]
        self._config, self._tls = config, tls
        self._subjects = subjects
        self._rng = rng
        self._out: RedisConnection | None = None
        self._listener: EngineListener | None = None
        self._tasks = BackgroundTasks()
        self._said = ""
        """What the server refused last."""

    def start(self, listener: EngineListener) -> None:
        """Begins to connect."""
        self._listener = listener
        self._tasks.spawn(self._keep(listener))

    async def publish(self, to: str, data: bytes, *, asks: bool) -> bool:
        """Sends to a node; Redis counts who has got it."""
        return self._send(self._subjects.to(to), data, to if asks else "")

    async def announce(self, data: bytes) -> None:
        """Sends to all; what comes back to this node is left out by who announced it."""
        self._send(self._subjects.announcement, data, "")

    async def verify(self) -> str:
        """Sends an empty message to itself, which is the node's right."""
        out = self._out
        if out is None:
            return "the connection has ended"
        try:
            await ask(out, "PUBLISH", self._subjects.to(self._subjects.node), b"")
        except CrdtbucketError as error:
            return f"{error}: {RIGHTS_FIX}"
        return ""

    async def stop(self) -> None:
        """Closes the connections."""
        out = self._out
        if out is not None and not out.closed:
            try:  # what was sent before is answered before
                await within(1.0, ask(out, "PING"))
            except (CrdtbucketError, asyncio.TimeoutError) as error:
                LOG.debug("closing the connection to Redis: %s", error)
        await self._tasks.end()

    def _send(self, channel: str, data: bytes, name: str) -> bool:
        out = self._out
        if out is None or out.closed or out.congested:
            return False

        def answered(reply: object) -> None:
            if isinstance(reply, RedisErrorReply):
                if self._said != reply.code:
                    fix = f": {RIGHTS_FIX}" if reply.code == "NOPERM" else ""
                    text = "Redis at %s did not take a message: %s%s"
                    LOG.warning(text, self._address, reply, fix)
                self._said = reply.code
            elif reply == 0 and name and self._listener is not None:
                self._listener.nobody(name)

        try:
            out.send(encode("PUBLISH", channel, data), answered)
        except RedisConnectionLost:
            return False
        return True

    async def _keep(self, listener: EngineListener) -> None:
        pause = FIRST_PAUSE_S
        while True:
            subscriber = Subscriber(self._address, self._take)
            try:
                try:
                    await within(CONNECT_S, self._connect(subscriber))
                except (CrdtbucketError, OSError, asyncio.TimeoutError) as error:
                    why = str(error) or f"no answer within {CONNECT_S:g} s"
                else:
                    pause = FIRST_PAUSE_S
                    listener.engine_up(str(self._address))
                    why = await self._watch(subscriber)
            finally:
                subscriber.abort()
                if self._out is not None:
                    self._out.abort()
                self._out, self.place = None, ""
            listener.engine_down(f"{self._address}: {why}")
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
            pause = min(2 * pause, LAST_PAUSE_S)

    async def _connect(self, subscriber: Subscriber) -> None:
        access = server_access(self._config, self._tls.now(), f"crdtbucket-{self._subjects.node}")
        try:
            await subscriber.open(access, (self._subjects.inbox, self._subjects.announcements))
        except OSError as error:
            raise unreachable(self._address, error) from error
        self._out = await RedisConnection.open(self._address, access, CONNECT_S)
        info = await _info(self._out)
        run_id = re.search(r"run_id:([0-9a-f]+)", info)
        self.place = run_id[1] if run_id else ""
        if "role:slave" in info:
            LOG.warning(
                "Redis at %s is a replica: frames of nodes at its master do not come here. See "
                "that mesh.servers leads all nodes to the master",
                self._address,
            )

    async def _watch(self, subscriber: Subscriber) -> str:
        """Why the connection is to be made again; returns when it is."""
        while True:
            await asyncio.wait({subscriber.ended}, timeout=PING_S)
            if subscriber.ended.done():
                return subscriber.ended.result()
            if self._out is None or self._out.closed:
                return "the connection that publishes has ended"
            try:
                await within(PING_S, subscriber.ping())
            except asyncio.TimeoutError:
                return f"no answer within {PING_S:g} s"

    def _take(self, channel: str, data: bytes) -> None:
        sender = self._subjects.sender(channel)
        if sender is None or self._listener is None:
            return
        if self._subjects.is_announcement(channel):
            self._listener.announced(sender, data)
        else:
            self._listener.arrived(sender, data)


async def _info(connection: RedisConnection) -> str:
    """What the server says of itself: its id, which a restart changes, and its role; "" where this
    user may not ask for it."""
    try:
        answer = await ask(connection, "INFO")
    except RedisErrorReply:
        return ""
    return answer.decode("latin-1") if isinstance(answer, bytes) else ""
