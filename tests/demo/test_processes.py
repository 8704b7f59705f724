"""The ports of a run: no other program gets one before its server listens, or between two
starts."""

from __future__ import annotations

import socket
import sys

import pytest

from crdtbucket.demo import processes
from crdtbucket.demo.processes import DemoError, reserved_port
from crdtbucket.testing.fault_proxy import HOST
from tests.strong.redis_server import PORTS, free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports are held on Linux alone")


@pytest.fixture
def two_ports(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    ports = sorted({free_port(), free_port()})
    monkeypatch.setattr(processes, "_PORTS", ports)
    return set(ports)


def test_no_port_is_given_twice(two_ports: set[int]) -> None:
    assert {reserved_port(), reserved_port()} == two_ports
    with pytest.raises(DemoError, match="no free port was found"):
        reserved_port()


def test_a_reserved_port_is_nobody_elses(two_ports: set[int]) -> None:
    port = reserved_port()
    with socket.socket() as other:
        with pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
        with pytest.raises(ConnectionRefusedError):  # nobody listens yet
            other.connect((HOST, port))


def test_its_server_may_listen_there_again_and_again(two_ports: set[int]) -> None:
    port = reserved_port()
    for _ in range(2):
        with socket.create_server((HOST, port)), socket.create_connection((HOST, port)) as client:
            assert client.getpeername() == (HOST, port)


def test_a_port_at_which_somebody_listens_is_not_given(two_ports: set[int]) -> None:
    taken, free = two_ports
    with socket.create_server((HOST, taken)):
        assert reserved_port() == free


def test_no_test_takes_a_port_of_a_demo_that_does_not_listen_yet() -> None:
    assert not set(PORTS) & set(processes._PORTS)
