"""A client that is gone before its handshake leaves nothing behind, on each event loop."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import ssl
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from crdtbucket.base.accepted_tls import secured_by_tls
from tests.certificates import Authority

uvloop: ModuleType | None = None
if importlib.util.find_spec("uvloop"):
    import uvloop


class Accepted(asyncio.Protocol):
    """Begins TLS in a task of its own, as servers do."""

    def __init__(self, context: ssl.SSLContext, tasks: asyncio.Queue[asyncio.Task[Any]]) -> None:
        self._context, self._tasks = context, tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        secured = secured_by_tls(cast("asyncio.Transport", transport), self, self._context, b"")
        self._tasks.put_nowait(asyncio.get_running_loop().create_task(secured))


@pytest.mark.parametrize("loops", [asyncio, uvloop], ids=["asyncio", "uvloop"])
def test_who_sends_nothing_and_goes_is_no_handshake(loops: Any, tmp_path: Path) -> None:
    if loops is None:
        pytest.skip("uvloop is not installed")
    files = Authority(tmp_path, "authority").issue("edge")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["tls_cert"], files["tls_key"])

    async def run() -> None:
        loop, tasks = asyncio.get_running_loop(), asyncio.Queue[asyncio.Task[Any]]()
        server = await loop.create_server(lambda: Accepted(context, tasks), "127.0.0.1", 0)
        place = server.sockets[0].getsockname()
        for _ in range(20):
            socket.create_connection(place).close()
            begun = await asyncio.wait_for(tasks.get(), 10)
            done, _ = await asyncio.wait([begun], timeout=10)
            assert done
            with pytest.raises(OSError):
                begun.result()
        server.close()
        await server.wait_closed()

    loops.run(run())
