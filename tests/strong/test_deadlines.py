"""When a deadline has passed: it counts from the writing, and is checked only after the socket was
read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from crdtbucket.base.clock import now_ns
from crdtbucket.strong.deadlines import LOOKS, Deadlines, PendingRequest
from crdtbucket.strong.redis.command_batch import Batch
from tests.waits import eventually

MS = 1_000_000
HOME: Any = object()
DEADLINE = 2 * MS


def watched(deadline: int = DEADLINE) -> tuple[Deadlines, list[PendingRequest]]:
    overdue: list[PendingRequest] = []

    def give_up(turn: PendingRequest) -> None:
        turn.done = True
        overdue.append(turn)

    return Deadlines(HOME, deadline, give_up), overdue


def turn(*, written: bool = True, ago: int = 0) -> PendingRequest:
    ask: Any = None
    made = PendingRequest(HOME, ask, asyncio.get_running_loop().create_future())
    made.first = made.sent = Batch()
    if written:
        made.first.written_ns = now_ns() - ago
    return made


async def test_a_turn_without_an_answer_is_given_up() -> None:
    turns, overdue = watched()
    first, second = turn(), turn()
    turns.add(first)
    turns.add(second)
    assert len(turns) == 2
    await eventually(lambda: overdue == [first, second])
    assert len(turns) == 0
    assert first.written_ns + DEADLINE <= now_ns()


async def test_a_turn_that_is_not_written_has_no_deadline_yet() -> None:
    turns, overdue = watched()
    waiting, behind = turn(written=False), turn(ago=10 * MS)
    turns.add(waiting)
    for _ in range(5):  # deadlines pass, that of the one behind it among them
        later = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(2 * DEADLINE / 1e9, later.set_result, None)
        await later
    assert (overdue, len(turns)) == ([], 1)
    turns.add(behind)
    assert waiting.first is not None
    waiting.first.written_ns = now_ns()
    await eventually(lambda: overdue == [waiting, behind])


async def test_what_has_come_is_read_before_anything_is_given_up() -> None:
    """The loop was late: deadline and answer are both there, and the timer runs first."""
    turns, overdue = watched()
    one = turn(ago=100 * MS)
    turns.take_over(one)  # as if it had waited for long already
    loop = asyncio.get_running_loop()
    read = loop.create_future()

    def answer() -> None:
        one.done = True
        read.set_result(None)

    loop.call_later(0, answer)  # after the deadline's timer, and before any that this one sets
    await read
    await asyncio.sleep(0.005)
    assert overdue == []
    turns.add(turn(ago=100 * MS))
    await eventually(lambda: len(overdue) == 1)


async def test_while_this_process_is_stopped_no_deadline_passes() -> None:
    """The server may have been stopped with it, and answers only a moment after both go on."""
    turns, overdue = watched(400 * MS)
    one = turn()
    turns.add(one)
    time.sleep(0.5)  # noqa: ASYNC251
    await asyncio.sleep(0.02)
    assert overdue == []
    begin = now_ns()
    await eventually(lambda: overdue == [one])
    assert now_ns() - begin > 100 * MS


async def test_a_loop_that_is_blocked_all_the_time_gives_up_after_some_turns() -> None:
    turns, overdue = watched(10 * MS)
    turns.add(turn())
    for _ in range(2 * LOOKS):
        time.sleep(0.03)  # noqa: ASYNC251
        await asyncio.sleep(0.001)
    assert len(overdue) == 1


async def test_a_request_from_another_server_brings_its_time_along() -> None:
    turns, overdue = watched(60_000 * MS)
    stays = turn(ago=100_000 * MS)
    turns.take_over(stays)
    await eventually(lambda: overdue == [stays])


async def test_who_was_sent_on_to_another_server_is_not_ours() -> None:
    turns, overdue = watched()
    gone, stays = turn(ago=100 * MS), turn(ago=100 * MS)
    turns.add(gone)
    gone.home = object()  # type: ignore[assignment]
    turns.take_over(stays)
    assert len(turns) == 1
    await eventually(lambda: overdue == [stays])
