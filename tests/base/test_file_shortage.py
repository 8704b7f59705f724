"""Open files that run out while a process runs: clients are refused, and it is logged once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.file_shortage import OVER_NS, FileShortage, ListeningSocket


@contextlib.contextmanager
def no_file_left() -> Iterator[None]:
    """This process can open no file."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.open(os.sep, os.O_RDONLY)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def listening() -> ListeningSocket:
    sock = ListeningSocket()
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def test_without_a_file_for_a_client_it_is_refused_and_no_error_is_logged() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted = asyncio.Event()
        errors: list[dict[str, Any]] = []
        made: list[asyncio.BaseTransport] = []

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.append(transport)
                accepted.set()

        def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            errors.append(context)

        loop.set_exception_handler(failed)
        sock = listening()
        server = await loop.create_server(Accepted, sock=sock, backlog=32)
        address = sock.getsockname()
        clients = [socket.socket() for _ in range(9)]
        for client in clients:
            client.setblocking(False)
        with no_file_left():
            for client in clients[:8]:
                await loop.sock_connect(client, address)
            for client in clients[:8]:
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(loop.sock_recv(client, 1), 60) == b""
            assert not made
        await loop.sock_connect(clients[8], address)
        await asyncio.wait_for(accepted.wait(), 60)
        assert len(made) == 1
        assert not errors
        made[0].close()
        server.close()
        await asyncio.sleep(0)
        for client in clients:
            client.close()

    asyncio.run(main())  # uvloop accepts by itself


def test_a_socket_keeps_no_file_once_it_is_closed() -> None:
    first_free = os.open(os.sep, os.O_RDONLY)
    os.close(first_free)
    sock = listening()
    again = sock.dup()
    assert isinstance(again, ListeningSocket)
    for one in (sock, again, sock):
        one.close()
    with no_file_left(), pytest.raises(OSError, match="Too many open files"):
        ListeningSocket()
    with pytest.raises(OSError, match="Invalid argument"):
        ListeningSocket(socket.AF_INET, socket.SOCK_STREAM, 4_711)
    free = os.open(os.sep, os.O_RDONLY)
    os.close(free)
    assert free == first_free


def test_it_is_logged_once_that_no_file_can_be_opened_and_once_that_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket")
    now = [7]
    shortage = FileShortage(lambda: now[0])

    def beats(count: int) -> list[tuple[str, str]]:
        caplog.clear()
        for _ in range(count):
            now[0] += NS_PER_SECOND
            shortage.beat()
        return [(one.levelname, one.getMessage()) for one in caplog.records]

    seconds = OVER_NS // NS_PER_SECOND
    assert not beats(2 * seconds)
    with no_file_left():
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        ((level, text),) = beats(5)
    assert level == "ERROR"
    assert text.startswith("Too many open files: no client or peer can connect")
    assert f"allow this process more than {limit} (LimitNOFILE= of systemd, or ulimit -n)" in text
    assert f"/proc/{os.getpid()}/fd" in text
    assert not beats(seconds - 1)
    with no_file_left():  # clients had made room for a moment
        assert not beats(1)
    assert not beats(seconds - 1)
    over = beats(seconds)
    assert over == [("INFO", "files can be opened again, after 14 s in which none could")]
    with no_file_left():
        assert len(beats(3)) == 1
