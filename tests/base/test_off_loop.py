"""Work in a thread while an event loop goes on."""

from __future__ import annotations

import asyncio
import threading

import pytest

from crdtbucket.base.deadline import off_loop
from crdtbucket.errors import MeshError

PATIENCE_S = 30.0


async def test_the_loop_goes_on_meanwhile() -> None:
    seen, done = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> bool:
        loop.call_soon_threadsafe(seen.set)
        return done.wait(PATIENCE_S)

    working = asyncio.create_task(off_loop(work))
    await seen.wait()
    done.set()
    assert await working


async def test_what_the_work_raises_is_raised() -> None:
    def work() -> None:
        raise MeshError("not today")

    with pytest.raises(MeshError, match="not today"):
        await off_loop(work)


@pytest.mark.parametrize("times", [1, 2])
async def test_who_is_cancelled_waits_until_the_work_has_ended(times: int) -> None:
    seen, done, ended = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(seen.set)
        done.wait(PATIENCE_S)
        ended.append(True)

    working = asyncio.create_task(off_loop(work))
    await seen.wait()
    for _ in range(times):
        working.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not working.done()
    done.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended == [True]
