"""The helper for real servers, on which other tests depend: running, frozen, killed, empty."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import hiredis
import pytest

from tests.strong.redis_server import PROGRAMS, Server, _reserved


@pytest.fixture(params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(program=request.param) as running:
        yield running


def test_a_started_server_answers_on_its_port_and_socket(server: Server) -> None:
    assert server.call("SET", "a", 1) == b"OK"
    with socket.create_connection((server.host, server.port), timeout=5) as connection:
        connection.sendall(b"GET a\r\n")
        assert connection.recv(64) == b"$1\r\n1\r\n"


def test_a_restart_is_empty_and_on_the_same_port(server: Server) -> None:
    server.call("SET", "a", 1)
    port = server.port
    server.restart()
    assert server.port == port
    assert server.call("GET", "a") is None
    server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((server.host, port), timeout=5)
    server.start()
    assert server.call("DBSIZE") == 0


def test_a_frozen_server_answers_when_it_is_thawed(server: Server) -> None:
    server.freeze()
    with pytest.raises(TimeoutError):
        server.call("PING", seconds=0.05)
    server.thaw()
    assert server.call("PING") == b"PONG"
    server.freeze()
    server.kill()
    with pytest.raises(OSError, match="refused"):
        server.call("PING")


def test_errors_of_the_server_are_raised(server: Server) -> None:
    with pytest.raises(hiredis.ReplyError, match="unknown command"):
        server.call("NOSUCH")


def test_options_reach_it_and_bad_ones_are_reported() -> None:
    with Server("requirepass secret") as server, pytest.raises(hiredis.ReplyError, match="NOAUTH"):
        server.call("GET", "a")
    with pytest.raises(RuntimeError, match="nosuchoption"), Server("nosuchoption 1"):
        pass


def test_a_sentinel_and_a_cluster_node_start() -> None:
    with Server() as master:
        watch = f"sentinel monitor main {master.host} {master.port} 1"
        with Server(watch, sentinel=True) as sentinel:
            found = sentinel.call("SENTINEL", "get-master-addr-by-name", "main")
            assert found == [b"127.0.0.1", str(master.port).encode()]
    with Server("cluster-enabled yes") as node:
        assert b"cluster_enabled:1" in node.call("INFO", "cluster")


def test_nothing_stays_behind() -> None:
    with Server() as server:
        pass
    assert not server.folder.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((server.host, server.port), timeout=5)


def test_a_cluster_node_reserves_its_second_port() -> None:
    with Server("cluster-enabled yes") as node:
        second = int(node.call("CONFIG", "GET", "cluster-port")[1])
    assert not _reserved(second)
