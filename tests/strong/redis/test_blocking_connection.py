"""A thread's own connection: how long it waits at most."""

from __future__ import annotations

import signal
import socket

import pytest

from crdtbucket.base.address import Address
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.blocking_connection import BlockingConnection


def test_signals_that_come_on_and_on_make_no_login_longer() -> None:
    """The system accepts the connection, and nobody answers."""
    seen = []

    def handler(*_: object) -> None:
        seen.append(1)
        assert len(seen) < 1_000, "the wait does not end"

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            with pytest.raises(RedisUnavailable, match="did not answer"):
                BlockingConnection(Address(*listener.getsockname()), Access(), 0.3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen
