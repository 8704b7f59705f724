"""What a peer that holds the secret can do wrong over real sockets, and how its link ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from functools import partial

import aiohttp
import pytest

from crdtbucket.base import lasting
from crdtbucket.mesh.links.hello import Introduction
from crdtbucket.mesh.links.keyring import Keyring
from crdtbucket.mesh.links.session import (
    Handshake,
    Kind,
    Session,
)
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.wire import MAX_FRAME
from crdtbucket.mesh.sockets import web_socket
from crdtbucket.mesh.sockets.web_socket import PATH
from crdtbucket.mesh.transport import driver, mesh_network
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from crdtbucket.testing.fault_proxy import HOST, FaultProxy
from tests.mesh.network import RecordingNode, config, pair, running
from tests.waits import eventually


class Puppet:
    """A peer whose every byte the test chooses."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, session: Session) -> None:
        self.ws = ws
        self.session = session

    async def frame(self, body: bytes) -> None:
        await self.ws.send_bytes(self.session.seal(Kind.FRAME, body))

    async def closed(self, within: float = 60.0) -> None:
        """Wait until the other side has hung up."""

        async def drain() -> None:
            while (await self.ws.receive()).type is aiohttp.WSMsgType.BINARY:
                pass

        await asyncio.wait_for(drain(), within)


@contextlib.asynccontextmanager
async def puppet(
    mesh: MeshNetwork, name: str = "puppet", **settings: object
) -> AsyncIterator[Puppet]:
    """A linked puppet."""
    keys = Keyring(config(**settings))
    shake = Handshake(
        keys, Introduction(NodeInfo(name, "", 9, "", 0), 9), nonce=os.urandom(32), dialer=True
    )
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://{mesh.address}{PATH}", max_msg_size=web_socket.MAX_MESSAGE) as ws,
    ):
        await ws.send_bytes(shake.hello)
        shake.read_hello(await ws.receive_bytes())
        await ws.send_bytes(shake.session.seal(Kind.PROVE))
        kind, _ = shake.session.open(await ws.receive_bytes())
        assert kind == Kind.ACCEPT
        yield Puppet(ws, shake.session)


async def test_bad_frames_are_counted_and_a_few_close_the_link() -> None:
    a = RecordingNode("a")
    mesh = MeshNetwork(a, config())
    async with running(mesh), puppet(mesh) as peer:
        await peer.frame(b"bad")
        await peer.frame(b"good")
        await eventually(lambda: a.frames == [("puppet", b"good")])
        for _ in range(mesh_network.BAD_FRAMES - 1):
            await peer.frame(b"bad")
        await peer.closed()
        await eventually(lambda: not a.linked)
        assert mesh.counters.refused == {"frame": mesh_network.BAD_FRAMES}


@pytest.mark.parametrize("how", ["flip", "replay", "cut", "skip"])
async def test_a_frame_that_is_not_as_sealed_closes_the_link(how: str) -> None:
    a = RecordingNode("a")
    mesh = MeshNetwork(a, config())
    async with running(mesh), puppet(mesh) as peer:
        sealed = peer.session.seal(Kind.FRAME, b"good")
        if how == "flip":
            sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        elif how == "cut":
            sealed = sealed[:-1]
        elif how == "skip":
            sealed = peer.session.seal(Kind.FRAME, b"next")
        else:
            await peer.ws.send_bytes(sealed)
        await peer.ws.send_bytes(sealed)
        await peer.closed()
        await eventually(lambda: not a.linked)
        assert mesh.counters.refused == {"seal": 1}
        assert a.frames == ([("puppet", b"good")] if how == "replay" else [])


@pytest.mark.parametrize("text", [False, True])
async def test_oversize_and_text_close_the_link(text: bool) -> None:
    a = RecordingNode("a")
    mesh = MeshNetwork(a, config())
    async with running(mesh), puppet(mesh) as peer:
        if text:
            await peer.ws.send_str("hello")
        else:
            await peer.ws.send_bytes(bytes(web_socket.MAX_MESSAGE + 1))
        await peer.closed()
        await eventually(lambda: not a.linked)
        assert mesh.counters.refused == {"seal": 1}


async def test_a_bug_in_the_node_costs_one_link_and_not_the_mesh(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    async with pair(a, b) as (mesh_a, _):
        async with puppet(mesh_a) as peer:
            await peer.frame(b"bug")
            await peer.closed()
        assert mesh_a.counters.refused == {"internal": 1}
        assert "ZeroDivisionError" in caplog.text
        b.send("a", b"still works")
        await eventually(lambda: a.frames)


async def test_a_tick_that_raises_is_logged_and_called_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TICK_RETRY_S", 0.02)
    node = RecordingNode("a")
    mesh = MeshNetwork(node, config())
    good = node.tick
    calls = []

    def bad_once(now: int) -> list[tuple[str, bytes]]:
        calls.append(now)
        if len(calls) == 1:
            raise ZeroDivisionError
        return good(now)

    monkeypatch.setattr(node, "tick", bad_once)
    async with running(mesh):
        await eventually(lambda: len(calls) > 2)
    assert "a bug in the mesh protocol" in caplog.text
    assert mesh.counters.refused == {"internal": 1}


async def test_a_bug_in_what_the_mesh_looks_after_ends_none_of_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lasting, "AGAIN_S", 0.01)
    monkeypatch.setattr(mesh_network, "WATCH_S", 0.01)
    mesh, looks, found = MeshNetwork(RecordingNode("a"), config()), [0], [0]

    def bug() -> None:
        looks[0] += 1
        raise ZeroDivisionError

    monkeypatch.setattr(mesh.orders, "look", bug)
    monkeypatch.setattr(mesh, "found", partial(_counted, mesh.found, found))
    async with running(mesh):
        await eventually(lambda: min(looks[0], found[0]) > 2)
    assert "a bug in what the mesh looks after" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def _counted(call: Callable[[], None], calls: list[int]) -> None:
    calls[0] += 1
    call()


async def test_a_silent_peer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_network, "SILENT_S", 0.2)
    monkeypatch.setattr(mesh_network, "WATCH_S", 0.05)
    a = RecordingNode("a")
    mesh = MeshNetwork(a, config())
    async with running(mesh), puppet(mesh) as peer:
        await peer.closed()
        await eventually(lambda: not a.linked)


async def test_a_peer_that_stops_reading_is_closed_and_stalls_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mesh_network, "STUCK_S", 0.5)
    monkeypatch.setattr(mesh_network, "WATCH_S", 0.05)
    a, b = RecordingNode("a"), RecordingNode("b")
    async with pair(a, b) as (mesh_a, _), puppet(mesh_a) as peer:
        # The puppet reads nothing from here on, so that its queue of received frames fills.
        filler = bytes(MAX_FRAME)
        sent: list[tuple[str, bytes]] = []
        while "puppet" in a.linked:
            assert len(sent) < 5000
            a.send("puppet", filler)
            sent.append(("a", b"%d" % len(sent)))
            a.send("b", sent[-1][1])
            await peer.frame(b"round")  # it is not silent, only deaf
            await eventually(lambda: b.frames == sent)
        assert mesh_a.counters.frames_dropped > 0


async def test_a_peer_that_was_cut_off_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The last link that there is, as nothing else then takes the place of what refers to it.
    monkeypatch.setattr(mesh_network, "STUCK_S", 0.2)
    monkeypatch.setattr(mesh_network, "WATCH_S", 0.05)
    a, b = RecordingNode("a"), RecordingNode("b")
    mesh_a = MeshNetwork(a, config())
    async with running(mesh_a):
        proxy = FaultProxy(int(mesh_a.address.rpartition(":")[2]))
        await proxy.start()
        mesh_b = MeshNetwork(b, config(f"{HOST}:{proxy.port}"))
        async with running(mesh_b):
            await eventually(lambda: a.linked and b.linked)
            links = [weakref.ref(mesh.links.all()[0]) for mesh in (mesh_a, mesh_b)]
            gc.collect()
            gc.disable()  # it comes rarely, as bytes do not count for it
            try:
                proxy.cut()
                while a.linked or b.linked:
                    a.send("b", bytes(MAX_FRAME))
                    b.send("a", bytes(MAX_FRAME))
                    await asyncio.sleep(0.005)
                await eventually(lambda: [one() for one in links] == [None, None])
            finally:
                gc.enable()
        await proxy.stop()


async def test_a_peer_killed_outright_is_noticed() -> None:
    a = RecordingNode("a")
    mesh = MeshNetwork(a, config())
    async with running(mesh):
        script = (
            "import asyncio, sys\n"
            "from tests.mesh.network import RecordingNode, config\n"
            "from crdtbucket.mesh.transport.mesh_network import MeshNetwork\n"
            "async def main():\n"
            "    await MeshNetwork(RecordingNode('victim'), config(sys.argv[1])).start()\n"
            "    await asyncio.Event().wait()\n"
            "asyncio.run(main())\n"
        )
        victim = await asyncio.create_subprocess_exec(sys.executable, "-c", script, mesh.address)
        try:
            await eventually(lambda: a.linked)
            victim.kill()
            await eventually(lambda: not a.linked)
        finally:
            if victim.returncode is None:
                victim.kill()
            await victim.wait()
