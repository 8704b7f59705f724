"""Open files that run out while a process runs: clients are refused, and it is logged once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import ssl
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from crdtbucket.base.address import Address
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.file_shortage import OVER_NS, FileShortage, ListeningSocket, fix_of
from crdtbucket.base.loaded_files import load_authorities, load_key_pair
from crdtbucket.config import load_config
from crdtbucket.config.expand import expand
from crdtbucket.config.source import Source, YamlNode
from crdtbucket.errors import ConfigError, CrdtbucketError, MeshError
from crdtbucket.http.server.listening import Listening
from crdtbucket.limiter.override_file import OverrideFile
from crdtbucket.mesh.links.override_book import OverrideBook
from crdtbucket.mesh.sockets.listener import Listener
from crdtbucket.mesh.state_dir import StateDir
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.spec.calendar_period import zone_of
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.blocking_connection import BlockingConnection


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


def secret(folder: Path) -> None:
    source, tree = Source("limits.yaml"), YamlNode("${file:secret}", "mesh.secret", 1, 1, 1, 1)
    expand(tree, {}, folder, source)
    raise ConfigError(source.problems)


DOORS: dict[str, Callable[[Path, asyncio.AbstractEventLoop], object]] = {
    "settings": lambda at, _: load_config(at / "limits.yaml"),
    "secret": lambda at, _: secret(at),
    "table": lambda at, _: SharedFile(str(at / "table")),
    "state": lambda at, _: StateDir(at, "a").open(),
    "overrides": lambda at, _: OverrideFile(str(at / "a.overrides")).exchange([], OverrideBook()),
    "certificate": lambda at, _: load_key_pair(TLS, str(at / "a"), str(at / "a"), "a", MeshError),
    "authorities": lambda at, _: load_authorities(TLS, str(at / "a"), "a", "peers", MeshError),
    "zone": lambda *_: zone_of("Europe/Berlin"),
    "HTTP": lambda *_: Listening("127.0.0.1:0"),
    "mesh": lambda _, loop: loop.run_until_complete(
        Listener(Mock(max_peers=2), Mock()).start("127.0.0.1", 0)
    ),
    "Redis": lambda *_: BlockingConnection(Address("127.0.0.1", 1), Access(), 1.0),
}
"""What opens a file, or a socket, and says what to do when that fails."""
TLS = ssl.create_default_context()


@pytest.mark.parametrize("door", DOORS)
def test_without_a_file_the_advice_is_to_allow_more_files(tmp_path: Path, door: str) -> None:
    (tmp_path / "limits.yaml").write_text("rating: {}")
    zone_of.cache_clear()
    zoneinfo.ZoneInfo.clear_cache()
    with (
        contextlib.closing(asyncio.new_event_loop()) as loop,
        no_file_left(),
        pytest.raises(CrdtbucketError, match="Too many open files") as raised,
    ):
        DOORS[door](tmp_path, loop)
    text = str(raised.value)
    assert "allow this process more than" in text
    for blamed in ("check", "correct"):
        assert blamed not in text


@pytest.mark.parametrize("error", [PermissionError(13, "no"), ssl.SSLError(errno.EMFILE, "PEM")])
def test_for_any_other_error_the_advice_is_that_of_the_door(error: OSError) -> None:
    assert fix_of(error, "check the path") == "check the path"


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
