"""Calls that make no link, over real sockets, and what each shows about the peer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from crdtbucket.base import lasting
from crdtbucket.mesh.links import dialer
from crdtbucket.mesh.links.channel import Channel, Oversize
from crdtbucket.mesh.links.dialer import Backoff
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.sockets import web_socket
from crdtbucket.mesh.sockets.socket_transport import SocketTransport
from crdtbucket.mesh.transport import mesh_network
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode, config, pair, running
from tests.strong.redis_server import free_port
from tests.waits import eventually

SECRET = "a secret of these tests"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """The address of something that takes calls and is no node."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends the connection, as the proxy of a process does that has ended."""
    writer.close()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        await reader.read()
    writer.close()


async def is_another_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("answer", "refused"),
    [(hangs_up, True), (resets, True), (says_nothing, False), (is_another_server, False)],
)
async def test_what_an_answer_says(
    answer: Answer, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer, "HANDSHAKE_S", 3.0 if refused else 0.3)
    node = RecordingNode("a")
    async with answering(answer) as address, running(MeshNetwork(node, config(address))):
        await eventually(lambda: len(node.failed_dials) > 1)
        assert set(node.failed_dials) == {("", address, refused)}


async def test_a_port_that_nobody_listens_on_refuses() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_b = MeshNetwork(b, config())
    await mesh_b.start()
    async with running(MeshNetwork(a, config(mesh_b.address))):
        await eventually(lambda: a.linked)
        await mesh_b.stop()
        await eventually(lambda: a.failed_dials)
        assert a.ends == [("b", True)]
        assert a.failed_dials[0] == ("b", mesh_b.address, True)


def unreached_lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    lines = [one.getMessage() for one in caplog.records if one.levelno == level]
    return [one for one in lines if one.startswith("cannot reach")]


@pytest.mark.parametrize("dials", ["both", "the one that leaves", "the one that stays"])
async def test_a_peer_that_has_said_that_it_leaves_is_no_fault_while_nothing_else_answers(
    dials: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, "crdtbucket")
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_b = MeshNetwork(b, config())
    async with running(mesh_b):
        host = mesh_b.address
        mesh_a = MeshNetwork(a, config(*([host] if dials != "the one that leaves" else [])))
        async with running(mesh_a):
            if dials != "the one that stays":
                b.addresses = [mesh_a.address]
                mesh_b.found()
            await eventually(lambda: a.linked)
            monkeypatch.setattr(SocketTransport, "first_pause", lambda *_: 3_600.0)
            a.addresses = [host]  # as one that has dialled this node is known by its address
            mesh_a.found()
            await mesh_b.stop()
            await eventually(lambda: a.ends)
            mesh_a.found(hurry=host)
            await eventually(lambda: len(a.failed_dials) > 2)
            assert unreached_lines(caplog, logging.DEBUG)
            assert not unreached_lines(caplog, logging.WARNING)
            port = int(host.rpartition(":")[2])
            async with await asyncio.start_server(is_another_server, "127.0.0.1", port):
                await eventually(lambda: unreached_lines(caplog, logging.WARNING))
                before = mesh_a.counters.dials_failed
                await eventually(lambda: mesh_a.counters.dials_failed > before)
            (told,) = unreached_lines(caplog, logging.WARNING)
            assert "HTTP with status 503" in told
            assert [one.left for one in mesh_a.unreached()] in ([], [False])


async def test_a_peer_that_ends_without_a_goodbye_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "crdtbucket")
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_b = MeshNetwork(b, config())
    await mesh_b.start()
    async with running(MeshNetwork(a, config(mesh_b.address))):
        await eventually(lambda: a.linked)
        await mesh_b.stop(handed_over=True)  # a handover that nobody takes
        await eventually(lambda: len(a.failed_dials) > 2)
        assert len(unreached_lines(caplog, logging.WARNING)) == 1


async def test_a_bug_in_a_dial_is_logged_and_the_address_is_dialled_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    a, b, connect, bugs = RecordingNode("a"), RecordingNode("b"), SocketTransport.connect, [1, 2]

    async def fails_twice(self: SocketTransport, address: str) -> Channel:
        if bugs:
            raise RuntimeError(f"bug {bugs.pop()}")
        return await connect(self, address)

    mesh_b = MeshNetwork(b, config())
    async with running(mesh_b):
        monkeypatch.setattr(SocketTransport, "connect", fails_twice)
        async with running(MeshNetwork(a, config(mesh_b.address))):
            await eventually(lambda: a.linked)
    assert "a bug in the mesh's dials" in caplog.text
    assert "RuntimeError: bug 2" in caplog.text


async def test_a_bug_after_a_dial_is_logged_and_the_address_is_dialled_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lasting, "AGAIN_S", 0.01)
    node = RecordingNode("a")
    calls = []

    def dial_failed(name: str, address: str, now: int, *, refused: bool) -> None:
        calls.append(address)
        if len(calls) == 1:
            raise ZeroDivisionError

    monkeypatch.setattr(node, "dial_failed", dial_failed)
    async with answering(hangs_up) as address, running(MeshNetwork(node, config(address))):
        await eventually(lambda: len(calls) > 1)
    assert "ZeroDivisionError" in caplog.text


async def test_another_node_at_the_address_says_that_the_first_is_not_there() -> None:
    a, b, other = RecordingNode("a"), RecordingNode("b"), RecordingNode("other")
    mesh_b = MeshNetwork(b, config())
    await mesh_b.start()
    async with running(MeshNetwork(a, config(mesh_b.address))):
        await eventually(lambda: a.linked)
        await mesh_b.stop()
        async with running(MeshNetwork(other, MeshConfig(listen=mesh_b.address, secret=SECRET))):
            await eventually(lambda: "other" in a.linked)
            await eventually(lambda: ("b", "", True) in a.failed_dials)
            assert not any(name == "other" for name, _, _ in a.failed_dials)


async def test_a_peer_that_answers_and_refuses_is_there() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_b = MeshNetwork(b, config(max_peers=1))
    await mesh_b.start()
    first, second = (
        MeshNetwork(node, config(mesh_b.address)) for node in (RecordingNode("first"), a)
    )
    async with running(first):
        await eventually(lambda: b.linked)
        async with running(second):
            await eventually(lambda: a.failed_dials)
            assert a.failed_dials[0] == ("b", "", False)
            told = f"no link with 'b' at {mesh_b.address}: it has as many peers as"
            assert second.counters.last_failure.startswith(told)
    await mesh_b.stop()


async def test_a_failed_dial_is_shown_until_a_link_is_made_or_nobody_is_dialled() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    port = free_port()
    mesh_b = MeshNetwork(b, MeshConfig(listen=f"127.0.0.1:{port}", secret=SECRET))
    mesh_a = MeshNetwork(a, config(f"127.0.0.1:{port}"))
    async with running(mesh_a):
        await eventually(lambda: mesh_a.counters.last_failure)
        await mesh_b.start()
        await eventually(lambda: a.linked)
        assert mesh_a.counters.last_failure == ""
        await mesh_b.stop()
        await eventually(lambda: mesh_a.counters.last_failure)
        mesh_a._dialer.update([])
        assert mesh_a.counters.last_failure == ""


async def test_a_connection_that_the_other_side_breaks_has_ended() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    async with pair(a, b) as (_, mesh_b):
        broken = mesh_b.links.get("a")
        assert broken is not None
        broken._channel.abort()
        await eventually(lambda: a.ends)
        assert a.ends[0] == ("b", True)


async def test_a_connection_that_this_side_gives_up_has_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mesh_network, "WATCH_S", 0.05)
    a, b = RecordingNode("a"), RecordingNode("b")
    async with pair(a, b):
        b.rounds = False
        monkeypatch.setattr(mesh_network, "SILENT_S", 0.3)
        await eventually(lambda: ("b", False) in a.ends)


def test_errors_of_a_network_that_gives_nothing_back_are_silence() -> None:
    lost = ConnectionError("broken")
    lost.__cause__ = TimeoutError(110, "Connection timed out")
    unreachable = OSError(113, "No route to host")
    for silence in (lost, unreachable, TimeoutError()):
        assert web_socket.is_silence(silence)
        assert not web_socket.is_refusal(silence)
    refused = ConnectionRefusedError(111, "refused")
    assert not web_socket.is_silence(refused)
    assert web_socket.is_refusal(refused)
    assert not web_socket.is_refusal(OSError(24, "Too many open files"))
    assert not Oversize("above the limit").by_peer


def test_backoff_grows_to_five_seconds_and_starts_over() -> None:
    backoff = Backoff(random.Random(1))
    pauses = [backoff.next() for _ in range(10)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(2.5 <= pause <= 5 for pause in pauses[6:])
    backoff.reset()
    assert backoff.next() <= 0.1
