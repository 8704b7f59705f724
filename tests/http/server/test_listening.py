"""Addresses: hosts and ports, and Unix sockets."""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from crdtbucket.errors import InvalidSpec
from crdtbucket.http.server.listening import CannotListen, Listening
from crdtbucket.http.server.serve_settings import ServeSettings
from tests.http.serving import TOKEN, serving


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
    with pytest.raises(CannotListen, match=r'an address to listen on is .*: write "host'):
        Listening(address)


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_in_use_and_a_path_too_long(shared: bool) -> None:
    first = Listening("127.0.0.1:0", shared=shared)
    with pytest.raises(
        CannotListen, match=r"Address already in use: stop .* address with --listen$"
    ):
        Listening(first.name.removeprefix("http://"), shared=shared)
    first.close()
    with pytest.raises(CannotListen, match="cannot listen on"):
        Listening("unix:/tmp/" + "a" * 200)
    with pytest.raises(CannotListen, match="No such file or directory: make the folder"):
        Listening("unix:/nowhere/at/all")


async def test_an_address_that_others_reach_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with serving():
        assert not caplog.records
    async with serving(listen=("0.0.0.0:0",), insecure=True):
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert record.getMessage().endswith(", and each of them can take tokens")
    caplog.clear()
    async with serving(listen=("0.0.0.0:0",), insecure=True, token=TOKEN):
        (record,) = caplog.records
        assert record.getMessage().endswith("without TLS: the token can be read on the way")


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("listen", "127.0.0.1:80", "write a tuple"),
        ("grpc", 5, "write text"),
        ("token", 5, "write a string"),
        ("insecure", 1, "write True or False"),
        ("max_body", "x", "write a whole number from 1 to"),
        ("max_connections", 0, "write a whole number from 1 to"),
        ("head_deadline", -1, "write seconds from"),
        ("retry_jitter", float("nan"), "write seconds from"),
    ],
)
def test_a_setting_that_is_of_no_use_is_named_with_the_fix(
    name: str, value: object, fix: str
) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(InvalidSpec, match=f"^{name} is .*: {fix}"):
        ServeSettings(**given)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InvalidSpec, match="no address"):
        ServeSettings(listen=())
    with pytest.raises(InvalidSpec, match="too short"):
        ServeSettings(admin_token="secret")
    with pytest.raises(InvalidSpec, match="the token is too short"):
        ServeSettings(token="secret")
    for unsendable in ("# the token of edge\n0123456789abcdef", "0123456789abcdef\ud800"):
        with pytest.raises(InvalidSpec, match="the token is no line of text: write one line of"):
            ServeSettings(token=unsendable)
    with pytest.raises(InvalidSpec, match="a certificate and its key go together: give both"):
        ServeSettings(tls_cert="edge.crt")
    assert "sixteen" not in repr(ServeSettings(admin_token="sixteen letters!"))


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "edge.internal:1"])
def test_others_reach_it_with_a_token_and_tls_only(address: str) -> None:
    token, tls = {"token": TOKEN}, {"tls_cert": "edge.crt", "tls_key": "edge.key"}
    for given, missing in (
        ({}, "--token-file and --tls-cert with --tls-key"),
        (token, "--tls-cert with --tls-key"),
        (tls, "--token-file"),
    ):
        with pytest.raises(InvalidSpec, match=f"'{re.escape(address)}', .* add {missing}, or"):
            ServeSettings(listen=("127.0.0.1:1", address), **given)
    ServeSettings(listen=(address,), **token, **tls)
    ServeSettings(listen=(address,), insecure=True)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/it"])
def test_this_host_reaches_it_without(address: str) -> None:
    ServeSettings(listen=(address,))
