"""The latency of an answer when the event loop was late, at times that a test sets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from crdtbucket.base.address import Address
from crdtbucket.strong.redis import lateness, redis_connection
from crdtbucket.strong.redis.lateness import (
    MOST_NS,
    PERIOD_NS,
    TOLERATED_NS,
    Lateness,
    Newest,
    lateness_of,
)
from crdtbucket.strong.redis.redis_connection import RedisConnection
from tests.waits import eventually

MS = 1_000_000


class Wire(asyncio.Transport):
    """A socket that takes everything; a test says how old its newest bytes are."""

    def write(self, data: Any) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        pass


class Aged:
    """Stands for what the system reports of a socket."""

    def __init__(self, ns: int | None) -> None:
        self.ns = ns

    def age_ns(self) -> int | None:
        return self.ns

    def close(self) -> None:
        pass


class VirtualClock:
    """Stands still until a test moves it."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance_ns(self, ns: int) -> None:
        self.now += ns


class Timers:
    """A loop whose timers only a test calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call_later(self, delay: float, call: Any) -> None:
        self.calls.append(call)

    def tick(self) -> None:
        self.calls.pop(0)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    made = VirtualClock(10**12)
    monkeypatch.setattr(lateness, "now_ns", made)
    monkeypatch.setattr(redis_connection, "now_ns", made)
    return made


def measured() -> tuple[Lateness, Timers]:
    timers = Timers()
    return Lateness(timers), timers  # type: ignore[arg-type]


def test_a_loop_on_time_is_not_late(clock: VirtualClock) -> None:
    late, timers = measured()
    late.begin(clock())
    for _ in range(100):
        clock.advance_ns(PERIOD_NS + TOLERATED_NS)
        assert late.total(clock()) == 0
        timers.tick()
    assert late.total(clock()) == 0


def test_a_block_counts_while_it_lasts_and_after(clock: VirtualClock) -> None:
    late, timers = measured()
    late.begin(clock())
    clock.advance_ns(PERIOD_NS + 30 * MS)
    assert late.total(clock()) == 30 * MS
    timers.tick()
    assert late.total(clock()) == 30 * MS
    clock.advance_ns(PERIOD_NS + 5 * MS)
    assert late.total(clock()) == 35 * MS


def test_of_a_stop_only_its_beginning_counts_towards_a_silence(clock: VirtualClock) -> None:
    late, timers = measured()
    late.begin(clock())
    for _ in range(2):
        clock.advance_ns(MOST_NS)
        assert late.stopped() == 0
        timers.tick()
    clock.advance_ns(MOST_NS + 600 * MS)
    assert late.stopped() == 600 * MS
    timers.tick()
    assert late.stopped() == 600 * MS
    clock.advance_ns(MOST_NS + 30 * MS)
    assert late.stopped() == 630 * MS


def test_no_timer_runs_while_nobody_waits(clock: VirtualClock) -> None:
    late, timers = measured()
    late.begin(clock())
    late.begin(clock())
    late.end()
    clock.advance_ns(PERIOD_NS)
    timers.tick()
    late.end()
    clock.advance_ns(PERIOD_NS)
    timers.tick()
    assert timers.calls == []
    clock.advance_ns(1_000 * MS)
    assert late.total(clock()) == 0
    late.begin(clock())
    assert len(timers.calls) == 1


async def answered_after(clock: VirtualClock, waited: int, *, late: int, age: int | None) -> int:
    """The latency of a call that is read after `waited` ns, of which the loop was late for
    `late`, when the socket's newest bytes are `age` ns old."""
    one = RedisConnection(Address("test", 1))
    one.connection_made(Wire())
    one._newest = Aged(age)  # type: ignore[assignment]
    timers = Timers()
    one._lateness = Lateness(timers)  # type: ignore[arg-type]
    batch = one.send(b"1", lambda reply: None)
    left = waited
    while left > late + PERIOD_NS:
        clock.advance_ns(PERIOD_NS)
        left -= PERIOD_NS
        timers.tick()
    clock.advance_ns(left)
    one.data_received(b":1\r\n")
    return batch.latency_ns


@pytest.mark.parametrize("age", [None, 98 * MS, 100 * MS])
async def test_what_lay_unread_is_not_the_servers_latency(
    clock: VirtualClock, age: int | None
) -> None:
    assert await answered_after(clock, 100 * MS, late=98 * MS, age=age) <= 2 * MS


@pytest.mark.parametrize("real", [25 * MS, 60 * MS])
async def test_a_slow_server_is_seen_behind_a_late_loop(clock: VirtualClock, real: int) -> None:
    """The loop was blocked all the time, and the answer came only just before it was read."""
    read = real + 4 * MS
    assert await answered_after(clock, read, late=read - PERIOD_NS, age=4 * MS) == real


async def test_a_slow_server_is_seen_where_the_system_tells_no_ages(clock: VirtualClock) -> None:
    assert await answered_after(clock, 60 * MS, late=30 * MS, age=None) == 30 * MS


async def test_a_loop_on_time_takes_nothing_off(clock: VirtualClock) -> None:
    """The age of the newest bytes is coarse, and means nothing then."""
    assert await answered_after(clock, 25 * MS, late=0, age=4 * MS) == 25 * MS


async def test_a_loop_has_one_measure() -> None:
    loop = asyncio.get_running_loop()
    assert lateness_of(loop) is lateness_of(loop)


async def test_the_age_of_real_bytes() -> None:
    """As old as they are, or unknown."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        other, _ = listener.accept()
        with other:
            newest = Newest(writer.get_extra_info("socket"))
            other.sendall(b"x")
            assert await reader.readexactly(1) == b"x"
            age = newest.age_ns()
            if age is not None:
                await eventually(lambda: (newest.age_ns() or 0) >= age + 40 * MS)
            newest.close()
            assert newest.age_ns() is None
        writer.close()
