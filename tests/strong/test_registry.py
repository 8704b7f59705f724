"""How many nodes use one Redis: counted right, and never the end of whoever counts."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from crdtbucket._core import Table
from crdtbucket.strong import registry as module
from crdtbucket.strong import script, topology
from crdtbucket.strong.access import Access
from crdtbucket.strong.address import Address
from crdtbucket.strong.connection import Connection, ask
from crdtbucket.strong.registry import BEAT_NS, FORGOTTEN_S, GONE_S, Registry
from tests.strong.fake_server import Command, fake, friendly
from tests.strong.redis_server import PROGRAMS, Server

NOW = 1_700_000_000
_prefixes = itertools.count()


@pytest.fixture(params=PROGRAMS, scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(program=request.param) as running:
        yield running


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[Connection]:
    opened = await Connection.open(Address(server.host, server.port), Access(), 5.0)
    yield opened
    opened.abort()


def table() -> Table:
    return Table(max_keys=16, virtual=True)


def prefix() -> str:
    return f"p{next(_prefixes)}:"


async def second(connection: Connection) -> int:
    reply = await ask(connection, "TIME")
    assert isinstance(reply, list)
    return int(reply[0])


async def test_nodes_see_each_other(connection: Connection) -> None:
    at = prefix()
    first, other = Registry(at, "a", table()), Registry(at, "b é", table())
    alone = Registry(prefix(), "a", table())
    assert first.nodes == 1
    for one in (first, other, first, alone):
        await one.beat(connection)
    assert (first.nodes, other.nodes, alone.nodes) == (2, 2, 1)


async def test_a_node_is_counted_once_however_often_it_beats(connection: Connection) -> None:
    one = Registry(prefix(), "a", table())
    for _ in range(3):
        await one.beat(connection)
    assert one.nodes == 1


async def test_who_is_silent_is_not_counted_and_then_forgotten(connection: Connection) -> None:
    one = Registry(prefix(), "a", table())
    now = await second(connection)
    ages = {
        "now": 2,
        "away": GONE_S + 30,
        "old": FORGOTTEN_S + 60,
        "ahead": -30,
        "odd": -FORGOTTEN_S - 60,
    }
    for name, age in ages.items():
        await ask(connection, "HSET", one.name, name, str(now - age))
    await ask(connection, "HSET", one.name, "foreign", "x" * 10)
    await one.beat(connection)
    assert one.nodes == 3  # a, now, ahead
    left = await ask(connection, "HKEYS", one.name)
    assert isinstance(left, list)
    assert set(left) == {b"a", b"now", b"away", b"ahead", b"foreign"}


async def test_a_beat_is_due_every_five_seconds(connection: Connection) -> None:
    clock = table()
    one = Registry(prefix(), "a", clock)
    assert one.due()
    await one.beat(connection)
    clock.set_time(BEAT_NS - 1)
    assert not one.due()
    clock.set_time(BEAT_NS)
    assert one.due()


BULKS = b"*2\r\n$10\r\n%d\r\n$1\r\n0\r\n" % NOW
WRONG = {
    "time_is_empty": {b"TIME": b"*0\r\n"},
    "time_is_null": {b"TIME": b"*-1\r\n"},
    "time_is_a_number": {b"TIME": b":1700000000\r\n"},
    "time_is_no_number": {b"TIME": b"*2\r\n$2\r\nxx\r\n$1\r\n0\r\n"},
    "time_is_negative": {b"TIME": b"*2\r\n$2\r\n-1\r\n$1\r\n0\r\n"},
    "time_without_end": {b"TIME": b"*1\r\n$5000\r\n" + b"9" * 5000 + b"\r\n"},
    "time_of_numbers": {b"TIME": b"*2\r\n:1\r\n:2\r\n"},
    "time_nested": {b"TIME": b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"},
    "time_is_refused": {b"TIME": b"-LOADING it loads\r\n"},
    "replica": {b"HSET": b"-READONLY no\r\n"},
    "odd": {b"HGETALL": b"*1\r\n$1\r\na\r\n"},
    "not_a_hash": {b"HGETALL": b"-WRONGTYPE no\r\n"},
    "null": {b"HGETALL": b"$-1\r\n"},
    "value_is_null": {b"HGETALL": b"*2\r\n$1\r\na\r\n$-1\r\n"},
    "garbage": {b"TIME": b"\x00\x01\r\n"},
    "more_than_asked": {b"TIME": BULKS * 2},
    "silent": {b"TIME": b""},
    "silent_later": {b"HGETALL": b""},
}  # fmt: skip


@pytest.mark.parametrize("answers", WRONG.values(), ids=WRONG)
async def test_a_wrong_answer_is_logged_and_the_count_stays(
    answers: dict[bytes, bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.strong")
    good = {b"TIME": BULKS, b"HSET": b":1\r\n", b"HGETALL": b"*0\r\n"}

    def answer(command: Command) -> bytes:
        return {**good, **answers}[command[0]] if command[0] in good else friendly(command)

    one = Registry("p:", "a", table())
    one.nodes = 7
    monkeypatch.setattr(module, "PATIENCE_S", 0.05 if b"" in answers.values() else 5.0)
    async with fake(answer) as server:
        connection = await Connection.open(server.address, Access(), 5.0)
        await one.beat(connection)
        connection.abort()
    assert one.nodes == 7
    assert "nodes were not counted" in caplog.text
    assert not one.due()


async def test_values_that_are_no_second_are_not_counted() -> None:
    fields = [b"a", b"%d" % NOW, b"b", b"9" * 5000, b"c", b"-5", b"d", b"", b"e", b"1.5"]
    hash_ = b"*%d\r\n" % len(fields) + b"".join(b"$%d\r\n%b\r\n" % (len(f), f) for f in fields)
    answers = {b"TIME": BULKS, b"HSET": b":1\r\n", b"HGETALL": hash_}
    one = Registry("p:", "a", table())
    async with fake(lambda command: answers.get(command[0]) or friendly(command)) as server:
        connection = await Connection.open(server.address, Access(), 5.0)
        await one.beat(connection)
        connection.abort()
    assert one.nodes == 1
    assert [c[0] for c in server.commands if c[0] == b"HDEL"] == []


async def test_a_connection_that_is_gone_ends_nothing() -> None:
    one = Registry("p:", "a", table())
    async with fake() as server:
        connection = await Connection.open(server.address, Access(), 5.0)
        connection.abort()
        await one.beat(connection)
    assert one.nodes == 1


async def test_a_cancelled_beat_is_cancelled() -> None:
    async with fake(lambda c: b"" if c[0] == b"TIME" else friendly(c)) as server:
        connection = await Connection.open(server.address, Access(), 5.0)
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
