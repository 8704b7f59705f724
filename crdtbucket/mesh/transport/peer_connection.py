"""One authenticated WebSocket to one peer: a bounded queue out, opened frames in."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from aiohttp import ServerDisconnectedError, WebSocketError, WSMsgType

from crdtbucket.errors import WireError
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.transport.counters import LOG, MeshCounters
from crdtbucket.mesh.transport.session import MAX_SEALED, Kind, Reason, Session


class WebSocket(Protocol):
    """What the client's and the server's WebSocket of aiohttp have in common."""

    async def receive(self) -> Any: ...
    async def send_bytes(self, data: bytes) -> None: ...
    async def close(self) -> bool: ...
    def get_extra_info(self, name: str) -> Any: ...
    def exception(self) -> BaseException | None: ...


# The library refuses a message of exactly its limit too.
MAX_MESSAGE = MAX_SEALED + 1
MAX_QUEUED_FRAMES = 256
MAX_QUEUED_BYTES = 4 * 1024 * 1024
CLOSE_S = 1.0
# After so much input the loop serves others: a peer that sends without pause must not own it.
_TURN_FRAMES = 16
_TURN_BYTES = 65_536
_SILENCE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
_REFUSALS = {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE}


class PeerConnectionLost(Exception):
    """The WebSocket ended or broke; the text says how."""


class Oversize(PeerConnectionLost):
    """The peer sent a message above the limit."""


async def receive_bytes(ws: WebSocket) -> bytes:
    """The next binary message. Raises `PeerConnectionLost`, `Oversize`, or `WireError` for all
    else."""
    message = await ws.receive()
    if message.type is WSMsgType.BINARY:
        data: bytes = message.data
        return data
    if message.type is WSMsgType.ERROR:
        if getattr(message.data, "code", None) == 1009:
            raise Oversize(str(message.data))
        if isinstance(message.data, WebSocketError):
            raise WireError(f"no WebSocket: {message.data}")
        raise PeerConnectionLost(str(message.data or ws.exception() or "broken"))
    if message.type is WSMsgType.TEXT:
        raise WireError("a text message where frames are binary")
    raise PeerConnectionLost("closed by the peer" if message.type is WSMsgType.CLOSE else "closed")


class PeerConnection:
    """An authenticated connection. Sends never block the caller; a slow peer loses frames."""

    def __init__(
        self,
        ws: WebSocket,
        session: Session,
        peer: NodeInfo,
        *,
        instance: int,
        dialed: bool,
        counters: MeshCounters,
    ) -> None:
        self.peer = peer
        self.instance = instance
        self.dialed = dialed
        self.bad_frames = 0
        self._ws = ws
        self._session = session
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Kind, bytes]] = deque()
        self._queued_bytes = 0
        self._more = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._sending_since: float | None = None
        self._heard_at = self._loop.time()
        self._closing = False
        self.ended_because = ""
        self.ended_there = False
        """Whether the peer's side closed or reset the connection, before this side gave it up."""

    def start(self, *, accept: bool) -> None:
        """Begin to send; call it before the first `offer`. A listener's proof goes first."""
        self._sender = asyncio.create_task(self._send(accept), name=f"sender {self.peer.name}")

    def offer(self, frame: bytes) -> None:
        """Queue a frame; the oldest ones give way when the peer does not keep up."""
        if self._closing:
            self._counters.frames_dropped += 1
            return
        self._queue.append((Kind.FRAME, frame))
        self._queued_bytes += len(frame)
        while len(self._queue) > MAX_QUEUED_FRAMES or self._queued_bytes > MAX_QUEUED_BYTES:
            _, dropped = self._queue.popleft()
            self._queued_bytes -= len(dropped)
            self._counters.frames_dropped += 1
        self._more.set()

    def silent_for(self) -> float:
        """Seconds since a valid frame came."""
        return self._loop.time() - self._heard_at

    def stuck_for(self) -> float:
        """Seconds for which the peer has not taken what is being sent; 0 when nothing waits."""
        since = self._sending_since
        return 0.0 if since is None else self._loop.time() - since

    async def run(self, on_frame: Callable[[PeerConnection, bytes], None]) -> None:
        """Hand every frame to `on_frame` until the link ends; `ended_because` then says why.

        Raises `WireError` when the stream itself can no longer be trusted.
        """
        frames = size = 0
        while not self._closing:
            try:
                data = await receive_bytes(self._ws)
            except PeerConnectionLost as error:
                self.ended_because = self.ended_because or str(error)
                if isinstance(error, Oversize):
                    raise WireError(f"a message above {MAX_SEALED} bytes") from error
                self._lost(self._ws.exception())
                return
            kind, body = self._session.open(data)
            self._heard_at = self._loop.time()
            self._counters.frames_in += 1
            self._counters.bytes_in += len(data)
            if kind == Kind.FRAME:
                on_frame(self, body)
            elif kind == Kind.BYE:
                self._lost(None)
                self.ended_because = f"the peer says {describe_bye(body)}"
                return
            frames, size = frames + 1, size + len(data)
            if frames >= _TURN_FRAMES or size >= _TURN_BYTES:
                frames = size = 0
                await asyncio.sleep(0)

    async def close(self, reason: Reason, because: str) -> None:
        """Send what is queued and a `BYE`, within a second; then close. Safe to call twice."""
        if not self._closing:
            self._closing = True
            self.ended_because = self.ended_because or because
            self._queue.append((Kind.BYE, bytes((reason,))))
            self._queued_bytes += 1
            self._more.set()
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=CLOSE_S)
        await self.finish()

    async def finish(self) -> None:
        """Stop sending and close the socket now, whether or not the peer answers."""
        self._closing = True
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait({self._sender})
        await hang_up(self._ws)

    def abort(self, because: str) -> None:
        """Break the connection at once; `run` then returns."""
        self.ended_because = self.ended_because or because
        self._closing = True
        break_socket(self._ws)

    def _lost(self, error: BaseException | None) -> None:
        """The connection is at its end, and nothing here has ended it. Where the kernel has given
        up sending, or has lost its way, the peer has not ended it either."""
        if not self._closing:
            self.ended_there = not is_silence(error)

    async def _send(self, accept: bool) -> None:
        try:
            if accept:
                await self._send_one(Kind.ACCEPT, b"")
            kind = Kind.ACCEPT
            while kind is not Kind.BYE:
                while not self._queue:
                    self._more.clear()
                    await self._more.wait()
                kind, body = self._queue.popleft()
                self._queued_bytes -= len(body)
                await self._send_one(kind, body)
        except (ConnectionError, RuntimeError) as error:  # the WebSocket is closing or closed
            self._lost(error)
            self.abort(f"sending failed: {error}")

    async def _send_one(self, kind: Kind, body: bytes) -> None:
        # Sealed only here: a frame dropped from the queue must not leave a gap in the count.
        sealed = self._session.seal(kind, body)
        self._sending_since = self._loop.time()
        await self._ws.send_bytes(sealed)
        self._sending_since = None
        self._counters.frames_out += 1
        self._counters.bytes_out += len(sealed)


def is_silence(error: BaseException | None) -> bool:
    """Whether an error says that nothing came back from the peer's host, not even a refusal."""
    return any(
        isinstance(one, TimeoutError) or getattr(one, "errno", None) in _SILENCE
        for one in _causes(error)
    )


def is_refusal(error: BaseException) -> bool:
    """Whether the error of a call says that the host refused it, or that what was reached there
    closed the connection at once, as the proxy of a process does that has ended."""
    if isinstance(error, Oversize) or is_silence(error):
        return False
    kinds = (ConnectionError, PeerConnectionLost, ServerDisconnectedError)
    return any(
        isinstance(one, kinds) or getattr(one, "errno", None) in _REFUSALS for one in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__


def describe_bye(body: bytes) -> str:
    """The reason in a `BYE`, for people; a number of a later version stays a number."""
    if not body:
        return "goodbye"
    try:
        return Reason(body[0]).name.lower().replace("_", " ")
    except ValueError:
        return f"reason {body[0]}"


def break_socket(ws: WebSocket) -> None:
    """End the TCP connection under `ws` without waiting for anything."""
    sock = ws.get_extra_info("socket")
    if sock is None:
        return  # already gone
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the peer was faster


async def hang_up(ws: WebSocket) -> None:
    """Close `ws` properly where the peer answers soon, else break it."""
    closing = asyncio.ensure_future(ws.close())
    done, _ = await asyncio.wait({closing}, timeout=CLOSE_S / 2)
    if not done:
        break_socket(ws)
        closing.cancel()
        await asyncio.wait({closing})
    if not closing.cancelled() and (error := closing.exception()) is not None:
        LOG.debug("closing a WebSocket failed: %s", error)
        break_socket(ws)


__all__ = [
    "MAX_MESSAGE",
    "PeerConnectionLost",
    "PeerConnection",
    "Oversize",
    "WebSocket",
    "break_socket",
    "describe_bye",
    "hang_up",
    "is_refusal",
    "is_silence",
    "receive_bytes",
]
