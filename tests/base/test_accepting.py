"""A server that is closed has no connection that is half made."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from types import ModuleType

import pytest

from crdtbucket.base.accepting import stop_accepting


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
