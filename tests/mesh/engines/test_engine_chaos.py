"""The short form of `python -m tests.chaos --only nats`: nothing here is timed."""

from __future__ import annotations

import pytest

from tests.chaos import engine
from tests.chaos.__main__ import measure
from tests.mesh.engines.nats_server import NatsServer
from tests.server_process import NotInstalled


@pytest.mark.parametrize("fault", engine.FAULTS)
async def test_every_token_is_counted_once_at_all_nodes(fault: str) -> None:
    found = await engine.run(fault, 1.0)
    assert found.lost == 0


async def test_without_a_server_its_rows_are_skipped_with_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(self: NatsServer, *lines: str) -> None:
        raise NotInstalled("nats-server is not installed: make nats")

    monkeypatch.setattr(NatsServer, "__init__", missing)
    told: list[str] = []
    assert await measure(["nats"], 1, told.append) == []
    assert told[0] == "nats: skipped, nats-server is not installed: make nats"
