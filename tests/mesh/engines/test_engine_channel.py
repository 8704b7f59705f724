"""Channels over an engine, without an engine."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest

from crdtbucket.mesh.engines import engine_channel
from crdtbucket.mesh.engines.engine_channel import (
    CARRIES,
    ENDS,
    OPENS,
    EngineChannel,
    Envelope,
    open_envelope,
)
from crdtbucket.mesh.links.channel import ChannelLost


class Noting:
    """A postman that notes what it is given."""

    def __init__(self) -> None:
        self.posted: list[tuple[int, bytes]] = []
        self.forgotten: list[EngineChannel] = []

    async def post(self, channel: EngineChannel, kind: int, body: bytes) -> None:
        self.posted.append((kind, body))

    def forget(self, channel: EngineChannel) -> None:
        self.forgotten.append(channel)


@pytest.mark.parametrize("kind", [OPENS, CARRIES, ENDS])
@pytest.mark.parametrize("from_dialer", [True, False])
def test_an_envelope_comes_back_as_it_was(kind: int, from_dialer: bool) -> None:
    message = Envelope(kind, from_dialer, 2**64 - 1, b"body")
    assert open_envelope(message.encode()) == message


@pytest.mark.parametrize("data", [b"", b"\x01", bytes(8), bytes(9), b"\x09" + bytes(8)])
def test_what_is_no_envelope_is_none(data: bytes) -> None:
    assert open_envelope(data) is None


async def test_the_first_message_of_a_dialer_opens_and_the_others_carry() -> None:
    postman = Noting()
    for dialed, first in ((True, OPENS), (False, CARRIES)):
        channel = EngineChannel(postman, "b", 1, dialed=dialed)
        await channel.send(b"1")
        await channel.send(b"2")
        assert postman.posted == [(first, b"1"), (CARRIES, b"2")]
        postman.posted.clear()


async def test_what_came_before_the_end_is_read_before_it() -> None:
    postman = Noting()
    channel = EngineChannel(postman, "b", 1, dialed=True)
    channel.push(b"last words")
    channel.end("closed by the peer", by_peer=True)
    await channel.send(b"into the void")
    assert await channel.receive() == b"last words"
    with pytest.raises(ChannelLost) as lost:
        await channel.receive()
    assert lost.value.by_peer
    assert postman.forgotten == [channel]
    assert postman.posted == []


async def test_closing_says_so_once() -> None:
    postman = Noting()
    channel = EngineChannel(postman, "b", 1, dialed=True)
    await channel.close()
    await channel.close()
    assert postman.posted == [(ENDS, b"")]
    with pytest.raises(ChannelLost) as lost:
        await channel.receive()
    assert not lost.value.by_peer


async def test_what_waits_is_bounded_and_the_newest_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_channel, "MAX_WAITING", 3)
    monkeypatch.setattr(engine_channel, "MAX_WAITING_BYTES", 100)
    channel = EngineChannel(Noting(), "b", 1, dialed=True)
    for number in range(5):
        channel.push(b"%d" % number)
    assert [await channel.receive() for _ in range(3)] == [b"2", b"3", b"4"]
    channel.push(bytes(60))
    channel.push(bytes(60))
    assert len(await channel.receive()) == 60
    channel.end("", by_peer=False)
    with pytest.raises(ChannelLost):
        await channel.receive()


async def test_a_channel_that_has_ended_is_gone_once_nobody_uses_it() -> None:
    postman = Noting()
    channel = EngineChannel(postman, "b", 1, dialed=True)
    gone = weakref.ref(channel)
    gc.disable()
    try:
        channel.end("closed by the peer", by_peer=True)
        for _ in range(2):
            with contextlib.suppress(ChannelLost):
                await channel.receive()
        postman.forgotten.clear()
        del channel
        assert gone() is None
    finally:
        gc.enable()
