"""Work that lasts as long as its owner goes on after a bug."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from crdtbucket.base import lasting as module
from crdtbucket.base.lasting import lasting
from tests.waits import eventually

LOG = logging.getLogger("crdtbucket.test")


async def test_a_bug_is_logged_and_the_work_begins_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise ZeroDivisionError(f"number {len(begun)}")
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting(work, "counting", LOG))
    await eventually(lambda: len(begun) == 3, "the work begins a third time")
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert [str(one.exc_info[1]) for one in caplog.records if one.exc_info] == [
        "number 1",
        "number 2",
    ]
    assert caplog.messages[0] == "a bug in counting, which begins again in 0.01 s"


async def test_a_bug_in_the_end_of_work_that_is_cancelled_does_not_begin_it_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The one that cancelled it would wait for ever."""
    begun = asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError("as it closes")

    task = asyncio.create_task(lasting(work, "counting", LOG))
    await begun.wait()
    begun.clear()
    task.cancel()
    await task
    assert not begun.is_set()
    assert caplog.messages == ["a bug in the end of counting"]


async def test_work_that_ends_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[bool] = []

    async def work() -> None:
        begun.append(True)

    await lasting(work, "counting", LOG)
    assert begun == [True]
    assert not caplog.records
