"""The channel below a link ends when it is closed, on each event loop that may run it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from crdtbucket.errors import WireError
from crdtbucket.mesh.links.channel import ChannelLost
from crdtbucket.mesh.sockets.web_socket import PATH, WebSocketChannel, connect, http_session
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.certificates import Authority
from tests.mesh.network import RecordingNode, config, running
from tests.strong.redis_server import free_port
from tests.waits import eventually


async def aborted() -> None:
    """Aborts a channel twice: its peer sees the end, and so does a task that receives."""
    ended = asyncio.Event()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        ended.set()
        return ws

    app = web.Application()
    app.router.add_get(PATH, serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with http_session() as http:
            channel = await connect(http, f"{host}:{port}", None)
            channel.abort()
            await asyncio.wait_for(ended.wait(), 60)
            with pytest.raises(ChannelLost):
                await channel.receive()
            channel.abort()
    finally:
        await runner.cleanup()


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made = pytest.importorskip(request.param).new_event_loop()
    yield made
    made.close()


def test_an_abort_ends_the_connection(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(aborted())


class FailingWebSocket:
    """It cannot be closed, and keeps the error by which it could not, as aiohttp's does."""

    def __init__(self) -> None:
        self._kept: BaseException | None = None

    async def close(self) -> bool:
        try:
            raise ConnectionResetError("lost")
        except ConnectionResetError as error:
            self._kept = error
        return True

    def exception(self) -> BaseException | None:
        return self._kept

    def get_extra_info(self, name: str) -> None:
        return None


async def test_what_could_not_be_closed_is_gone_once_nobody_uses_it() -> None:
    ws: Any = FailingWebSocket()
    gone = weakref.ref(ws)
    channel = WebSocketChannel(ws, "", certified=False)
    gc.disable()  # it comes rarely
    try:
        await channel.close()
        assert str(ws.exception()) == "lost"
        del ws, channel
        assert gone() is None
    finally:
        gc.enable()


@contextlib.contextmanager
def errors_left() -> Iterator[list[OSError]]:
    """Afterwards, the errors of networks that only Python's collector would have found."""
    found: list[OSError] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += [one for one in gc.garbage if isinstance(one, OSError)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_a_dial_that_is_refused_leaves_no_error_behind() -> None:
    async with http_session() as http:
        with errors_left() as left, pytest.raises(ChannelLost):
            await connect(http, f"127.0.0.1:{free_port()}", None)
        assert not left


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP with status 404, as no node",
        ),
        (b"", r"without an answer: it has no room for another \(its log says why\), or is no node"),
    ],
    ids=["HTTP", "another protocol"],
)
async def test_a_dial_to_what_is_no_node_says_so(answer: bytes, says: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, http_session() as http:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((ChannelLost, WireError), match=f"{says}.*mesh.listen") as raised:
            await connect(http, f"127.0.0.1:{port}", None)
        assert raised.type is (WireError if answer else ChannelLost)


async def test_a_dial_that_is_reset_says_so_in_the_words_of_the_system() -> None:
    async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(resets, "127.0.0.1", 0) as server, http_session() as http:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ChannelLost) as caught:
            await connect(http, f"127.0.0.1:{port}", None)
    assert str(caught.value) == "Connection reset by peer"


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "[", "\x00"])
async def test_a_dial_to_what_can_be_no_host_fails_as_others_do(host: str) -> None:
    """A member may advertise any address; the task that dialled this one ended."""
    async with http_session() as http:
        with pytest.raises(ChannelLost):
            await connect(http, f"{host}:1", None)


async def test_who_does_not_speak_tls_leaves_no_error_behind(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    mesh = MeshNetwork(RecordingNode("a"), config(**authority.issue("a"), tls_ca=authority.file))
    async with running(mesh):
        host, port = mesh.address.split(":")
        with errors_left() as left:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await eventually(lambda: mesh.counters.refused.get("tls"))
            writer.close()
        assert not left


def with_tls(folder: Path, **certificate: Any) -> tuple[MeshNetwork, ssl.SSLContext]:
    """A node that asks for certificates, and what a client that has this one connects with."""
    authority = Authority(folder, "ca")
    mesh = MeshNetwork(RecordingNode("a"), config(**authority.issue("a"), tls_ca=authority.file))
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(*authority.issue("b", **certificate).values())
    return mesh, context


def test_a_client_whose_hello_is_there_before_the_listener_looks_gets_tls(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """uvloop hands out what has come before the next task runs."""
    mesh, context = with_tls(tmp_path)

    async def answers() -> list[bytes]:
        async with running(mesh):
            host, port = mesh.address.split(":")

            async def ask() -> bytes:
                reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = await reader.read(12)
                writer.close()
                return answer

            return await asyncio.gather(*(ask() for _ in range(5)))

    assert loop.run_until_complete(answers()) == [b"HTTP/1.1 404"] * 5
    assert "tls" not in mesh.counters.refused


def test_a_client_whose_certificate_is_refused_counts_once_and_as_that(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """Under uvloop it mostly counted as a client that sent no request."""
    mesh, context = with_tls(tmp_path, hours=(-2, -1))

    async def refuses() -> None:
        async with running(mesh):
            host, port = mesh.address.split(":")
            for count in range(1, 4):
                reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
                await eventually(lambda count=count: sum(mesh.counters.refused.values()) == count)

    loop.run_until_complete(refuses())
    assert dict(mesh.counters.refused) == {"tls": 3}


async def test_a_close_whose_caller_is_cancelled_ends_all_the_same() -> None:
    class Silent(FailingWebSocket):
        ended = False

        async def close(self) -> bool:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended = True
            return True

    ws: Any = Silent()
    closing = asyncio.ensure_future(WebSocketChannel(ws, "", certified=False).close())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})
    assert closing.cancelled()
    assert ws.ended
