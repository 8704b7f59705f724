"""Calls as bytes; an answer is one that the script can have given, or an error."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import InvalidSpec, RedisReplyError
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.script import (
    MOST_COUNT,
    MOST_SECONDS,
    SHA,
    Arguments,
    Column,
    ScriptAnswer,
    ScriptCall,
    ScriptStatus,
    owner_name,
    parse,
    read_owner,
)

SPEC = BucketSpec("b", 100, 7)
counts = st.integers(0, 2**53)
nodes = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=200
)
owners = st.builds(owner_name, st.integers(1, 2**64 - 1), nodes)
columns = st.builds(Column, owners, st.integers(0, 10**10 - 1), counts, counts)
others = st.one_of(st.none(), st.lists(columns, max_size=4).map(tuple))


def words(command: bytes) -> list[bytes]:
    """A command is a list of texts, so a reader of replies reads it."""
    reader = hiredis.Reader()
    reader.feed(command)
    read: list[bytes] = reader.gets()
    assert reader.gets() is False
    return read


@given(
    st.binary(min_size=1, max_size=80),
    st.integers(0, 2**52),
    columns,
    st.integers(0, 10**10 - 1),
    st.integers(0, 2**62),
    others,
)
def test_a_call_is_the_command_that_it_says(
    key: bytes, cost: int, own: Column, fence: int, debt: int, rest: tuple[Column, ...] | None
) -> None:
    made = Arguments(SPEC, 50, 1234)
    call = ScriptCall(
        key, cost, own.owner, fence, own.generation, own.taken, own.refunded, debt, rest
    )
    for command, name in (
        (made.command(call), b"EVALSHA"),
        (made.command(call, source=True), b"EVAL"),
    ):
        got = words(command)
        assert got[0] == name
        assert got[2:4] == [b"1", key]
        assert list(map(int, got[4:10])) == [100, 50, 10**9, 7, 1234, cost]
        assert got[10] == own.owner
        stated = list(map(int, got[11:17]))
        assert stated == [fence, own.generation, own.taken, own.refunded, *divmod(debt, 10**9)]
        assert got[17] == (b"0" if rest is None else b"1")
        for i, one in enumerate(rest or ()):
            owner, *numbers = got[18 + 4 * i : 22 + 4 * i]
            assert Column(owner, *map(int, numbers)) == one
        assert len(got) == 18 + 4 * len(rest or ())
    assert words(made.command(call))[1] == SHA.encode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"taken": 10**16},
        {"refunded": -(10**15)},
        {"fence": 10**10},
        {"generation": 10**10},
        {"debt_ns": 10**19},
        {"others": (Column(owner_name(1, "n"), 1, 10**16, 0),)},
    ],
    ids=str,
)
def test_a_number_that_has_no_place_is_an_error(wrong: dict[str, Any]) -> None:
    values = {"fence": 1, "generation": 1, "taken": 0, "refunded": 0, "debt_ns": 0, **wrong}
    with pytest.raises(ValueError, match="out of range"):
        Arguments(SPEC, 0).command(ScriptCall(b"k", 1, owner_name(1, "n"), **values))


def test_definitions_beyond_the_scripts_numbers_are_refused() -> None:
    large = BucketSpec("b", 2**51, 10**9, max_debt=2**51)
    Arguments(large, 2**51)
    with pytest.raises(InvalidSpec, match=r"2\^52"):
        Arguments(large, 2**51 + 1)
    with pytest.raises(InvalidSpec, match=r"2\^51"):
        Arguments(BucketSpec("b", 1, 2**51 + 5, "300d"), 0)
    with pytest.raises(InvalidSpec, match="retention"):
        Arguments(SPEC, 0, 0)


@given(st.integers(1, 2**64 - 1), nodes)
def test_an_owner_says_epoch_and_node(epoch: int, node: str) -> None:
    assert read_owner(owner_name(epoch, node)) == (epoch, node)


@pytest.mark.parametrize(
    "owner",
    [
        b"",
        b"level",
        b"1:n",
        b"0" * 16 + b":n",
        b"0" * 15 + b"g:n",
        b"F" * 16 + b":n",
        b"f" * 16,
        b"f" * 16 + b":",
        b"f" * 17 + b":n",
        b"f" * 16 + b":\xff",
        b"f" * 16 + b":" + b"n" * 801,
    ],
)
def test_what_names_no_process_is_refused(owner: bytes) -> None:
    with pytest.raises(RedisReplyError, match="names no process"):
        read_owner(owner)


GOOD = [1, 12, 999_999_999, 7, 3]


@given(
    st.integers(0, 3),
    st.integers(0, MOST_SECONDS),
    st.integers(0, 999_999_999),
    counts,
    counts,
    st.lists(st.tuples(owners, counts, counts, counts), max_size=5),
)
def test_an_answer_is_read_as_it_was_said(
    status: int, s: int, ns: int, taken: int, refunded: int, said: list[Any]
) -> None:
    flat = [item for column in said for item in column]
    read = parse([status, s, ns, taken, refunded, *flat])
    assert read == ScriptAnswer(
        ScriptStatus(status), s * 10**9 + ns, taken, refunded, tuple(Column(*one) for one in said)
    )


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.binary(max_size=30),
    st.text(max_size=5),
    st.floats(),
    st.integers(max_value=-1),
    st.integers(min_value=MOST_COUNT + 1),
    st.lists(st.integers(), max_size=3),
    st.builds(hiredis.ReplyError, st.text(max_size=9)),
)


@given(st.one_of(junk, st.lists(st.one_of(junk, st.integers()), max_size=13)))
def test_whatever_comes_is_an_answer_or_refused(reply: Any) -> None:
    try:
        answer = parse(reply)
    except RedisReplyError:
        return
    assert type(reply) is list
    assert all(type(number) is int and number >= 0 for number in reply[:5])
    assert len(reply) == 5 + 4 * len(answer.columns)


@given(st.integers(0, 8), junk)
def test_one_wrong_item_is_refused(place: int, wrong: Any) -> None:
    reply: list[Any] = [*GOOD, owner_name(1, "n"), 1, 2, 3]
    parse(reply)
    reply[place] = wrong
    with pytest.raises(RedisReplyError, match="the script's answer was"):
        parse(reply)


@pytest.mark.parametrize("size", [0, 1, 4, 6, 7, 8, 10])
def test_an_answer_of_another_length_is_refused(size: int) -> None:
    reply = [*GOOD, owner_name(1, "n"), 1, 2, 3, owner_name(2, "n")]
    with pytest.raises(RedisReplyError):
        parse(reply[:size])


@pytest.mark.parametrize(("place", "value"), [(0, 4), (1, MOST_SECONDS + 1), (2, 10**9)])
def test_a_number_just_beyond_is_refused(place: int, value: int) -> None:
    reply = list(GOOD)
    reply[place] = value
    with pytest.raises(RedisReplyError):
        parse(reply)
