"""A server that stops leaves nothing open, even if a connection has just come."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from crdtbucket import Limiter
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.serving import SidecarServer
from tests.certificates import Authority
from tests.http.serving import API, serving
from tests.waits import is_closed


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Authority(tmp_path_factory.mktemp("tls"), "authority").issue("edge")


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_connection_that_was_just_accepted_is_closed(
    tls: bool, turns: int, certificate: dict[str, Any]
) -> None:
    """Left open, it is a warning of Python's, and a client that waits for its time-out."""
    settings = ServeSettings(("127.0.0.1:0",), **(certificate if tls else {}))

    async def stop_after(turns: int) -> socket.socket:
        server = SidecarServer(Limiter([API]), settings)
        server.bind()
        await server.start()
        port = int(server.addresses[0].rpartition(":")[2])
        client = socket.create_connection(("127.0.0.1", port))
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.stop()
        assert not server.api.connections.open
        return client

    is_closed(stop_after(turns))


async def test_clients_wait_in_a_queue_while_the_event_loop_is_busy() -> None:
    """asyncio's own number, 100, once replaced ours. A client that finds no place tries again a
    second later."""
    clients = [socket.socket() for _ in range(400)]
    async with serving() as server:
        where = server.url.removeprefix("http://").rpartition(":")
        for client in clients:
            client.setblocking(False)
            client.connect_ex((where[0], int(where[2])))  # no turn of the event loop
        connected = [client for client in clients if _is_connected(client)]
        assert len(connected) == len(clients)
        for client in clients:
            client.close()


def _is_connected(client: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        client.getpeername()
        return True
    return False
