"""A server that stops accepting: it leaves no half-made connection, even if a TLS handshake did not
begin."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from crdtbucket.base.accepting import secured_by_tls, stop_accepting
from tests.certificates import Authority


@pytest.fixture(params=["asyncio", "uvloop"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = pytest.importorskip(request.param)
    return module


@pytest.mark.parametrize("turns", range(8))
def test_each_client_is_connected_or_gone(library: ModuleType, turns: int) -> None:
    """Left open, it is a warning of Python's, and a client that waits for its time-out."""
    made: list[asyncio.Transport] = []

    class Made(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)  # type: ignore[arg-type]

    async def stop_after(turns: int) -> tuple[int, list[bytes]]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Made, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await stop_accepting([server])
        connected = len(made)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for _ in range(8):
            await asyncio.sleep(0)
        gc.collect()
        for transport in made:
            transport.write(b"!")
            transport.close()
        await asyncio.sleep(0)
        answers = []
        for client in clients:
            with client, contextlib.suppress(ConnectionResetError):
                client.settimeout(10)
                answers.append(client.recv(1))
        return connected, answers

    loop = library.new_event_loop()
    try:
        connected, answers = loop.run_until_complete(stop_after(turns))
    finally:
        loop.close()
    assert connected == len(made) == answers.count(b"!")


async def test_servers_that_are_closed_stay_closed() -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    for _ in range(2):
        await stop_accepting([server])
        assert not server.is_serving()


class Accepted(asyncio.Protocol):
    """Begins TLS in a task of its own, as servers do."""

    def __init__(self, context: ssl.SSLContext, tasks: asyncio.Queue[asyncio.Task[Any]]) -> None:
        self._context, self._tasks = context, tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        secured = secured_by_tls(cast("asyncio.Transport", transport), self, self._context, b"")
        self._tasks.put_nowait(asyncio.get_running_loop().create_task(secured))


def test_who_sends_nothing_and_goes_is_no_handshake(library: Any, tmp_path: Path) -> None:
    files = Authority(tmp_path, "authority").issue("edge")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["tls_cert"], files["tls_key"])

    async def run() -> None:
        loop, tasks = asyncio.get_running_loop(), asyncio.Queue[asyncio.Task[Any]]()
        server = await loop.create_server(lambda: Accepted(context, tasks), "127.0.0.1", 0)
        place = server.sockets[0].getsockname()
        for _ in range(20):
            socket.create_connection(place).close()
            begun = await asyncio.wait_for(tasks.get(), 60)
            done, _ = await asyncio.wait([begun], timeout=60)
            assert done
            with pytest.raises(OSError):
                begun.result()
        server.close()
        await server.wait_closed()

    library.run(run())


def test_a_handshake_that_nobody_waits_for_any_more_is_cancelled(library: ModuleType) -> None:
    """The handshake is cancelled while the bytes that came early wait for TLS to begin."""

    async def cancel_at_once() -> list[asyncio.Task[Any]]:
        loop = asyncio.get_running_loop()
        made: asyncio.Future[tuple[Any, Any]] = loop.create_future()

        class Made(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.set_result((transport, self))

        server = await loop.create_server(Made, "127.0.0.1", 0)
        _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport, protocol = await made
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secured = loop.create_task(secured_by_tls(transport, protocol, context, b"\x16\x03"))
        await asyncio.sleep(0)
        secured.cancel()
        with pytest.raises(asyncio.CancelledError):
            await secured
        await asyncio.sleep(0)
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task() and not t.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        transport.abort()
        client.close()
        server.close()
        return left

    loop = library.new_event_loop()
    try:
        assert loop.run_until_complete(cancel_at_once()) == []
    finally:
        loop.close()
