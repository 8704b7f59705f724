"""A link to one proven peer: a bounded queue out, opened frames in, over any channel."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from crdtbucket.errors import WireError
from crdtbucket.mesh.links.channel import CLOSE_S, Channel, ChannelLost, Oversize
from crdtbucket.mesh.links.counters import LOG, MeshCounters
from crdtbucket.mesh.links.peer_identity import PeerIdentity
from crdtbucket.mesh.links.session import MAX_SEALED, Kind, Reason, Session

MAX_QUEUED_FRAMES = 256
MAX_QUEUED_BYTES = 4 * 1024 * 1024
STALE_S = 1.0
"""Seconds after which a frame that waits is dropped: each round carries all that is not
acknowledged. A longer queue only makes newer frames late, and a late frame is not acknowledged but
repeated, so there would be more and more of them."""
# After this much input, or this much time, the loop serves others: a peer that sends without pause
# must not occupy it.
_TURN_FRAMES = 16
_TURN_BYTES = 65_536
_TURN_S = 0.005
# Each frame is compared with them, and up to Python 3.11 a function looks up `Kind.FRAME`.
_FRAME, _BYE = Kind.FRAME, Kind.BYE
_LEAVES = bytes((Reason.LEAVING,))


class Link:
    """An authenticated channel. Sends never block the caller; a slow peer loses frames."""

    def __init__(
        self,
        channel: Channel,
        session: Session,
        identity: PeerIdentity,
        *,
        dialed: bool,
        counters: MeshCounters,
    ) -> None:
        self.identity = identity
        self.peer = identity.info
        self.instance = identity.instance
        self.source = channel.source
        """The address of the peer; "" where the carrier has none."""
        self.dialed = dialed
        self.bad_frames = 0
        self._channel = channel
        self._session = session
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Kind, bytes, float]] = deque()
        """The frames that wait, and since when."""
        self._queued_bytes = 0
        self._idle: asyncio.Future[None] | None = None
        """The future that the sender waits for while nothing is queued."""
        self._sender: asyncio.Task[None] | None = None
        self._sending_since: float | None = None
        self._last_seen = self._loop.time()
        self._closing = False
        self.ended_because = ""
        self.ended_there = False
        """Whether the peer's side closed or reset the channel, before this side gave it up."""
        self.left = False
        """Whether the peer has said that it leaves the mesh."""

    def start(self, *, accept: bytes | None) -> None:
        """Begin to send; call it before the first `offer`. `accept`: a listener's proof, which goes
        first."""
        self._sender = asyncio.create_task(self._send(accept), name=f"sender {self.peer.name}")

    def offer(self, frame: bytes, kind: Kind = _FRAME) -> None:
        """Queues a frame. The oldest frames are dropped when the peer does not keep up."""
        if self._closing:
            self._counters.frames_dropped += 1
            return
        now = self._loop.time()
        self._queue.append((kind, frame, now))
        self._queued_bytes += len(frame)
        while (
            len(self._queue) > MAX_QUEUED_FRAMES
            or self._queued_bytes > MAX_QUEUED_BYTES
            or now - self._queue[0][2] > STALE_S
        ):
            _, dropped, _ = self._queue.popleft()
            self._queued_bytes -= len(dropped)
            self._counters.frames_dropped += 1
        self._wake()

    def silent_for(self) -> float:
        """Seconds since a valid frame came."""
        return self._loop.time() - self._last_seen

    def give_up(self, *, silent_s: float, stuck_s: float) -> None:
        """Ends the link at once when the peer was silent for longer than `silent_s`, or has read
        nothing of what is being sent for longer than `stuck_s`."""
        since = self._sending_since
        if since is not None and self._loop.time() - since > stuck_s:
            self.abort(f"it took nothing for {stuck_s:g} s")
        elif self.silent_for() > silent_s:
            self.abort(f"it was silent for {silent_s:g} s")

    async def run(
        self,
        on_frame: Callable[[Link, bytes], Awaitable[None]],
        on_other: Callable[[Link, int, bytes], None] | None = None,
    ) -> None:
        """Hands every frame to `on_frame` until the link ends; `ended_because` then says why.
        Frames with orders of operators go to `on_other`, with their kind.

        Raises `WireError` when the stream itself can no longer be trusted.
        """
        frames, size, spent = 0, 0, 0.0
        while True:
            try:
                data = await self._channel.receive()
            except Oversize as error:
                raise WireError(f"a message above {MAX_SEALED} bytes") from error
            except ChannelLost as error:
                self.ended_because = self.ended_because or str(error)
                self._lost(by_peer=error.by_peer)
                return
            if self._closing:
                # Nothing more is read from the peer, but queued frames may still go out: `close`
                # ends the channel after that. However much the peer goes on to send, other links
                # have their turn.
                await asyncio.sleep(0)
                continue
            kind, body = self._session.open(data)
            self._last_seen = self._loop.time()
            self._counters.frames_in += 1
            self._counters.bytes_in += len(data)
            if kind == _FRAME:
                await on_frame(self, body)
            elif kind == _BYE:
                self._lost(by_peer=True)
                self.left = body[:1] == _LEAVES
                self.ended_because = f"the peer says {describe_bye(body)}"
                return
            elif on_other is not None:
                on_other(self, kind, body)
            frames, size = frames + 1, size + len(data)
            spent += self._loop.time() - self._last_seen
            if frames >= _TURN_FRAMES or size >= _TURN_BYTES or spent >= _TURN_S:
                frames, size, spent = 0, 0, 0.0
                await asyncio.sleep(0)

    async def close(self, reason: Reason, because: str) -> None:
        """Send what is queued and a `BYE`, within a second; then close. Safe to call twice."""
        if not self._closing:
            self._closing = True
            self.ended_because = self.ended_because or because
            self._queue.append((_BYE, bytes((reason,)), self._loop.time()))
            self._queued_bytes += 1
            self._wake()
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=CLOSE_S)
        await self.finish()

    async def finish(self) -> None:
        """Stop sending and close the channel now, whether or not the peer answers."""
        self._closing = True
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            await asyncio.wait({sender})
        self._drop_queued()
        await self._channel.close()

    def abort(self, because: str) -> None:
        """Break the channel at once; `run` then returns."""
        self.ended_because = self.ended_because or because
        self._closing = True
        self._drop_queued()
        self._channel.abort()

    def _drop_queued(self) -> None:
        self._counters.frames_dropped += len(self._queue)
        self._queue.clear()
        self._queued_bytes = 0

    def _lost(self, *, by_peer: bool) -> None:
        """The channel has ended. Records whether the peer's side ended it, unless this side did
        before."""
        if not self._closing:
            self.ended_there = by_peer

    def _wake(self) -> None:
        """Wakes the sender, as a frame is queued."""
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _send(self, accept: bytes | None) -> None:
        try:
            if accept is not None:
                await self._send_one(Kind.ACCEPT, accept)
            kind = Kind.ACCEPT
            while kind is not _BYE:
                while not self._queue:
                    self._idle = self._loop.create_future()
                    await self._idle
                kind, body, _ = self._queue.popleft()
                self._queued_bytes -= len(body)
                await self._send_one(kind, body)
        except ChannelLost as error:
            self._lost(by_peer=error.by_peer)
            self.abort(str(error))
        except Exception:  # noqa: BLE001 - logged; what was sealed is lost, so the link cannot go on
            LOG.exception("closing the link with %s: a bug in sending to it", self.peer.name)
            self.abort("internal error")

    async def _send_one(self, kind: Kind, body: bytes) -> None:
        # Sealed only here: a frame dropped from the queue must not leave a gap in the count.
        sealed = self._session.seal(kind, body)
        self._sending_since = self._loop.time()
        await self._channel.send(sealed)
        self._sending_since = None
        self._counters.frames_out += 1
        self._counters.bytes_out += len(sealed)


def describe_bye(body: bytes) -> str:
    """The reason in a `BYE`, for people; a number of a later version stays a number."""
    if not body:
        return "goodbye"
    try:
        return Reason(body[0]).name.lower().replace("_", " ")
    except ValueError:
        return f"reason {body[0]}"
