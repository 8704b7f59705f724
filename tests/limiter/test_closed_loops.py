"""Event loops that are closed while callers wait on them, or while tokens are given back to
them."""

from __future__ import annotations

import asyncio
import gc

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket.errors import WaitTimeout
from crdtbucket.limiter.waiting import LocalLine, WaitingLine
from crdtbucket.strong.strong_waiting import StoreLine

KEY = "tenant-42"


def test_a_loop_that_is_closed_while_callers_wait_leaves_no_line_and_takes_nothing() -> None:
    """Nobody cancelled them, and the garbage collector ends them at any time later."""
    bucket = Limiter([BucketSpec("api", 2, 1, "1h")]).bucket("api")
    assert bucket.take(KEY, 2)
    loop = asyncio.new_event_loop()
    for _ in range(3):
        task = loop.create_task(bucket.wait(KEY))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.run_until_complete(asyncio.sleep(0))
    assert len(bucket.waiters) == 3
    loop.close()
    del task, loop
    assert not bucket.waiters
    with pytest.raises(WaitTimeout):
        bucket.wait_sync(KEY, timeout=0)

    async def wait_a_moment() -> None:
        with pytest.raises(asyncio.TimeoutError):  # of Python 3.10, no TimeoutError
            await asyncio.wait_for(bucket.wait(KEY), 0.001)

    asyncio.run(wait_a_moment())
    assert not bucket.waiters.lines
    bucket.reset(KEY)
    gc.collect()
    assert bucket.peek(KEY).remaining == 2


class ClosedByNow:
    """An event loop that another thread closes at this moment."""

    def create_future(self) -> None:
        """Of what does not happen here."""

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, *_: object) -> None:
        raise RuntimeError("Event loop is closed")


@pytest.mark.parametrize("strong", [False, True])
def test_tokens_that_come_back_while_a_loop_is_closed_are_no_error(strong: bool) -> None:
    bucket, loop = Limiter([BucketSpec("api", 2, 1, "1h")]).bucket("api"), ClosedByNow()
    line: WaitingLine
    if strong:
        line = StoreLine(bucket.waiters, bucket.hash(KEY), loop)  # type: ignore[arg-type]
    else:
        denial = bucket.peek(KEY)
        line = LocalLine(bucket.waiters, bucket, KEY, denial, loop)  # type: ignore[arg-type]
    line.kick()
