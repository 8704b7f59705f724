"""A list of processes that has just begun, perhaps because Redis has lost the one before: nobody is
given a share that others still use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdtbucket import BucketSpec, Degradation, Limiter, Mode, RedisConfig
from crdtbucket.base.address import Address
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis import registry as module
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask
from crdtbucket.strong.redis.registry import BEAT_NS, FORGOTTEN_S, GONE_S, SETTLED_S, Registry
from crdtbucket.strong.redis.shares import Division, WantedShare
from tests.strong.redis.test_registry import beat, connection, granted, prefix, table
from tests.strong.redis_server import EAGER, Server
from tests.waits import eventually

__all__ = ["connection"]


@pytest.fixture(autouse=True)
def lists_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are for users; see `tests/conftest.py`."""
    monkeypatch.setattr(module, "SETTLED_S", SETTLED_S)


class Fleet:
    """Processes with one list, each of which wishes for the whole of every limit. Time passes for
    Redis where the times in the list become older."""

    def __init__(self, connection: RedisConnection, size: int) -> None:
        self.connection, self.at = connection, prefix()
        self.members = [self.new() for _ in range(size)]

    def new(self, now: int = 0) -> Registry:
        clock = table()
        clock.set_time(now)
        return Registry(self.at, "n", clock, lambda: WantedShare(1.0))

    @property
    def name(self) -> bytes:
        return b"%snodes" % self.at.encode()

    @property
    def shares(self) -> list[Fraction]:
        return [granted(one, Fraction(1), fleet=False) for one in self.members]

    async def join(self) -> Registry:
        """One more process, which is told its share."""
        self.members.append(self.new(self.members[0]._table.now() if self.members else 0))
        await beat(self.connection, self.members[-1])
        return self.members[-1]

    async def shift(self, seconds: int) -> None:
        """Redis' clock is set forward."""
        flat = await ask(self.connection, "HGETALL", self.name)
        assert isinstance(flat, list)
        for field, text in zip(flat[::2], flat[1::2], strict=True):
            seen, *rest = text.split()
            older = b" ".join((b"%d" % (int(seen) - seconds), *rest))
            await ask(self.connection, "HSET", self.name, field, older)

    async def wait(self, seconds: int) -> None:
        """Redis is out of reach meanwhile."""
        await self.shift(seconds)
        for one in self.members:
            one._table.set_time(one._table.now() + seconds * NS_PER_SECOND)

    async def live(self, seconds: int) -> None:
        """All beat whenever that is due."""
        for _ in range(seconds):
            await self.wait(1)
            for one in self.members:
                if one.due():
                    await beat(self.connection, one)
            assert sum(self.shares) <= 1


@pytest.fixture
async def pair(connection: RedisConnection) -> Fleet:
    """Two processes with a half each, which beat at different times, in a list of long ago."""
    fleet = Fleet(connection, 1)
    await fleet.live(2)
    await fleet.join()
    await fleet.live(20)
    assert fleet.shares == [Fraction(1, 2)] * 2
    await ask(connection, "HSET", fleet.name, "begun", "1 0")
    return fleet


async def lose_the_list(fleet: Fleet) -> None:
    await ask(fleet.connection, "DEL", fleet.name)


LOSSES = {
    "flushed": lose_the_list,
    "out_of_reach": lambda fleet: fleet.wait(GONE_S + 10),
    "out_of_reach_for_hours": lambda fleet: fleet.wait(FORGOTTEN_S + 10),
    "set_forward": lambda fleet: fleet.shift(GONE_S + 60),
    "set_far_forward": lambda fleet: fleet.shift(FORGOTTEN_S + 60),
    "set_back": lambda fleet: fleet.shift(-FORGOTTEN_S - 60),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("first", ["newcomer", "member"])
async def test_while_others_may_be_missing_in_the_list_nobody_gets_a_larger_share(
    pair: Fleet, loss: Callable[[Fleet], Awaitable[object]], first: str
) -> None:
    await loss(pair)
    if first == "member":
        await beat(pair.connection, pair.members[0])
    new = await pair.join()
    assert pair.shares == [Fraction(1, 2), Fraction(1, 2), 0]
    assert new.delay_s <= BEAT_NS / NS_PER_SECOND
    await pair.live(3 * BEAT_NS // NS_PER_SECOND)
    assert pair.shares == [Fraction(1, 3)] * 3


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_who_is_cut_off_when_the_list_is_lost_is_counted_for_a_minute(
    pair: Fleet, loss: Callable[[Fleet], Awaitable[object]]
) -> None:
    cut_off = pair.members.pop()
    await loss(pair)
    for _ in range(2):  # the list is lost again
        await pair.live(GONE_S - 10)
        assert [one.division(1) for one in (*pair.members, cut_off)] == [Division(2, 2)] * 2
        await lose_the_list(pair)
    await pair.live(GONE_S + 10)
    assert pair.members[0].division(1) == Division(1, 1)


async def test_a_fleet_has_its_shares_soon_after_its_first_start(
    connection: RedisConnection,
) -> None:
    fleet = Fleet(connection, 0)
    for _ in range(3):
        one = await fleet.join()
    assert (fleet.shares, one.delay_s) == ([0, 0, 0], BEAT_NS / NS_PER_SECOND)
    await fleet.live(SETTLED_S)
    assert fleet.shares == [0, 0, 0]
    await fleet.live(1)
    assert fleet.shares == [Fraction(1, 3)] * 3


async def test_a_list_that_begins_in_the_future_begins_now(connection: RedisConnection) -> None:
    fleet = Fleet(connection, 0)
    await ask(connection, "HSET", fleet.name, "begun", f"{2**31} 7")
    await fleet.join()
    await fleet.live(SETTLED_S + 1)
    assert fleet.shares == [1]


async def test_nobody_waits_where_a_process_was_seen_or_all_have_left(pair: Fleet) -> None:
    killed = pair.members.pop()
    await pair.live(GONE_S + 10)
    assert pair.shares == [1]
    await pair.members[0].leave(pair.connection)
    pair.members.clear()
    await ask(pair.connection, "HDEL", pair.name, killed._field)
    await pair.join()
    assert pair.shares == [1]


steps = st.tuples(
    st.sampled_from(["live", "live", "join", "leave", "kill", *LOSSES]), st.integers(0, 11)
)


@given(st.lists(steps, max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_the_list_shares_are_never_more_than_the_whole(
    server: Server, story: list[tuple[str, int]]
) -> None:
    """Those of all processes together that reach Redis whenever that is there."""

    async def run() -> None:
        connection = await RedisConnection.open(Address(server.host, server.port), Access(), 5.0)
        fleet = Fleet(connection, 0)
        try:
            for what, number in story:
                if what == "join":
                    await fleet.join()
                elif what == "live":
                    await fleet.live(number)
                elif what in LOSSES:
                    await LOSSES[what](fleet)
                elif fleet.members:
                    one = fleet.members.pop(number % len(fleet.members))
                    if what == "leave":
                        await one.leave(connection)
                assert sum(fleet.shares) <= 1
        finally:
            connection.abort()

    asyncio.run(run())


async def test_an_outage_after_a_flush_grants_the_limit_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """To two processes, of which one has come between the two, and knows nothing of the other."""
    spec = BucketSpec("b", 1_000, 1, "1h", consistency="strong")
    modes = ControllerSettings(**EAGER)  # type: ignore[arg-type]
    with Server() as server:

        def process() -> Limiter:
            how = Degradation(fallback_ratio=1, modes=modes)
            config = RedisConfig(url=server.url, deadline=10.0)
            return Limiter([spec], node="n", redis=config, degradation=how)

        async def granted_by(one: Limiter) -> int:
            bucket = one.bucket("b")
            await eventually(lambda: bucket.mode is Mode.FALLBACK)
            return 100 * sum([(await bucket.acquire("k", 100)).allowed for _ in range(11)])

        server.has_known_processes()
        async with process() as one:
            server.call("FLUSHALL")
            async with process() as other:
                server.kill()
                assert [await granted_by(each) for each in (one, other)] == [1_000, 0]
    assert caplog.text.count("its quotas grant nothing until Redis is reached again") == 1
