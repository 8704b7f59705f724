"""Settlements with a server are logged, and do not flood the log."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.strong.resync import CHUNK, Resync

STEP_NS = NS_PER_SECOND // 10
"""Between two passes while Redis answers and calls are still decided without it."""


class Passes(Resync):
    """Passes over keys that are unsettled again at once, as those of callers are, at a server that
    takes so long for each chunk."""

    def __init__(self, keys: int, chunk_ns: int = 0) -> None:
        self.now, self.chunk_ns = 1_000 * NS_PER_SECOND, chunk_ns
        unsettled = SimpleNamespace(pending=dict.fromkeys((None, at) for at in range(keys)))
        slots = SimpleNamespace(pending={})
        table = SimpleNamespace(now=lambda: self.now)
        ledger = SimpleNamespace(table=table, unsettled=unsettled, slots=slots)
        link = SimpleNamespace(address="redis:6379")
        super().__init__(cast(Any, ledger), cast(Any, link), cast(Any, None), lambda item: True)

    async def _settle_chunk(self, chunk: list[Any]) -> bool:
        self.now += self.chunk_ns
        return True


async def test_short_passes_one_after_the_other_are_a_line_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While Redis is slow the log of each node had ten lines a second."""
    caplog.set_level(logging.INFO)
    one = Passes(CHUNK + 1)
    for _ in range(10 * 60 * 10):
        assert await one.settle()
        one.now += STEP_NS
    assert caplog.messages == [f"redis:6379: {CHUNK + 1} keys settled in 0.0 s"] * 10


async def test_a_long_pass_tells_how_far_it_is_and_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    one = Passes(5 * CHUNK, chunk_ns=3 * NS_PER_SECOND)
    assert await one.settle()
    far = [f"redis:6379: {count * CHUNK} keys settled so far" for count in (2, 4)]
    end = f"redis:6379: {5 * CHUNK} keys settled in 15.0 s"
    assert caplog.messages == [*far, end]
    caplog.clear()
    assert await one.settle()
    assert caplog.messages == [*far, end]
