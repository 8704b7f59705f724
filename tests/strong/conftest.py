"""Real servers that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.strong import backends
from tests.strong.backends import TimedRedis
from tests.strong.redis_server import PROGRAMS, Server


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def server(shared: Server) -> Server:
    """The shared server, emptied."""
    shared.thaw()  # a test that failed may have left it frozen
    shared.call("FLUSHALL")
    return shared


@pytest.fixture(scope="module", params=PROGRAMS)
def redis(request: pytest.FixtureRequest) -> Iterator[TimedRedis]:
    with backends.timed(request.param) as one:
        yield one
