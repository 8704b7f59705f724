"""A listener that stops leaves nothing open, even if a connection has just come; and the log line
of its address."""

from __future__ import annotations

import asyncio
import logging
import socket
import types
from typing import Any

import pytest

from crdtbucket import MeshConfig
from crdtbucket.errors import MeshError
from crdtbucket.mesh.sockets.listener import Listener
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.mesh.network import RecordingNode, running
from tests.strong.redis_server import free_port
from tests.waits import is_closed


@pytest.mark.parametrize("turns", range(8))
def test_a_connection_that_was_just_accepted_is_closed(turns: int) -> None:
    """Left open, it is a warning of Python's, and a peer that waits for its time-out."""
    host: Any = types.SimpleNamespace(max_peers=8, refusals=None)
    tls: Any = types.SimpleNamespace(now=lambda: None)

    async def stop_after(turns: int) -> socket.socket:
        listener = Listener(host, tls)
        peer = socket.create_connection(("127.0.0.1", await listener.start("127.0.0.1", 0)))
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.stop()
        return peer

    is_closed(stop_after(turns))


@pytest.mark.parametrize("turns", range(8))
async def test_a_start_that_is_cancelled_leaves_the_port_free(turns: int) -> None:
    host: Any = types.SimpleNamespace(max_peers=8, refusals=None)
    tls: Any = types.SimpleNamespace(now=lambda: None)
    port, listener = free_port(), Listener(host, tls)
    starting = asyncio.ensure_future(listener.start("127.0.0.1", port))
    for _ in range(turns):
        await asyncio.sleep(0)
    if starting.cancel():
        await asyncio.wait([starting])
    else:
        await listener.stop()
    other = Listener(host, tls)
    assert await other.start("127.0.0.1", port) == port
    await other.stop()


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
async def test_an_ipv6_address_is_logged_as_it_is_written(caplog: pytest.LogCaptureFixture) -> None:
    settings = MeshConfig(listen="[::1]:0", secret="a secret of these tests")
    with caplog.at_level(logging.INFO, "crdtbucket.mesh"):
        try:
            async with running(MeshNetwork(RecordingNode("a"), settings)):
                assert any("listening on [::1]:" in line for line in caplog.messages)
        except MeshError as error:
            pytest.skip(f"this host has no IPv6: {error}")
