"""Calls of the script for a replicated Redis as bytes, and what a region's key holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction

import hiredis
import pytest

from crdtbucket.errors import ConfigError, InvalidSpec, RedisReplyError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.redis_config import RedisConfig
from crdtbucket.strong.redis.regions import MOST_REGIONS, Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments, read_entry
from crdtbucket.strong.redis.script import Column, ScriptCall, ScriptStatus, owner_name
from tests.strong.backends import REPLACED, Line
from tests.strong.redis_server import PROGRAMS, Server

SPEC = BucketSpec("b", 10, 10, max_debt=10)
A, B = owner_name(1, "a"), owner_name(2, "b")
KEY = b"crdtbucket:{b:0}"
HERE = ReplicatedArguments(SPEC, 10, Regions("eu", ("eu", "us")), retention_ms=1_000)
THERE = ReplicatedArguments(SPEC, 10, Regions("us", ("eu", "us")), retention_ms=1_000)


@pytest.fixture(scope="module", params=PROGRAMS)
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    with Server(program=request.param) as server, contextlib.closing(Line(server)) as one:
        yield one


def words(command: bytes) -> list[bytes]:
    reader = hiredis.Reader()
    reader.feed(command)
    read: list[bytes] = reader.gets()
    return read


def test_the_words_of_a_plain_call() -> None:
    call = ScriptCall(KEY, 3, A, 4, 5, 6, 7, 8_000_000_009)
    name, script, *rest = words(HERE.command(call))
    assert (name, script) == (b"EVALSHA", HERE.script.sha.encode())
    assert rest[:3] == [b"2", KEY + b"@eu", KEY + b"@us"]
    assert [int(word) for word in rest[3:8]] == [10, 10, 100_000_000, 1, 1_000]
    assert rest[8:10] == [b"3", A]
    assert [int(word) for word in rest[10:17]] == [4, 5, 6, 7, 8, 9, 0]
    assert rest[17:] == [b"eu", b"900000000", b"4503599627870496 0 0 0"]
    name, source, *same = words(HERE.command(call, source=True))
    assert (name, source, same) == (b"EVAL", HERE.script.source.encode(), rest)


def test_the_words_of_a_whole_call() -> None:
    others = (Column(B, 1, 2, 3, b"us"), Column(A, 4, 5, 6))
    call = ScriptCall(KEY, 0, A, 1, 1, 0, 0, 0, others, beats=b"$1\r\n7\r\n")
    rest = words(HERE.command(call))[-12:]
    assert rest[:2] == [b"900000000", b"7"]
    assert rest[2:] == [
        *(B, b"%010d" % 1, b"%016d" % 2, b"%016d" % 3, b"us"),
        *(A, b"%010d" % 4, b"%016d" % 5, b"%016d" % 6, b"-"),
    ]


@pytest.mark.parametrize(
    ("own", "names", "where"),
    [
        ("eu", ["us", "asia"], "region"),
        ("eu", ["eu", "us", "us"], "regions"),
        ("eu", ["eu", "u s"], "regions"),
        ("eu", ["eu", ""], "regions"),
        ("eu", ["eu", "-"], "regions"),
        ("eu", ["eu", "x" * 33], "regions"),
        ("r0", [f"r{i}" for i in range(MOST_REGIONS + 1)], "regions"),
    ],
)
def test_wrong_names_of_regions_are_refused(own: str, names: list[str], where: str) -> None:
    kind = InvalidSpec if where == "region" else ConfigError
    with pytest.raises(kind) as caught:
        Regions(own, RedisConfig(host="h", active_active=True, regions=names).regions)
    assert where in str(caught.value)


def test_a_key_has_a_name_in_each_region_its_own_first() -> None:
    regions = Regions("eu", ["us", "eu", "asia"])
    assert regions.key(KEY) == KEY + b"@eu"
    assert regions.keys(KEY) == (KEY + b"@eu", KEY + b"@us", KEY + b"@asia")
    here, there = Regions("eu", ["eu", "us"]), Regions("us", ["us", "eu"])
    assert here.keys(KEY) == Regions("eu", ["us", "eu"]).keys(KEY)
    assert here.keys(KEY) != there.keys(KEY)


def test_two_regions_charge_each_other(line: Line) -> None:
    """On one server, which has both keys at once."""
    line.ask("FLUSHALL")

    def run(arguments: ReplicatedArguments, owner: bytes, cost: int, taken: int = 0):
        call = ScriptCall(KEY, cost, owner, 1, 1, taken, 0, 0)
        (reply,) = line.talk(arguments.command(call, source=True))
        return arguments.parse(reply)

    assert run(HERE, A, 4).status is ScriptStatus.ALLOWED
    assert run(THERE, B, 6).status is ScriptStatus.ALLOWED
    denied = run(THERE, B, 10, 6)
    assert denied.status is ScriptStatus.DENIED
    assert denied.debt_ns > 500_000_000
    flat = line.ask("HGETALL", KEY + b"@us")
    held = read_entry(dict(zip(flat[::2], flat[1::2], strict=True)))
    assert held is not None
    assert held.emission == Fraction(100_000_000)
    assert held.records == {A: Column(A, 1, 4, 0, b"eu"), B: Column(B, 1, 6, 0, b"us")}


def test_the_parts_that_tests_replace_are_there_once() -> None:
    for old in REPLACED:
        assert HERE.script.source.count(old) == 1


def test_what_is_no_entry() -> None:
    assert read_entry({}) is None
    level = b"1 2 -3 4 0 5 1 7 8 9 0 0 1|"
    held = read_entry(
        {b"level": level, b"peers": b"7", A: b"1 2 3 0 4 7 - 1 1", B: b"1 2 3 0 4 6 eu 1 1"}
    )
    assert held is not None
    assert held.records == {A: Column(A, 1, 2, 3)}
    assert held.debt == -3 * 10**9 + 4
    for fields in (
        {b"level": b"1 2 3"},
        {b"level": level.replace(b" 5 1 ", b" 0 1 ")},
        {b"level": level.replace(b" 5 1 ", b" 5 0 ")},
        {b"level": level, A: b"1 2 3 4 5"},
    ):
        with pytest.raises(RedisReplyError, match=r"is no (level|record)"):
            read_entry(fields)


@pytest.mark.parametrize(
    "wrong",
    [
        ("HSET", KEY + b"@eu", "level", "1 1 0 0 0 100000000 1"),
        ("HSET", KEY + b"@us", "level", "1 1 0 0 0 100000000 1"),
        ("SET", KEY + b"@eu", "x"),
    ],
)
def test_what_is_not_of_a_region_is_left_alone(line: Line, wrong: tuple[bytes | str, ...]) -> None:
    line.ask("FLUSHALL")
    line.ask(*wrong)
    before = line.ask("DUMP", wrong[1])
    (reply,) = line.talk(HERE.command(ScriptCall(KEY, 1, A, 1, 1, 0, 0, 0), source=True))
    assert isinstance(reply, hiredis.ReplyError)
    assert str(reply).startswith("CRDTBUCKET ")
    assert line.ask("DUMP", wrong[1]) == before
