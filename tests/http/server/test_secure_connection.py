"""TLS of a server of decisions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crdtbucket.errors import CrdtbucketError
from crdtbucket.http.server.secure_connection import served_context
from tests.certificates import Authority
from tests.http.serving import TOKEN, Asker, serving
from tests.waits import eventually

TAKE = {"bucket": "api", "key": "a"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@contextlib.asynccontextmanager
async def secure(authority: Authority, **settings: object) -> AsyncIterator[Asker]:
    async with serving(**authority.issue("edge"), **settings) as client:
        assert client.url.startswith("https://")
        yield client


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


async def silent(client: Asker) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that never begins its handshake."""
    port = client.url.rpartition(":")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    client.writers.append(writer)
    return reader, writer


async def test_calls_by_tls(authority: Authority) -> None:
    async with secure(authority, token=TOKEN) as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for left in (99, 98, 97):  # over one connection
            status, answer, _ = await client.ask(
                "POST", "/v1/take", json=TAKE, headers=headers, ssl=trusting(authority)
            )
            assert (status, answer["remaining"]) == (200, left)


async def test_what_is_no_handshake_is_cut(authority: Authority) -> None:
    async with secure(authority) as client:
        reader, writer = await silent(client)
        writer.write(b"POST /v1/take HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        await eventually(lambda: not client.server.api.connections.open)
        assert client.limiter.bucket("api").peek("a").remaining == 100


async def test_a_connection_has_its_place_and_its_deadline_before_its_handshake(
    authority: Authority,
) -> None:
    # What is due is looked for ten times in the shortest deadline.
    deadlines = {"head_deadline": 60, "request_deadline": 0.3}
    async with secure(authority, max_connections=2, **deadlines) as client:
        connections = client.server.api.connections
        waiting = [(await silent(client))[0] for _ in range(3)]
        await eventually(lambda: len(connections.open) == 3)
        assert sum(one.placed for one in connections.open) == 2
        assert all(one.deadline_ns > 0 for one in connections.open)
        for one in connections.open:
            one.deadline_ns = 1  # it has passed, and not before all of them were there
        for reader in waiting:
            with contextlib.suppress(ConnectionError):
                assert not await reader.read()
        await eventually(lambda: not connections.open)
        assert connections.refused["slow"] + connections.refused["full"] == 3
        status, *_ = await client.ask("GET", "/healthz", ssl=trusting(authority))
        assert status == 200


async def test_the_end_does_not_wait_for_a_handshake(authority: Authority) -> None:
    async with secure(authority, drain_deadline=600.0, head_deadline=600.0) as client:
        reader, _ = await silent(client)
        await eventually(lambda: len(client.server.api.connections.open) == 1)
        await client.server.stop()
        with contextlib.suppress(ConnectionError):
            assert not await reader.read()


async def test_changed_files_come_into_use(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def served() -> str:
        port = client.url.rpartition(":")[2]
        _, writer = await asyncio.open_connection("127.0.0.1", int(port), ssl=trusting(authority))
        subject = writer.get_extra_info("peercert")["subject"]
        writer.close()
        return dict(part[0] for part in subject)["commonName"]

    async with secure(authority) as client:
        assert await served() == "edge"
        new = authority.issue("edge-2")
        for suffix, field in (("crt", "tls_cert"), ("key", "tls_key")):
            # Between the two a pair that does not fit is seen; what was in use stays.
            shutil.copy(new[field], tmp_path / "next")
            os.replace(tmp_path / "next", tmp_path / f"edge.{suffix}")
            assert await served() == ("edge" if suffix == "crt" else "edge-2")
        levels = [record.levelname for record in caplog.records]
        assert [one for one in levels if one != "INFO"] == ["ERROR"]
        assert "what was in use stays" in caplog.text


def test_files_that_cannot_be_loaded(authority: Authority, tmp_path: Path) -> None:
    files = authority.issue("edge")
    with pytest.raises(CrdtbucketError, match=r"cannot be loaded .* readable PEM certificate"):
        served_context(str(tmp_path / "none.crt"), files["tls_key"])
    with pytest.raises(CrdtbucketError, match="cannot be loaded"):
        served_context(files["tls_cert"], authority.issue("other")["tls_key"])


def test_clients_whose_hello_is_there_before_the_server_looks_are_served_under_uvloop(
    authority: Authority,
) -> None:
    """It hands out what has come before the next task runs."""
    uvloop = pytest.importorskip("uvloop")

    def ask(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), 60) as connection,
            trusting(authority).wrap_socket(connection, server_hostname="127.0.0.1") as secured,
        ):
            secured.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return secured.recv(12)

    async def serve_them() -> list[bytes]:
        async with secure(authority) as client:
            port = int(client.url.rpartition(":")[2])
            return await asyncio.gather(*(asyncio.to_thread(ask, port) for _ in range(20)))

    assert uvloop.run(serve_them()) == [b"HTTP/1.1 200"] * 20
