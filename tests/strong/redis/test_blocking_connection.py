"""A thread's own connection: how long it waits at most."""

from __future__ import annotations

import socket

import pytest

from crdtbucket.base.address import Address
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.blocking_connection import BlockingConnection
from tests.interrupted import signals_on_and_on


def test_signals_that_come_on_and_on_make_no_login_longer() -> None:
    """The system accepts the connection, and nobody answers."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        signals_on_and_on(),
        pytest.raises(RedisUnavailable, match="did not answer"),
    ):
        BlockingConnection(Address(*listener.getsockname()), Access(), 0.3)


def test_what_is_no_name_of_the_dns_does_not_resolve() -> None:
    with pytest.raises(RedisUnavailable, match=r"does not resolve \(it is no name .* correct"):
        BlockingConnection(Address("no..name"), Access(), 5.0)
