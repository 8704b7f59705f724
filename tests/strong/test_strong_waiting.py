"""Callers that wait for a strong bucket, at a store that answers when the test wants it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket.strong import strong_waiting
from crdtbucket.strong.strong_waiting import StrongWaiters

KEY = "tenant-42"
LONG_S = 3_600.0
BOUND_S = 30.0


class KickedWhileAsked:
    """Tokens come back while the store is asked for the first time, and it has denied already."""

    def __init__(self) -> None:
        self.table = SimpleNamespace(now=lambda: 0)
        self.waiters: Any = StrongWaiters(self, self)  # type: ignore[arg-type]
        self.asked = 0

    def hash(self, key: str) -> tuple[int, int]:
        return hash(key), 0

    async def acquire(self, key: str, cost: int) -> Any:
        self.asked += 1
        if self.asked == 1:
            self.waiters.kick(key)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return SimpleNamespace(allowed=self.asked > 1, retry_after=LONG_S)


async def test_a_kick_while_the_store_is_asked_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strong_waiting, "LOOK_AGAIN_S", LONG_S)
    bucket = KickedWhileAsked()
    decision = await asyncio.wait_for(bucket.waiters.wait(KEY, 1, None), BOUND_S)
    assert decision.allowed
    assert bucket.asked == 2
