"""The short form of `python -m tests.chaos --only nats`: nothing here is timed."""

from __future__ import annotations

import pytest

from tests.chaos import engine


@pytest.mark.parametrize("fault", engine.FAULTS)
async def test_every_token_is_counted_once_at_all_nodes(fault: str) -> None:
    found = await engine.run(fault, 1.0)
    assert found.lost == 0
