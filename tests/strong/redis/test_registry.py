"""The number of nodes that use one Redis: it is counted right, and a failure to count ends
nothing."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdtbucket._core import Table
from crdtbucket.base.address import Address
from crdtbucket.base.hashing import key_of
from crdtbucket.strong.redis import registry as module
from crdtbucket.strong.redis import script, topology
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection, ask
from crdtbucket.strong.redis.registry import BEAT_NS, FORGOTTEN_S, GONE_S, Registry
from crdtbucket.strong.redis.shares import NOTHING, Division, WantedShare
from tests.strong.fake_server import fake, friendly
from tests.strong.redis_server import Server

_prefixes = itertools.count()


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[RedisConnection]:
    opened = await RedisConnection.open(Address(server.host, server.port), Access(), 5.0)
    yield opened
    opened.abort()


def table() -> Table:
    return Table(max_keys=16, virtual=True)


def prefix() -> str:
    return f"p{next(_prefixes)}:"


async def second(connection: RedisConnection) -> int:
    reply = await ask(connection, "TIME")
    assert isinstance(reply, list)
    return int(reply[0])


async def beat(connection: RedisConnection, *several: Registry) -> None:
    for one in several:
        assert await one.beat(connection)


async def fields(connection: RedisConnection, one: Registry) -> set[bytes]:
    """The fields of processes, and others that do not belong there."""
    found = await ask(connection, "HKEYS", one.name)
    assert isinstance(found, list)
    return set(found) - {b"begun"}


async def test_processes_see_each_other(connection: RedisConnection) -> None:
    at = prefix()
    first, other = Registry(at, "a", table()), Registry(at, "b é", table())
    alone = Registry(prefix(), "a", table())
    assert (first.processes, first.seen) == (1, False)
    await beat(connection, first, other, first, alone)
    assert (first.processes, other.processes, alone.processes) == (2, 2, 1)
    assert first.seen


async def test_twelve_processes_of_one_name_are_twelve(connection: RedisConnection) -> None:
    at = prefix()
    several = [Registry(at, "web", table()) for _ in range(12)]
    await beat(connection, *several)
    await beat(connection, *several)
    assert {one.processes for one in several} == {12}


async def test_a_process_is_counted_once_however_often_it_beats(
    connection: RedisConnection,
) -> None:
    one = Registry(prefix(), "a", table())
    await beat(connection, one, one, one)
    assert one.processes == 1


async def test_an_epoch_that_is_over_is_not_counted(connection: RedisConnection) -> None:
    clock = table()
    one = Registry(prefix(), "a", clock)
    await beat(connection, one)
    clock.epochs.open(4711)
    await beat(connection, one)
    assert one.processes == 1


async def test_who_leaves_is_not_counted(connection: RedisConnection) -> None:
    at = prefix()
    one, other = Registry(at, "a", table()), Registry(at, "b", table())
    await beat(connection, one, other)
    await other.leave(connection)
    await beat(connection, one)
    assert one.processes == 1
    assert one.division(1).nodes == 1


async def test_who_is_silent_is_not_counted_and_then_forgotten(connection: RedisConnection) -> None:
    one = Registry(prefix(), "a", table())
    now = await second(connection)
    ages = {
        "1:now": 2,
        "2:away": GONE_S + 30,
        "3:old": FORGOTTEN_S + 60,
        "4:ahead": -30,
        "5:odd": -FORGOTTEN_S - 60,
    }
    for name, age in ages.items():
        text = f"{now - age} 1000 {one._print} 1 {age + 9999:x}"
        await ask(connection, "HSET", one.name, name, text)
    for name, text in {"foreign": "x" * 10, "long": "9" * 500, "older": str(now)}.items():
        await ask(connection, "HSET", one.name, name, text)
    await beat(connection, one)
    assert one.processes == 3  # its own, now, ahead
    left = await fields(connection, one) - {one._field}
    assert left == {b"1:now", b"2:away", b"4:ahead", b"foreign", b"long", b"older"}


async def test_a_beat_is_due_every_five_seconds(connection: RedisConnection) -> None:
    clock = table()
    one = Registry(prefix(), "a", clock)
    assert one.due()
    await one.beat(connection)
    clock.set_time(BEAT_NS - 1)
    assert not one.due()
    assert one.delay_s == pytest.approx(1e-9)
    clock.set_time(BEAT_NS)
    assert one.due()
    assert one.delay_s == 0


# ---- shares ----


def granted(one: Registry, ratio: Fraction, *, fleet: bool) -> Fraction:
    """The share of every limit that a process grants, by the rule of the quota."""
    nodes = one.division(1).nodes
    if nodes == NOTHING:  # the price of one token is more than any bucket holds
        return Fraction(0)
    return ratio / nodes if fleet else min(ratio, Fraction(1, nodes))


wishes = st.builds(
    WantedShare,
    st.sampled_from([0.1, 0.15, 0.3, 1.0, 0.001]),
    st.booleans(),
    st.sampled_from([1, 1, 3, 40]),
)


@given(
    st.lists(wishes, min_size=1, max_size=14),
    st.lists(
        st.tuples(st.integers(0, 13), st.sampled_from(["beat", "beat", "lost", "leave", "reload"])),
        max_size=60,
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_shares_together_are_never_more_than_the_whole(
    server: Server, asked: list[WantedShare], ops: list[tuple[int, str]]
) -> None:
    """This holds at any moment, whatever answers are lost and settings are reloaded; it counts all
    that ever came and have not left."""

    async def run() -> None:
        connection = await RedisConnection.open(Address(server.host, server.port), Access(), 5.0)
        at, several, wishes = prefix(), [], list(asked)
        for number in range(len(asked)):
            wish = partial(wishes.__getitem__, number)
            several.append(Registry(at, f"n{number}", table(), wish))
        there: set[int] = set()
        try:
            for place, what in ops:
                number = place % len(several)
                one = several[number]
                if what == "leave":
                    await one.leave(connection)
                    several[number] = Registry(at, f"n{number}", table(), one._wish)
                    there.discard(number)
                    continue
                if what == "reload":
                    wishes[number] = asked[(asked.index(wishes[number]) + 1) % len(asked)]
                elif what == "beat":
                    await beat(connection, one)
                    there.add(number)
                else:
                    await lose_the_answer(connection, one)
                shares = [
                    granted(several[i], Fraction(str(wishes[i].ratio)), fleet=wishes[i].fleet)
                    for i in there
                ]
                assert sum(shares) <= 1
        finally:
            connection.abort()

    asyncio.run(run())


async def lose_the_answer(connection: RedisConnection, one: Registry) -> None:
    """The script runs, and its answer is lost."""
    before = dict(vars(one))
    await beat(connection, one)
    vars(one).update(
        {name: before[name] for name in ("_granted", "here", "seen", "_shown", "_answered_at")}
    )


async def test_a_share_is_given_up_when_peers_know_of_the_change_and_not_before(
    connection: RedisConnection,
) -> None:
    at = prefix()
    one, other = (Registry(at, name, table(), lambda: WantedShare(1.0)) for name in ("a", "b"))
    await beat(connection, one, other)
    await lose_the_answer(connection, one)  # it goes on with all
    await beat(connection, other)
    assert (one.division(1).nodes, other.division(1).nodes) == (1, NOTHING)


async def test_shares_are_even_once_all_know_of_each_other(
    connection: RedisConnection,
) -> None:
    at = prefix()
    several = [Registry(at, "web", table(), lambda: WantedShare(0.1)) for _ in range(12)]
    await beat(connection, *several)
    assert [one.division(1).nodes for one in several[10:]] == [NOTHING, NOTHING]
    for _ in range(3):
        await beat(connection, *several)
    assert {one.division(1).nodes for one in several} == {12}


async def test_an_epoch_that_ends_frees_its_share_for_the_next_one_alone(
    connection: RedisConnection,
) -> None:
    at, clock = prefix(), table()
    one = Registry(at, "a", clock, lambda: WantedShare(1.0))
    await beat(connection, one)
    clock.epochs.open(4711)
    await beat(connection, one)
    assert one.division(1) == Division(1, 1)
    clock.epochs.open(4713)
    await lose_the_answer(connection, one)
    await beat(connection, one)
    assert one.division(1) == Division(1, 1)
    assert await fields(connection, one) == {one._field}


@pytest.mark.parametrize("fleet", [False, True])
async def test_a_share_that_is_raised_without_redis_waits_for_redis(
    connection: RedisConnection, fleet: bool
) -> None:
    """The first one does not know of the other one yet, which came after its beat."""
    at, ratio = prefix(), 0.1
    one, other = (
        Registry(at, name, table(), lambda: WantedShare(ratio, fleet)) for name in ("a", "b")
    )

    def together() -> Fraction:
        return sum(
            (granted(each, Fraction(str(ratio)), fleet=fleet) for each in (one, other)), Fraction(0)
        )

    await beat(connection, one, other)
    before = together()
    ratio = 1.0
    assert together() <= min(1, before + Fraction(1, 10**6))
    for _ in range(3):
        await beat(connection, one, other)
    assert together() == 1
    ratio = 0.01
    assert together() <= Fraction(2, 100)


async def test_processes_that_share_their_quotas_are_one(connection: RedisConnection) -> None:
    at = prefix()
    hosts = [
        [
            Registry(at, "web", table(), lambda host=host: WantedShare(1.0, group=host))
            for _ in range(4)
        ]
        for host in (17, 18)
    ]
    several = [one for host in hosts for one in host]
    for _ in range(3):
        await beat(connection, *several)
    assert {(one.processes, one.division(1).nodes) for one in several} == {(2, 2)}
    for one in hosts[1]:
        await one.leave(connection)
    for _ in range(2):
        await beat(connection, *hosts[0])
    assert {one.division(1).nodes for one in hosts[0]} == {1}


async def test_who_gives_up_a_share_writes_that_at_once(connection: RedisConnection) -> None:
    at = prefix()
    one, other = (Registry(at, name, table(), lambda: WantedShare(1.0)) for name in ("a", "b"))
    await beat(connection, one)
    assert not one.due()
    await beat(connection, other)
    assert other.division(1).nodes == NOTHING
    await beat(connection, one)
    assert one.division(1).nodes == 2
    assert one.due()
    await beat(connection, one, other)
    assert not one.due()
    assert (one.division(1).nodes, other.division(1).nodes) == (2, 2)


@pytest.mark.parametrize("fleet", [False, True])
async def test_as_many_are_reckoned_with_as_are_expected(
    connection: RedisConnection, fleet: bool
) -> None:
    one = Registry(prefix(), "a", table(), lambda: WantedShare(0.5, fleet, 20))
    assert one.division(1).nodes == 20  # before Redis was ever met
    assert one.division(30).nodes == 30
    await beat(connection, one)
    assert one.processes == 1
    assert (one.division(1).nodes, one.division(30).nodes) == (20, 30)


# ---- processes that hash otherwise ----


def hashing(secret: bytes) -> Table:
    return Table(max_keys=16, virtual=True, hash_key=key_of(secret))


async def test_who_hashes_otherwise_than_a_process_that_is_served_is_refused(
    connection: RedisConnection,
) -> None:
    at = prefix()
    first, same = Registry(at, "a", hashing(b"one")), Registry(at, "b", hashing(b"one"))
    other = Registry(at, "c", hashing(b"two"))
    await beat(connection, first, other, first, other)
    for word in ("a'", first._print, other._print, "redis.hash_secret", "mesh.hash_secret"):
        assert word in other.conflict
    await beat(connection, same)  # one that is refused itself refuses nobody
    assert (first.conflict, same.conflict) == ("", "")
    await first.leave(connection)
    await beat(connection, other)
    assert "b'" in other.conflict
    await same.leave(connection)
    await beat(connection, other, first)
    assert other.conflict == ""
    assert "c'" in first.conflict


async def test_a_process_that_was_silent_for_a_minute_refuses_nobody(
    connection: RedisConnection,
) -> None:
    one = Registry(prefix(), "a", hashing(b"one"))
    now = await second(connection)
    gone = f"{now - GONE_S - 9} 0 {'0' * 16} 1 a"
    await ask(connection, "HSET", one.name, "1:b", gone)
    await beat(connection, one)
    assert one.conflict == ""


# ---- what is no answer ----


def answered(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(part + b"\r\n" for part in parts)


EMPTY = b"$0\r\n"
WRONG = {
    "empty": b"*0\r\n",
    "null": b"*-1\r\n",
    "a_number": b":1\r\n",
    "short": answered(b":1", b":1", EMPTY, EMPTY),
    "long": answered(b":1", b":1", EMPTY, EMPTY, b":0", b":0"),
    "no_processes": answered(b":0", b":1", EMPTY, EMPTY, b":0"),
    "more_than_the_whole": answered(b":1", b":1000000001", EMPTY, EMPTY, b":0"),
    "negative_share": answered(b":1", b":-1", EMPTY, EMPTY, b":0"),
    "text_for_a_number": answered(b"$1\r\n1", b":1", EMPTY, EMPTY, b":0"),
    "number_for_a_text": answered(b":1", b":1", b":1", EMPTY, b":0"),
    "text_for_the_last": answered(b":1", b":1", EMPTY, EMPTY, EMPTY),
    "null_for_a_text": answered(b":1", b":1", b"$-1", EMPTY, b":0"),
    "long_text": answered(b":1", b":1", b"$1025\r\n" + b"x" * 1025, EMPTY, b":0"),
    "loading": b"-LOADING it loads\r\n",
    "replica": b"-READONLY no\r\n",
    "garbage": b"\x00\x01\r\n",
    "silent": b"",
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_wrong_answer_is_logged_and_the_count_stays(
    wrong: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.strong")
    one = Registry("p:", "a", table())
    one.here = 7
    monkeypatch.setattr(module, "PATIENCE_S", 5.0 if wrong else 0.05)
    async with fake(lambda c: wrong if c[0] == b"EVAL" else friendly(c)) as server:
        connection = await RedisConnection.open(server.address, Access(), 5.0)
        assert not await one.beat(connection)
        connection.abort()
    assert (one.processes, one.seen, one.conflict) == (7, False, "")
    assert "nodes were not counted" in caplog.text
    assert not one.due()


async def test_a_connection_that_is_gone_ends_nothing() -> None:
    one = Registry("p:", "a", table())
    async with fake() as server:
        connection = await RedisConnection.open(server.address, Access(), 5.0)
        connection.abort()
        await one.beat(connection)
        await one.leave(connection)
    assert one.processes == 1


async def test_a_cancelled_beat_is_cancelled() -> None:
    async with fake(lambda c: b"" if c[0] == b"EVAL" else friendly(c)) as server:
        connection = await RedisConnection.open(server.address, Access(), 5.0)
        beating = asyncio.create_task(Registry("p:", "a", table()).beat(connection))
        await asyncio.sleep(0)
        beating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beating
        connection.abort()


@pytest.mark.parametrize(
    "ranges", [((0, 16_383),), ((0, 9), (16_000, 16_001)), ((12_345, 12_345),)]
)
def test_the_probe_is_a_key_of_this_nodes_own_in_the_slots(
    ranges: tuple[tuple[int, int], ...],
) -> None:
    calls = [Registry("p:", name, table()).probe(ranges)[1] for name in ("a", "b")]
    assert calls[0].key != calls[1].key
    for call in calls:
        assert any(first <= topology.slot(call.key) <= last for first, last in ranges)
        assert script.read_owner(call.owner)[1] in ("a", "b")
