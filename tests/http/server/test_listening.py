"""Addresses: hosts and ports, and Unix sockets."""

from __future__ import annotations

import logging
import os
import socket
import stat
from pathlib import Path

import aiohttp
import pytest

from crdtbucket.errors import InvalidSpec
from crdtbucket.http.server.listening import CannotListen, Listening
from crdtbucket.http.server.serve_settings import ServeSettings
from tests.http.serving import serving


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)  # a path of a socket has about 100 characters at most
    return "api.sock"


async def test_several_addresses_at_once(path: str) -> None:
    async with serving(listen=(f"unix:{path}", "127.0.0.1:0", "[::1]:0")) as client:
        assert client.server.addresses[0] == "unix:api.sock"
        assert client.server.addresses[2].startswith("http://[::1]:")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        connector = aiohttp.UnixConnector(path)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://socket/healthz") as response,
        ):
            assert response.status == 200
        assert (await client.get("/healthz"))["status"] == "ok"
    assert "api.sock" not in os.listdir()


def test_a_socket_in_use_is_not_taken_over(path: str) -> None:
    first = Listening(f"unix:{path}")
    with pytest.raises(CannotListen, match="a running process listens there"):
        Listening(f"unix:{path}")
    first.close()
    first.close()


def test_the_socket_of_a_dead_process_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    Listening(f"unix:{path}").close()
    assert not os.path.exists(path)


def test_another_file_is_left_alone(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(CannotListen, match="no socket"):
        Listening(f"unix:{path}")
    assert Path(path).read_text() == "precious"


def test_the_path_of_a_successor_stays(path: str) -> None:
    first = Listening(f"unix:{path}")
    first.unlink()
    second = Listening(f"unix:{path}")
    first.close()
    assert os.path.exists(path)
    second.close()


@pytest.mark.parametrize("address", ["7980", "localhost", "localhost:http", "a:99999", "::1:80"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(CannotListen, match="an address to listen on is"):
        Listening(address)


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_in_use_and_a_path_too_long(shared: bool) -> None:
    first = Listening("127.0.0.1:0", shared=shared)
    with pytest.raises(CannotListen, match="Address already in use"):
        Listening(first.name.removeprefix("http://"), shared=shared)
    first.close()
    with pytest.raises(CannotListen, match="cannot listen on"):
        Listening("unix:/tmp/" + "a" * 200)


async def test_an_address_that_others_reach_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with serving():
        assert not caplog.records
    async with serving(listen=("0.0.0.0:0",)):
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "whoever reaches it can take tokens" in record.getMessage()


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InvalidSpec, match="no address"):
        ServeSettings(listen=())
    with pytest.raises(InvalidSpec, match="too short"):
        ServeSettings(admin_token="secret")
    assert "sixteen" not in repr(ServeSettings(admin_token="sixteen letters!"))
