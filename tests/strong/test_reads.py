"""Reads that bring many replies at once, or no whole one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from crdtbucket import BucketSpec, Decision, Mode
from crdtbucket._core import BucketReplica
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.strong.controller.outage import Failure
from crdtbucket.strong.dispatcher import Dispatcher
from crdtbucket.strong.endpoint import Endpoint
from crdtbucket.strong.redis import script
from crdtbucket.strong.window import START
from tests.strong.fake_server import Command, FakeServer, fake
from tests.strong.test_strong_bucket import endpoint, opened
from tests.waits import eventually

WIDE = BucketSpec("b", 10**7, 1, "1s")
MODES = {
    "latency_limit": 50.0,  # no read is slow, however busy the machine is
    "latency_window": 60.0,
    "outage_after": 55.0,
    "stable_after": 1.0,
    "stable_after_failover": 1.0,
}
DEADLINE_S = 10.0


class HeldServer:
    """A Redis whose answers to the script wait for `release`."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.holds = False
        self.first = b""
        """Bytes before the next answer to the script that are no answer to it."""
        self.fake: FakeServer
        self.endpoint: Endpoint

    def answer(self, command: Command) -> bytes:
        word = command[0].upper()
        if word == b"PING":
            return b"+PONG\r\n"
        if word == b"SCRIPT":
            return b"$%d\r\n%b\r\n" % (len(script.SHA), script.SHA.encode())
        if word == b"INFO":
            text = b"redis_version:7.2.0\r\nrun_id:a\r\nrole:master\r\n"
            return b"$%d\r\n%b\r\n" % (len(text), text)
        if word != b"EVALSHA" or len(command) < 18:
            return b"+OK\r\n"
        taken, refunded = int(command[13]) + int(command[9]), int(command[14])
        reply = b"*5\r\n:1\r\n:0\r\n:0\r\n:%d\r\n:%d\r\n" % (taken, refunded)
        if not self.holds:
            first, self.first = self.first, b""
            return first + reply
        self.held.append(reply)
        return b""

    def write(self, data: bytes) -> None:
        (client,) = self.fake.clients
        client.write(data)

    def release(self) -> None:
        """All answers that are held, in one write."""
        data = b"".join(self.held)
        self.held.clear()
        self.write(data)

    async def holding(self, count: int) -> None:
        """Returns when so many answers are held."""
        await eventually(lambda: len(self.held) >= count)


@contextlib.asynccontextmanager
async def held(
    deadline: float = DEADLINE_S,
) -> AsyncIterator[tuple[HeldServer, Bucket, Dispatcher]]:
    server = HeldServer()
    async with (
        fake(server.answer) as server.fake,
        opened(
            f"redis://127.0.0.1:{server.fake.address.port}/0", WIDE, deadline=deadline, modes=MODES
        ) as limiter,
    ):
        bucket = limiter.bucket("b")
        await bucket.acquire("first")
        server.holds = True
        server.endpoint = await endpoint(limiter)
        yield server, bucket, server.endpoint.dispatcher
        server.holds = False
        if server.held:
            server.release()


async def test_what_was_sent_during_a_read_begins_a_silence() -> None:
    """The answers of the read end the one before."""
    async with held() as (server, bucket, dispatcher):
        asked = [asyncio.create_task(bucket.acquire(f"k{i}")) for i in range(3 * START)]
        await server.holding(START)
        server.release()
        await server.holding(START)
        assert sum(task.done() for task in asked) == START
        assert dispatcher.health.controller.next_tick(0), "nothing would tell of a server that died"
        server.holds = False
        server.release()
        await asyncio.gather(*asked)


async def test_the_window_grows_though_every_read_admits_all_who_wait() -> None:
    async with held() as (server, bucket, _):
        callers = START * 3 // 2

        async def ask(name: str) -> list[Decision]:
            return [await bucket.acquire(name) for _ in range(4)]

        asked = [asyncio.create_task(ask(f"k{i}")) for i in range(callers)]
        await server.holding(START)
        server.release()
        await server.holding(START)
        server.release()
        # A window of answers came while others waited, so that more fit.
        await server.holding(START + 1)
        server.holds = False
        server.release()
        each = await asyncio.gather(*asked)
        assert {decision.mode for decided in each for decision in decided} == {Mode.STRONG}


async def test_what_is_no_answer_ends_the_connection_before_others_get_one_that_is_not_theirs() -> (
    None
):
    async with held() as (server, bucket, dispatcher):
        asked = [asyncio.create_task(bucket.acquire(*each)) for each in (("a", 5), ("b", 1))]
        await server.holding(2)
        server.holds = False
        server.held.insert(0, b"+OK\r\n")
        server.release()
        await asyncio.gather(*asked)
        await eventually(dispatcher.usable)
        server.first = b"+OK\r\n"  # to a thread, which has a connection of its own
        await asyncio.to_thread(lambda: (bucket.acquire_sync("c", 5), bucket.acquire_sync("d", 1)))
        for key, cost in (("b", 1), ("d", 1)):
            own = BucketReplica(bucket).own(*bucket.hash(key))
            assert own is None or own[1] <= cost


async def test_half_a_reply_is_no_answer_for_those_who_wait_for_room() -> None:
    async with held(deadline=0.1) as (server, bucket, dispatcher):
        asked = [asyncio.create_task(bucket.acquire(f"k{i}")) for i in range(2 * START)]
        await server.holding(START)
        server.held.clear()
        server.write(b"$1000\r\n")
        for _ in range(100):  # of 20 ms or more: many deadlines
            server.write(b"a")
            await asyncio.sleep(0.02)
        assert all(task.done() for task in asked)
        assert dispatcher.health.mode is Mode.STRONG


async def test_a_probe_that_fails_after_good_answers_of_one_read_has_failed() -> None:
    async with held() as (server, bucket, dispatcher):
        asked = asyncio.create_task(bucket.acquire("k"))
        await server.holding(1)
        supervisor = server.endpoint.supervisor
        probe = asyncio.create_task(supervisor._send_probe())
        await server.holding(2)
        server.held[1] = b"-LOADING Redis is loading the dataset in memory\r\n"
        server.release()
        assert await asked
        assert not await probe
        assert dispatcher.health.controller._outage._last_failure is Failure.LOADING
