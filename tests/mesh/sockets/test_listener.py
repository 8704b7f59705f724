"""A listener that stops leaves nothing open, whatever has just come."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import types
from typing import Any

import pytest

from crdtbucket.mesh.sockets.listener import Listener


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

    with asyncio.run(stop_after(turns)) as peer:
        gc.collect()
        peer.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""
