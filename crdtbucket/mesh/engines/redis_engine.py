"""The channels of one Redis as the engine of a mesh: one connection publishes, one subscribes."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from crdtbucket.base.deadline import within
from crdtbucket.base.loaded_files import TlsFiles
from crdtbucket.errors import CrdtbucketError, RedisUnavailable
from crdtbucket.mesh.engines.engine import RIGHTS_FIX, EngineListener
from crdtbucket.mesh.engines.subjects import Subjects
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.dialer import Backoff
from crdtbucket.strong.redis.access import server_access
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.redis_connection import (
    RedisConnection,
    RedisConnectionLost,
    ask,
    asked,
)
from crdtbucket.strong.redis.resp import RedisErrorReply, ReplyReader, encode

CONNECT_S = 3.0
PING_S = 2.0
"""Between two pings; a server that has not answered one when the next is due is given up."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 1.0


class MessageReader(ReplyReader):
    """Reads a connection that is subscribed to channels: it hands on their messages, and returns
    all other replies."""

    __slots__ = ("_received",)

    def __init__(self, received: Callable[[str, bytes], None]) -> None:
        """`received(channel, data)` is called with every message."""
        super().__init__()
        self._received = received

    def next(self) -> object:
        """The next reply that is not a message of a channel, `NOTHING` when none is complete.
        Messages before it are handed to `received`."""
        while True:
            reply = super().next()
            if not (isinstance(reply, list) and len(reply) == 4 and reply[0] == b"pmessage"):
                return reply
            self._received(reply[2].decode("latin-1"), reply[3])


class RedisEngine:
    """The channels of one Redis as the message engine of one node. It connects again for ever, and
    drops messages while it is not connected."""

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
        self._in: RedisConnection | None = None
        self._out: RedisConnection | None = None
        self._listener: EngineListener | None = None
        self._tasks = BackgroundTasks()
        self._said = ""
        """The last refusal of the server."""

    def start(self, listener: EngineListener) -> None:
        """Begins to connect."""
        self._listener = listener
        self._tasks.keep("the connections with Redis", partial(self._keep, listener))

    async def publish(self, to: str, data: bytes, *, asks: bool) -> bool:
        """Sends to a node; Redis counts who has got it."""
        return self._send(self._subjects.to(to), data, to if asks else "")

    async def announce(self, data: bytes) -> None:
        """Sends to all nodes. The copy that comes back to this node is recognised by its sender,
        and ignored."""
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
            try:  # earlier commands are answered before this one
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
        backoff = Backoff(self._rng, FIRST_PAUSE_S, LAST_PAUSE_S)
        while True:
            lost = asyncio.Event()
            try:
                try:
                    await within(CONNECT_S, self._connect(lost))
                except (CrdtbucketError, asyncio.TimeoutError) as error:
                    why = str(error) or f"no answer within {CONNECT_S:g} s"
                else:
                    backoff.reset()
                    listener.engine_up(str(self._address))
                    why = await self._watch(lost)
            finally:
                for connection in (self._in, self._out):
                    if connection is not None:
                        connection.abort()
                self._in, self._out, self.place = None, None, ""
            listener.engine_down(f"{self._address}: {why}")
            await asyncio.sleep(backoff.next())

    async def _connect(self, lost: asyncio.Event) -> None:
        """Connects twice, and subscribes. `lost` is set when the connection that is subscribed has
        ended."""
        access = server_access(self._config, self._tls.now(), f"crdtbucket-{self._subjects.node}")
        self._in = await RedisConnection.open(
            self._address,
            access,
            CONNECT_S,
            reader=MessageReader(self._take),
            on_lost=lambda *_: lost.set(),
        )
        for pattern in (self._subjects.inbox, self._subjects.announcements):
            reply = await asked(self._in, "PSUBSCRIBE", pattern)
            if isinstance(reply, RedisErrorReply):
                text = f"Redis at {self._address} does not let this node read {pattern} ({reply})"
                raise RedisUnavailable(f"{text}: {RIGHTS_FIX}", "auth")
            if isinstance(reply, RedisUnavailable):
                raise reply
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

    async def _watch(self, lost: asyncio.Event) -> str:
        """Returns when the connections have to be made again, with the reason."""
        while True:
            with suppress(asyncio.TimeoutError):
                await within(PING_S, lost.wait())
            if self._in is None or self._in.closed:
                return "the connection has ended"
            if self._out is None or self._out.closed:
                return "the connection that publishes has ended"
            pong = asked(self._in, "PING")
            await asyncio.wait({pong}, timeout=PING_S)
            if not pong.done():
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
    """The server's id, which a restart changes, and its role; "" where this user may not ask for
    it."""
    try:
        answer = await ask(connection, "INFO")
    except RedisErrorReply:
        return ""
    return answer.decode("latin-1") if isinstance(answer, bytes) else ""
