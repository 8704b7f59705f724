"""A real server of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.strong.redis_server import PROGRAMS, Server


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(program=request.param) as running:
        yield running
