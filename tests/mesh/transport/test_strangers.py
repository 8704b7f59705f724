"""What a stranger who reaches the port can do to a node."""

from __future__ import annotations

import asyncio
import gc
import sys
import time

import aiohttp
import pytest

from crdtbucket.mesh.links import hello
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.sockets import admission
from crdtbucket.mesh.sockets.web_socket import PATH
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode, config, pair, read_until_closed, running, say
from tests.waits import eventually

UPGRADE = (
    f"GET {PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
).encode()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /crdtb",
        UPGRADE,
        UPGRADE + b"\r\n",
        UPGRADE + b"\r\n\x82\xfe\x01",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nstalled",
    ],
    ids=["nothing", "half a line", "half a header", "no hello", "half a frame", "half a body"],
)
async def test_a_slow_connection_is_closed_in_time(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "HANDSHAKE_S", 0.3)
    mesh = MeshNetwork(RecordingNode("a"), config())
    async with running(mesh):
        await say(mesh, said)
        assert set(mesh.counters.refused) <= {"handshake_timeout", "http"}
        assert sum(mesh.counters.refused.values()) == 1


async def test_a_drip_of_bytes_does_not_extend_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "HANDSHAKE_S", 0.3)
    mesh = MeshNetwork(RecordingNode("a"), config())
    async with running(mesh):
        host, port = mesh.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        ended = asyncio.ensure_future(read_until_closed(reader))
        started = time.monotonic()
        writer.write(b"GET / HTTP/1.1\r\nX-Long: ")
        while not ended.done():
            assert time.monotonic() - started < 30
            writer.write(b"a")
            await asyncio.wait({ended}, timeout=0.02)
        assert mesh.counters.refused == {"handshake_timeout": 1}
        writer.close()


async def test_much_before_the_handshake_is_refused() -> None:
    mesh = MeshNetwork(RecordingNode("a"), config())
    async with running(mesh):
        await say(mesh, UPGRADE + b"\r\n\x82\xff" + (200_000).to_bytes(8, "big") + bytes(100_000))
        assert mesh.counters.refused == {"oversize": 1}


@pytest.mark.parametrize(
    ("path", "headers"), [("/", {}), (PATH, {}), (PATH, {"Origin": "http://evil.example"})]
)
async def test_other_http_gets_a_404(path: str, headers: dict[str, str]) -> None:
    mesh = MeshNetwork(RecordingNode("a"), config())
    async with running(mesh), aiohttp.ClientSession() as http:
        if headers:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await http.ws_connect(f"http://{mesh.address}{path}", headers=headers)
            assert caught.value.status == 404
        else:
            async with http.get(f"http://{mesh.address}{path}") as answer:
                assert answer.status == 404
        assert mesh.counters.refused == {"http": 1}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\0" * 100, "http"),
        (b"\x16\x03\x01" + b"\xff" * 5_000, "http"),
        (b"GET / HTTP/1.1\r\n\r\n", "http"),
        (b"GET /crdt", "http"),
        (UPGRADE + b"\r\n" + b"\xff" * 3_000, "malformed"),
        (UPGRADE + b"\r\n\x81\x02hi", "malformed"),
    ],
    ids=["zeros", "TLS", "no host", "cut off", "bad frame", "unmasked text"],
)
async def test_garbage_on_the_port_is_counted(said: bytes, reason: str) -> None:
    mesh = MeshNetwork(RecordingNode("a"), config())
    async with running(mesh):
        await say(mesh, said, and_end=said == b"GET /crdt")
        await eventually(lambda: mesh.counters.refused == {reason: 1})


@pytest.mark.parametrize("first", [b"", b"\0" * 100, b"CBKM" + b"\xff" * 300])
async def test_garbage_for_a_hello_is_refused(first: bytes) -> None:
    mesh = MeshNetwork(RecordingNode("a"), config())
    async with running(mesh), aiohttp.ClientSession() as http:
        async with http.ws_connect(f"http://{mesh.address}{PATH}") as ws:
            await ws.send_bytes(first)
            message = await ws.receive(timeout=60)
            assert message.type is not aiohttp.WSMsgType.BINARY
        await eventually(lambda: sum(mesh.counters.refused.values()) == 1)


async def test_a_node_of_the_version_before_is_refused_by_both_versions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = hello.VERSION - 1
    info = NodeInfo("b", "eu", 7, "10.0.0.1:7946", 0)
    said = hello.Hello(info, 7, bytes(32), bytes(8), (bytes(8),), before, before)
    mesh = MeshNetwork(RecordingNode("a"), config())
    async with running(mesh), aiohttp.ClientSession() as http:
        async with http.ws_connect(f"http://{mesh.address}{PATH}") as ws:
            await ws.send_bytes(said.encode())
            answer = hello.decode(await ws.receive_bytes(timeout=60))
            assert answer.lowest == answer.highest == hello.VERSION
        await eventually(lambda: mesh.counters.refused == {"version": 1})
    assert (
        f"it speaks protocol versions {before} to {before} and this node {hello.VERSION}: "
        "upgrade the older one"
    ) in caplog.text


FLOOD = """
import socket, sys
open_, count = [], int(sys.argv[2])
for _ in range(count):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(("127.0.0.1", int(sys.argv[1])))
    open_.append(s)
print("connected", flush=True)
sys.stdin.read()
"""


async def test_a_flood_of_connections_is_refused_without_a_stall() -> None:
    a, b = RecordingNode("a"), RecordingNode("b", interval_ns=10_000_000)
    async with pair(a, b) as (mesh_a, _):
        seen = mesh_a.counters.frames_in
        port = mesh_a.address.rpartition(":")[2]
        flood = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            FLOOD,
            port,
            "500",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        # CPU time of this thread between two turns: other processes on the machine do not count.
        stalls: list[float] = []
        gc.collect()
        gc.disable()
        try:
            last = time.thread_time()
            deadline = time.monotonic() + 60
            while sum(mesh_a.counters.refused.values()) < 400:
                assert time.monotonic() < deadline, mesh_a.counters
                await asyncio.sleep(0)
                now = time.thread_time()
                stalls.append(now - last)
                last = now
        finally:
            gc.enable()
        assert max(stalls) < 0.02
        assert mesh_a.counters.refused["too_many_from_address"] >= 400
        await eventually(lambda: mesh_a.counters.frames_in > seen + 10)
        assert "b" in a.linked
        assert flood.stdin is not None
        flood.stdin.close()
        await flood.wait()


async def test_after_a_flood_connections_are_admitted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "HANDSHAKE_S", 0.3)
    monkeypatch.setattr(admission, "MAX_UNPROVEN_PER_ADDRESS", 2)
    a = RecordingNode("a")
    mesh = MeshNetwork(a, config())
    async with running(mesh):
        host, port = mesh.address.split(":")
        writers = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(5)]
        await eventually(lambda: mesh.counters.refused.get("too_many_from_address") == 3)
        await eventually(lambda: mesh.counters.refused.get("handshake_timeout") == 2)
        for writer in writers:
            writer.close()
        async with running(MeshNetwork(RecordingNode("b"), config(mesh.address))):
            await eventually(lambda: a.linked)
