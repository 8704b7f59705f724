"""The mesh over real NATS servers: lost, frozen, killed, joined, and its peers killed."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import sys
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from crdtbucket.mesh.engines.nats_engine import LOOK_S, MAX_UNSENT, NatsEngine
from crdtbucket.mesh.engines.subjects import Subjects
from crdtbucket.testing.fault_proxy import FaultProxy
from tests.mesh.engines.nats_server import SECRET, NatsServer, frames_go, linked, mesh
from tests.mesh.network import RecordingNode, running
from tests.strong.redis_server import free_port
from tests.waits import eventually


async def test_links_outlive_a_server_that_is_killed_and_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    with NatsServer() as server:
        async with AsyncExitStack() as stack:
            await linked(stack, mesh(a, server), mesh(b, server))
            server.kill()
            await eventually(lambda: caplog.text.count("decides alone") == 2)
            assert a.events == [("connected", "b")]
            server.start()
            await frames_go(a, b)
            assert a.events == [("connected", "b")]
    assert "Traceback" not in caplog.text
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(warnings) == 2  # one of each node
    for one in warnings:
        assert one.levelno == logging.WARNING
        assert "unexpected EOF" in one.getMessage()
        assert "Check that the server runs" in one.getMessage()


async def test_what_is_sent_while_the_server_is_gone_never_arrives() -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    with NatsServer() as server:
        async with AsyncExitStack() as stack:
            meshes = await linked(stack, mesh(a, server), mesh(b, server))
            server.kill()
            await eventually(lambda: all(one.counters.engine_losses for one in meshes))
            dropped = meshes[0].counters.frames_dropped
            for number in range(10):
                a.send("b", b"stale %d" % number)
            await eventually(lambda: meshes[0].counters.frames_dropped >= dropped + 10)
            server.start()
            await frames_go(a, b)
            assert not [frame for _, frame in b.frames if frame.startswith(b"stale")]


class Heard:
    """A listener that records the reports of an engine."""

    def __init__(self) -> None:
        self.ups = self.downs = 0
        self.messages: list[bytes] = []

    def engine_up(self, server: str) -> None:
        self.ups += 1

    def engine_down(self, why: str) -> None:
        self.downs += 1

    def arrived(self, sender: str, data: bytes) -> None:
        self.messages.append(data)


def engine(node: str, port: int) -> NatsEngine:
    subjects, tls = Subjects("cb", "mesh", node), SimpleNamespace(now=lambda: None)
    server = f"nats://127.0.0.1:{port}"
    return NatsEngine([server], subjects, random.Random(1), tls=cast("Any", tls))


async def test_what_is_published_without_a_connection_never_arrives() -> None:
    """The receiver listens all the time: where both have to connect again, one that is late misses
    what it should not get, too."""
    sender, receiver = Heard(), Heard()
    with NatsServer() as server:
        proxy = FaultProxy(server.port)
        await proxy.start()
        there = engine("b", server.port)
        there.start(cast("Any", receiver))
        here = engine("a", proxy.port)
        here.start(cast("Any", sender))
        try:
            await eventually(lambda: sender.ups and receiver.ups)
            await proxy.down()
            await eventually(lambda: sender.downs)
            assert not any([await here.publish("b", b"stale", asks=False) for _ in range(10)])
            await proxy.up()
            await eventually(lambda: sender.ups == 2)
            for fresh in (b"first", b"second"):  # what waited comes before the second
                assert await here.publish("b", fresh, asks=False)
                await eventually(lambda: fresh in receiver.messages)  # noqa: B023
            assert receiver.messages == [b"first", b"second"]
        finally:
            await here.stop()
            await there.stop()
            await proxy.stop()


async def test_a_loss_is_reported_with_its_own_reason_and_not_with_a_refusal_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rights = 'permissions: {publish: {deny: "cb.mesh.a.a"}}'
    block = f'authorization {{ users = [ {{user: a, password: "right", {rights}}} ] }}'
    with NatsServer(block) as server:
        a = RecordingNode("a")
        async with running(mesh(a, server, credentials="a:right")):
            await eventually(lambda: "permissions violation" in caplog.text.lower())
            caplog.clear()
            server.kill()
            await eventually(lambda: "decides alone" in caplog.text)
    assert "permissions violation" not in caplog.text.lower()


async def test_a_node_begins_without_its_engine(caplog: pytest.LogCaptureFixture) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    server = NatsServer()
    async with running(mesh(a, server), mesh(b, server)):
        await eventually(lambda: caplog.text.count("decides alone") == 2)
        with server:
            await eventually(lambda: a.linked and b.linked)
    assert "Traceback" not in caplog.text


async def test_an_end_while_it_connects_closes_the_connection() -> None:
    """The server is silent: what was begun with it is given up."""
    came, ended = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read(-1)
        ended.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connecting = engine("node", port)
    gc.disable()  # the collector would close it, some time
    try:
        connecting.start(cast("Any", SimpleNamespace()))
        await came.wait()
        await connecting.stop()
        await asyncio.wait_for(ended.wait(), 120)
    finally:
        gc.enable()
        server.close()


async def test_a_frozen_server_is_left_for_another_one_of_its_cluster(
    caplog: pytest.LogCaptureFixture,
) -> None:
    routes = [free_port(), free_port()]

    def member(own: int) -> NatsServer:
        other = routes[1 - own]
        return NatsServer(
            f'cluster {{ name: c, listen: "127.0.0.1:{routes[own]}", '
            f'routes: ["nats://127.0.0.1:{other}"] }}'
        )

    a, b = RecordingNode("a"), RecordingNode("b")
    with member(0) as first, member(1) as second:
        moving = mesh(a, first, second)
        async with running(moving):
            used = moving._transport._exchange._engine  # type: ignore[attr-defined]

            def port() -> int | None:
                url = used._client and used._client.connected_url
                return url.port if url else None

            await eventually(port)
            mine, other = (first, second) if port() == first.port else (second, first)
            async with running(mesh(b, other)):  # each at a server of its own
                await frames_go(a, b)
                mine.freeze()
                await eventually(lambda: port() == other.port)
                await frames_go(a, b)
    assert "Traceback" not in caplog.text


async def test_a_stall_of_the_server_ends_no_link(caplog: pytest.LogCaptureFixture) -> None:
    a, b = RecordingNode("a"), RecordingNode("b")
    with NatsServer() as server:
        async with AsyncExitStack() as stack:
            await linked(stack, mesh(a, server), mesh(b, server))
            server.freeze()
            ticks = a.ticks
            await eventually(lambda: a.ticks > ticks + 10)
            server.thaw()
            await frames_go(a, b)
            assert a.events == [("connected", "b")]
    assert "Traceback" not in caplog.text


async def test_what_was_sent_before_the_end_arrives_though_the_server_stalls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("links.link", "engines.nats_engine"):  # a busy machine may need more than 1 s
        monkeypatch.setattr(f"crdtbucket.mesh.{module}.CLOSE_S", 60.0)
    monkeypatch.setattr("crdtbucket.mesh.engines.nats_engine.WAITS", 10_000)
    a, b = RecordingNode("a"), RecordingNode("b")
    b.last_words = [("a", bytes([number]) * MAX_UNSENT) for number in range(10)]
    with NatsServer() as server:
        leaving = mesh(b, server)
        async with AsyncExitStack() as stack:
            await linked(stack, mesh(a, server), leaving)
            writer = leaving._transport._exchange._engine._client._transport._io_writer  # type: ignore[attr-defined]
            small = socket.SOL_SOCKET, socket.SO_SNDBUF, 4096  # the system keeps little of it
            writer.get_extra_info("socket").setsockopt(*small)
            server.freeze()
            stopping = asyncio.create_task(leaving.stop())
            await asyncio.wait({stopping}, timeout=2 * LOOK_S)
            server.thaw()
            await stopping
            await eventually(lambda: not a.linked)
            assert a.frames == [("b", frame) for _, frame in b.last_words]


VICTIM = """
import asyncio, sys
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode

async def main():
    config = MeshConfig(transport="nats", servers=[sys.argv[1]], secret=sys.argv[2])
    await MeshNetwork(RecordingNode("victim"), config).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_process_that_is_killed_is_noticed_at_once_and_its_place_refuses() -> None:
    a = RecordingNode("a")
    with NatsServer() as server:
        async with running(mesh(a, server)):
            victim = await asyncio.create_subprocess_exec(
                sys.executable, "-c", VICTIM, server.url, SECRET
            )
            try:
                await eventually(lambda: a.linked)
                victim.kill()
                # Far sooner than the silence of 15 s by which a lost peer would be noticed.
                await eventually(lambda: a.ends)
                assert a.ends == [("victim", True)]
                await eventually(lambda: a.failed_dials)
                assert a.failed_dials[0] == ("victim", "nats:victim", True)
            finally:
                if victim.returncode is None:
                    victim.kill()
                await victim.wait()
