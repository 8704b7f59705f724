"""Results of work on another event loop: each reaches its caller, or the function for unwanted
ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from crdtbucket.base import across
from crdtbucket.base.across import block_on, run_on
from tests.waits import eventually


@pytest.fixture
def other() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Work:
    """Work that notes in which thread it runs, and ends when it may."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()
        self.cancelled = False
        self.may_end = asyncio.Event()
        self._stubborn = stubborn

    async def run(self) -> str:
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            if not self._stubborn:
                raise
        # The result is handed on in the loop's next turns.
        asyncio.get_running_loop().call_later(0.01, self.ended.set)
        return "result"


async def fails() -> str:
    raise KeyError("of the work")


async def test_a_result_and_an_error_come_back(other: asyncio.AbstractEventLoop) -> None:
    unwanted: list[str] = []
    work = Work()
    other.call_soon_threadsafe(work.may_end.set)
    assert await run_on(other, work.run(), unwanted.append) == "result"
    with pytest.raises(KeyError, match="of the work"):
        await run_on(other, fails(), unwanted.append)
    assert not unwanted


async def begun(
    other: asyncio.AbstractEventLoop, work: Work, unwanted: list[str]
) -> asyncio.Task[str]:
    """A call of work that has begun on the other loop."""
    call = asyncio.create_task(run_on(other, work.run(), unwanted.append))
    await eventually(work.begun.is_set)
    return call


async def test_the_callers_cancellation_reaches_the_work(other: asyncio.AbstractEventLoop) -> None:
    work, unwanted = Work(), list[str]()
    call = await begun(other, work, unwanted)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: work.cancelled)
    assert not unwanted


async def test_a_result_that_crosses_a_cancellation_is_unwanted(
    other: asyncio.AbstractEventLoop,
) -> None:
    work, unwanted = Work(), list[str]()
    call = await begun(other, work, unwanted)
    other.call_soon_threadsafe(work.may_end.set)
    assert work.ended.wait(60)  # this loop stands still: the result waits to be delivered
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: unwanted == ["result"])


async def test_a_result_that_comes_after_a_cancellation_is_unwanted(
    other: asyncio.AbstractEventLoop,
) -> None:
    work, unwanted = Work(stubborn=True), list[str]()
    call = await begun(other, work, unwanted)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: unwanted == ["result"])


async def test_a_closed_loop_is_an_error() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        await run_on(loop, Work().run(), print)


# -- from a thread that blocks


def test_a_blocked_thread_gets_the_result_or_the_error(other: asyncio.AbstractEventLoop) -> None:
    unwanted: list[str] = []
    work = Work()
    other.call_soon_threadsafe(work.may_end.set)
    assert block_on(other, work.run(), unwanted.append) == "result"
    with pytest.raises(KeyError, match="of the work"):
        block_on(other, fails(), unwanted.append)
    assert not unwanted


def test_an_interrupted_thread_gives_the_work_up(
    other: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        assert work.begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(across.concurrent.futures, "wait", interrupted)
    unwanted = threading.Event()
    work = Work(stubborn=True)
    with pytest.raises(KeyboardInterrupt):
        block_on(other, work.run(), lambda _: unwanted.set())
    assert unwanted.wait(60)
    assert work.cancelled


def test_a_blocked_thread_learns_that_the_loop_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across, "LOOK_AGAIN_S", 0.01)
    loop = asyncio.new_event_loop()
    work = Work()
    ended = threading.Timer(0.05, loop.close)  # a loop that never ran answers nobody
    ended.start()
    with pytest.raises(RuntimeError, match="closed before"):
        block_on(loop, work.run(), print)
    with pytest.raises(RuntimeError, match="is closed"):
        block_on(loop, Work().run(), print)
    ended.join()


def test_a_blocked_thread_learns_that_its_work_was_cancelled() -> None:
    async def live() -> None:
        loops.append(asyncio.get_running_loop())
        running.set()
        await asyncio.to_thread(work.begun.wait, 60)

    work, running = Work(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=lambda: asyncio.run(live()))  # ends by cancelling the work
    thread.start()
    assert running.wait(60)
    with pytest.raises(RuntimeError, match="ended before"):
        block_on(loops[0], work.run(), print)
    thread.join()
