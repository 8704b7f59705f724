"""NATS as the engine of a mesh: one connection of a node, made again for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import StaleConnectionError

from crdtbucket.base.deadline import within
from crdtbucket.base.loaded_files import TlsFiles
from crdtbucket.mesh.engines.engine import RIGHTS_FIX, EngineListener
from crdtbucket.mesh.engines.subjects import Subjects
from crdtbucket.mesh.links.background_tasks import BackgroundTasks
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.dialer import Backoff

CONNECT_S = 3.0
LEAST_PAYLOAD = 512 * 1024
"""Bytes of a message that a server has to take: the largest frame, its seal and its envelope."""
PING_S = 2
"""Between two pings; a server that owes two answers is given up."""
MAX_UNSENT = 256 * 1024
"""Bytes that wait for a server which takes nothing: what is sent beyond them is lost."""
WAITS, WAIT_S = 10, 0.005
"""How often, and for how long (s) each time, a sender waits until less is unsent."""
CLOSE_S = 1.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 1.0
LOOK_S = 0.2
ENDS = OSError, StaleConnectionError
"""The errors after which the library closes a connection."""


class NatsEngine:
    """A NATS server, or a cluster of them, as the message engine of one node. It connects again for
    ever, and drops messages while it is not connected."""

    kind = "nats"

    def __init__(
        self,
        servers: Sequence[str],
        subjects: Subjects,
        rng: random.Random,
        *,
        credentials: str | None = None,
        tls: TlsFiles,
    ) -> None:
        """`credentials`: the text of a .creds file, "user:password", or a token."""
        self._servers = list(servers)
        self._subjects = subjects
        self._rng = rng
        self._credentials = credentials
        self._tls = tls
        self._client: Client | None = None
        self._tasks = BackgroundTasks()
        self._closed = asyncio.Event()
        self._refused = ""
        """The last refusal of the server."""

    @property
    def place(self) -> str:
        """The server's own id, which a restart changes."""
        client = self._client
        return "" if client is None else str(client._server_info.get("server_id", ""))

    def start(self, listener: EngineListener) -> None:
        """Begins to connect."""
        self._tasks.keep("the connection with NATS", partial(self._keep, listener))

    async def publish(self, to: str, data: bytes, *, asks: bool) -> bool:
        """Sends to a node; the answer "nobody" comes as if that node had sent it."""
        reply = self._subjects.reply_of(to) if asks else ""
        return await self._send(self._subjects.to(to), data, reply)

    async def announce(self, data: bytes) -> None:
        """Announces this node to all."""
        await self._send(self._subjects.announcement, data, "")

    async def verify(self) -> str:
        """Sends an empty message to itself, which is the node's right, and looks for refusals."""
        client = self._client
        if client is None:
            return self._refused or "the connection has ended"
        if client.max_payload < LEAST_PAYLOAD:
            return (
                f"its max_payload is {client.max_payload} bytes, and frames need {LEAST_PAYLOAD}: "
                "raise max_payload in its configuration"
            )
        try:
            await client.publish(self._subjects.to(self._subjects.node), b"")
            # The library sends its ping before queued messages: the answer to the first ping may
            # come before the message was sent, but the answer to the second one follows a refusal.
            await client.flush(int(CONNECT_S))
            await client.flush(int(CONNECT_S))
        except (NatsError, OSError, asyncio.TimeoutError) as error:
            return str(error) or type(error).__name__
        return f"{self._refused}: {RIGHTS_FIX}" if self._refused else ""

    async def stop(self) -> None:
        """Closes the connection after the messages that it has accepted were sent. Only the task
        that keeps the connection does so: a second one that closes would cut off what the first
        still sends."""
        await self._tasks.end()

    async def _send(self, subject: str, data: bytes, reply: str) -> bool:
        client = self._client
        if client is None or not await _has_room(client):
            return False
        try:
            await client.publish(subject, data, reply)
        except (NatsError, OSError) as error:
            LOG.debug("NATS did not take a message: %s", error)
            return False
        return True

    async def _keep(self, listener: EngineListener) -> None:
        order = list(self._servers)
        self._rng.shuffle(order)
        backoff = Backoff(self._rng, FIRST_PAUSE_S, LAST_PAUSE_S)
        while True:
            server = order[0]
            order = [*order[1:], server]
            if await self._serve(Client(), server, listener):
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())

    async def _serve(self, client: Client, server: str, listener: EngineListener) -> bool:
        """Connects, and keeps the connection until it ends. Returns whether there was one."""
        try:
            try:
                await within(2 * CONNECT_S, self._connect(client, server, listener))
            except (NatsError, OSError, ValueError, asyncio.TimeoutError) as error:
                listener.engine_down(f"{shown(server)}: {self._refused or _told(error)}")
                return False
            self._client = client
            listener.engine_up(shown(server))
            while client.is_connected:  # it may hang while it closes, and report no end
                with suppress(asyncio.TimeoutError):
                    await within(LOOK_S, self._closed.wait())
            ended = client.last_error
            why = "the connection has ended" if ended is None else _told(ended)
            listener.engine_down(f"{shown(server)}: {why}")
            return True
        finally:
            self._client = None
            await _close(client)

    async def _connect(self, client: Client, server: str, listener: EngineListener) -> None:
        said: set[str] = set()
        self._refused = ""
        self._closed.clear()

        async def closed() -> None:
            self._closed.set()

        async def failed(error: Exception) -> None:
            # Without a callback the library writes a traceback into the log for each.
            if client.is_connected and isinstance(error, ENDS):
                return  # the library reports the end of the connection as well
            self._refused = _told(error)
            if client.is_connected and self._refused not in said:
                said.add(self._refused)
                fix = f": {RIGHTS_FIX}" if "permissions violation" in self._refused.lower() else ""
                LOG.warning("NATS at %s: %s%s", shown(server), self._refused, fix)

        async def message(msg: Msg) -> None:
            sender = self._subjects.sender(msg.subject)
            if sender is None:
                return
            if self._subjects.is_announcement(msg.subject):
                listener.announced(sender, msg.data)
            elif msg.headers and msg.headers.get("Status") == "503":
                listener.nobody(sender)
            else:
                listener.arrived(sender, msg.data)

        await client.connect(
            server,
            name=f"crdtbucket {self._subjects.node}",
            error_cb=failed,
            closed_cb=closed,
            # This class connects again itself: the library would keep messages meanwhile, and
            # wait for a server that hangs to take what is left.
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(CONNECT_S),
            ping_interval=PING_S,
            no_echo=True,
            tls=self._tls.now(),
            **self._login(),
        )
        for subject in (self._subjects.inbox, self._subjects.announcements):
            await client.subscribe(subject, cb=message)
        await client.flush(int(CONNECT_S))

    def _login(self) -> dict[str, Any]:
        given = self._credentials
        if given is None:
            return {}
        if "BEGIN NATS USER JWT" in given:
            return {"user_credentials": RawCredentials(given)}
        user, colon, password = given.strip().partition(":")
        return {"user": user, "password": password} if colon else {"token": user}


async def _has_room(client: Client) -> bool:
    """Whether the server reads what is sent, so that at most `MAX_UNSENT` bytes wait. Waits a
    moment for that."""
    waits = WAITS
    while client.is_connected and client.pending_data_size > MAX_UNSENT and waits:
        waits -= 1
        await asyncio.sleep(WAIT_S if waits < WAITS - 1 else 0)
    return client.is_connected and client.pending_data_size <= MAX_UNSENT


def _told(error: Exception) -> str:
    """An error in words. A server that refuses a client closes the connection, and its answer may
    be lost: then only the reset is known."""
    if isinstance(error, ConnectionResetError):
        return f"{error}: a server does so where it refuses the credentials"
    return str(error) or type(error).__name__


async def _close(client: Client) -> None:
    """Ends a client, whether or not its server takes what is left."""
    try:
        await within(CLOSE_S, client.close())
    except (NatsError, OSError, asyncio.TimeoutError) as error:
        LOG.debug("closing the connection to NATS: %s", str(error) or type(error).__name__)
    # The library cannot abort a connection, and waits for ever if the server reads nothing.
    writer = getattr(client._transport, "_io_writer", None)
    sock = writer and writer.get_extra_info("socket")
    if writer is not None and sock is not None and sock.fileno() >= 0:
        writer.transport.abort()  # asyncio's raises once the connection has ended, so not then


def shown(server: str) -> str:
    """Host and port of a server's URL, for people."""
    parts = urlsplit(server)
    return f"{parts.hostname}:{parts.port or 4222}"
