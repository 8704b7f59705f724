"""A link over a channel that accepts nothing, or breaks."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref

import pytest
from aiohttp import WSMessage, WSMsgType
from aiohttp.http import WS_CLOSED_MESSAGE

from crdtbucket.mesh.links import link
from crdtbucket.mesh.links.counters import MeshCounters
from crdtbucket.mesh.links.peer_identity import PeerIdentity, Proof
from crdtbucket.mesh.links.session import Kind, Reason, Session
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.wire import MAX_FRAME
from crdtbucket.mesh.sockets.web_socket import WebSocketChannel
from tests.virtual_loop import VirtualTime, virtually
from tests.waits import eventually


class StuckWebSocket:
    """A WebSocket whose peer takes nothing until `free` is set."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.free = asyncio.Event()

    async def send_frame(self, message: bytes, opcode: object) -> None:
        await self.free.wait()
        self.sent.append(message)

    async def receive(self) -> object:
        raise AssertionError("nothing is read in this test")

    async def close(self) -> bool:
        return True

    def get_extra_info(self, name: str) -> None:
        return None

    def exception(self) -> None:
        return None


def link_over(channel: WebSocketChannel, counters: MeshCounters) -> link.Link:
    """A link that sends already."""
    made = link.Link(
        channel,
        Session(b"k" * 32, b"d", b"l", dialer=True),
        PeerIdentity(NodeInfo("slow", "", 1, "", 0), 1, Proof.SECRET),
        dialed=True,
        counters=counters,
    )
    made.start(accept=None)
    return made


@pytest.mark.parametrize(
    ("size", "kept"),
    [
        (1, link.MAX_QUEUED_FRAMES),
        (MAX_FRAME, link.MAX_QUEUED_BYTES // MAX_FRAME),
    ],
)
async def test_the_queue_to_a_slow_peer_is_bounded_and_keeps_the_newest(
    size: int, kept: int
) -> None:
    ws, counters = StuckWebSocket(), MeshCounters()
    theirs = Session(b"k" * 32, b"d", b"l", dialer=False)
    slow = link_over(WebSocketChannel(ws, "", certified=False), counters)
    total = 3 * link.MAX_QUEUED_FRAMES
    for number in range(total):
        slow.offer(bytes([number % 251]) * size)
    assert counters.frames_dropped == total - kept
    ws.free.set()
    await eventually(lambda: len(ws.sent) == kept)
    # What was dropped before it was sealed leaves no gap: the peer opens all that remains.
    opened = [theirs.open(sealed)[1][0] for sealed in ws.sent]
    assert opened == [number % 251 for number in range(total - kept, total)]
    await slow.finish()


async def test_a_link_that_was_given_up_holds_nothing_of_what_was_queued() -> None:
    counters = MeshCounters()
    dead = link_over(WebSocketChannel(StuckWebSocket(), "", certified=False), counters)
    tracemalloc.start()
    try:
        begin, _ = tracemalloc.get_traced_memory()
        for _ in range(100):
            dead.offer(bytes(MAX_FRAME))
        await asyncio.sleep(0)  # the first of them is being sent
        assert tracemalloc.get_traced_memory()[0] - begin > link.MAX_QUEUED_BYTES - MAX_FRAME
        dead.abort("it took nothing")
        dead.offer(bytes(MAX_FRAME))
        assert tracemalloc.get_traced_memory()[0] - begin < 3 * MAX_FRAME
        await dead.finish()  # the one that was being sent
        assert tracemalloc.get_traced_memory()[0] - begin < MAX_FRAME
    finally:
        tracemalloc.stop()
    assert counters.frames_dropped == 100


class TalkingWebSocket(StuckWebSocket):
    """Its peer sends frames without an end, and takes nothing until `free` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.peer = Session(b"k" * 32, b"d", b"l", dialer=False)
        self.frames = 0
        self.closed = False

    async def receive(self) -> WSMessage:
        if self.closed:
            return WS_CLOSED_MESSAGE
        self.frames += 1
        return WSMessage(WSMsgType.BINARY, self.peer.seal(Kind.FRAME, b"a round"), "")

    async def close(self) -> bool:
        self.closed = True
        return True


async def test_what_was_queued_before_the_end_goes_out_though_the_peer_goes_on_to_send() -> None:
    ws = TalkingWebSocket()
    leaving = link_over(WebSocketChannel(ws, "", certified=False), MeshCounters())
    taken: list[bytes] = []

    async def take(_: object, frame: bytes) -> None:
        taken.append(frame)

    async def serve() -> None:
        await leaving.run(take)
        await leaving.finish()

    leaving.offer(b"last words")
    serving = asyncio.create_task(serve())
    await eventually(lambda: taken)
    closing = asyncio.create_task(leaving.close(Reason.LEAVING, "this process ends"))
    await asyncio.sleep(0)
    came, before = ws.frames, len(taken)
    await eventually(lambda: ws.frames > came + 20 or serving.done())
    ws.free.set()
    await asyncio.gather(closing, serving)
    opened = [ws.peer.open(sealed) for sealed in ws.sent]
    assert opened == [(Kind.FRAME, b"last words"), (Kind.BYE, bytes([Reason.LEAVING]))]
    assert len(taken) <= before + 1  # who has said goodbye takes nothing in


@virtually
async def test_a_link_whose_frames_take_long_lets_others_have_their_turn_sooner(
    time: VirtualTime,
) -> None:
    """A digest of a few bytes takes milliseconds, and a bad member sends one after the other."""
    ws, pauses = TalkingWebSocket(), []
    talking = link_over(WebSocketChannel(ws, "", certified=False), MeshCounters())

    async def take(_: object, frame: bytes) -> None:
        time.advance(0.004)

    serving = asyncio.create_task(talking.run(take))
    for _ in range(20):
        before = time.elapsed
        await asyncio.sleep(0)
        pauses.append(time.elapsed - before)
    ws.closed = True
    await serving
    await talking.finish()
    assert 0.004 <= max(pauses) <= 0.009


class BrokenWebSocket(StuckWebSocket):
    """Its peer is gone: a task that waits for it gets an error that the WebSocket keeps, as with
    aiohttp."""

    async def send_frame(self, message: bytes, opcode: object) -> None:
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.set_exception(ConnectionResetError("lost"))
        await lost


async def test_a_channel_that_broke_is_gone_once_nobody_uses_it() -> None:
    channel = WebSocketChannel(BrokenWebSocket(), "", certified=False)
    broken, gone = link_over(channel, MeshCounters()), weakref.ref(channel)
    gc.disable()
    try:
        broken.offer(b"a frame")
        for _ in range(5):
            await asyncio.sleep(0)
        assert broken.ended_because == "sending failed: lost"
        await broken.finish()
        del broken, channel
        assert gone() is None
    finally:
        gc.enable()


class FaultyChannel(WebSocketChannel):
    """A channel whose peer talks, with a bug in sending."""

    def __init__(self) -> None:
        self.ws = TalkingWebSocket()
        super().__init__(self.ws, "", certified=False)

    async def send(self, data: bytes) -> None:
        raise ZeroDivisionError("a planted bug")

    def abort(self) -> None:
        self.ws.closed = True


async def test_a_bug_in_sending_ends_the_link_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A frame that was sealed and not sent cannot be made up for: the peer would refuse the next.
    A link that went on to receive would be alive, and silent to its peer."""
    faulty = link_over(FaultyChannel(), MeshCounters())
    taken: list[bytes] = []

    async def take(_: object, frame: bytes) -> None:
        taken.append(frame)

    running = asyncio.create_task(faulty.run(take))
    await eventually(lambda: taken)
    faulty.offer(b"a round")
    await eventually(running.done)
    await faulty.finish()
    assert faulty.ended_because == "internal error"
    assert not faulty.ended_there
    logged = [(record.message, record.exc_info is not None) for record in caplog.records]
    assert logged == [("closing the link with slow: a bug in sending to it", True)]


@virtually
async def test_what_has_waited_for_a_second_gives_way_to_what_is_new() -> None:
    ws, counters = StuckWebSocket(), MeshCounters()
    slow = link_over(WebSocketChannel(ws, "", certified=False), counters)
    for number in range(10):
        slow.offer(bytes([number]))
    await asyncio.sleep(link.STALE_S)  # the first of them is being sent
    slow.offer(bytes([10]))
    assert counters.frames_dropped == 0
    await asyncio.sleep(link.STALE_S / 2)
    slow.offer(bytes([11]))
    assert counters.frames_dropped == 9
    ws.free.set()
    await asyncio.sleep(0.1)
    theirs = Session(b"k" * 32, b"d", b"l", dialer=False)
    assert [theirs.open(sealed)[1][0] for sealed in ws.sent] == [0, 10, 11]
    await slow.finish()
