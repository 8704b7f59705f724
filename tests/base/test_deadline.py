"""Deadlines that lose neither a time-out nor a cancellation."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from crdtbucket.base.deadline import first_of, within


async def test_result_and_error_come_through() -> None:
    async def good() -> int:
        return 3

    async def bad() -> int:
        raise ZeroDivisionError

    assert await within(1, good()) == 3
    with pytest.raises(ZeroDivisionError):
        await within(1, bad())


async def slow(ended: list[bool]) -> None:
    """Never returns, and notes that it was cancelled."""
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(True)


async def test_work_that_takes_too_long_is_ended_first() -> None:
    ended: list[bool] = []
    with pytest.raises(asyncio.TimeoutError):
        await within(0.001, slow(ended))
    assert ended == [True]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancellation_in_the_turn_that_ends_the_work_is_not_lost(fails: bool) -> None:
    gate = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await gate
        outer.cancel()  # both in one turn: the work is done, and its caller cancelled
        if fails:
            raise ZeroDivisionError

    outer = asyncio.ensure_future(within(5, work()))
    await asyncio.sleep(0)
    gate.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_a_cancelled_caller_ends_the_work() -> None:
    ended: list[bool] = []
    outer = asyncio.ensure_future(within(5, slow(ended)))
    for _ in range(3):
        await asyncio.sleep(0)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert ended == [True]


async def test_an_error_is_gone_once_nobody_uses_it() -> None:
    class Bad(Exception):
        """Unlike what is built in, it can be referred to weakly."""

    async def bad() -> None:
        raise Bad

    gc.disable()  # it comes rarely
    try:
        try:
            await within(1, bad())
        except Bad as error:
            gone = weakref.ref(error)
        assert gone() is None
    finally:
        gc.enable()


async def test_the_first_that_ends_ends_all_before_they_are_left() -> None:
    ended = []

    async def work(seconds: float, name: str) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.sleep(0)  # what it takes to end is waited for
            ended.append(name)

    await first_of(work(0.0, "first"), work(3600.0, "second"))
    assert ended == ["first", "second"]


async def test_an_error_of_the_first_that_ends_is_raised() -> None:
    async def bad() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await first_of(asyncio.sleep(3600), bad())


async def test_who_is_cancelled_ends_all_works() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(1)

    waiting = asyncio.ensure_future(first_of(work(), work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == [1, 1]
