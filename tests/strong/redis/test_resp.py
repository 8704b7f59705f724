"""Any bytes of a server become replies or one error, soon, and in bounded memory."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.strong.redis.resp import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_REPLY,
    NOTHING,
    GarbledReply,
    RedisErrorReply,
    ReplyReader,
    encode,
    too_deep,
)

REPLIES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=30),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)
TOKENS = st.sampled_from(
    [b"*", b"$", b":", b"+", b"-", b"%", b"~", b">", b"|", b"_", b",", b"#", b"(", b"=", b"!", b";",
     b"0", b"1", b"2", b"9", b"-1", b"4294967296", b"18446744073709551616", b"\r\n", b"\r", b"\n",
     b"inf", b"nan", b"t", b"?", b".", b"txt:", b"\xff", b"\x00", b" ", b"OOM x"]
)  # fmt: skip


def on_the_wire(reply: object) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    assert isinstance(reply, list)
    return b"*%d\r\n" % len(reply) + b"".join(map(on_the_wire, reply))


def read(reader: ReplyReader, data: bytes, size: int) -> list[object]:
    replies = []
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        while (reply := reader.next()) is not NOTHING:
            replies.append(reply)
    return replies


@given(st.lists(REPLIES, max_size=6), st.integers(1, 50))
def test_what_was_said_is_what_is_read(said: list[object], size: int) -> None:
    assert read(ReplyReader(), b"".join(map(on_the_wire, said)), size) == said


@given(
    st.lists(st.binary(max_size=30) | st.integers() | st.text(max_size=9), min_size=1, max_size=5)
)
def test_a_server_reads_the_command_that_was_meant(words: list[bytes | int | str]) -> None:
    (reply,) = read(ReplyReader(), encode(*words), 7)
    assert reply == [w if isinstance(w, bytes) else str(w).encode() for w in words]


@given(st.lists(TOKENS, max_size=40).map(b"".join), st.integers(1, 9))
def test_no_mixture_of_marks_is_more_than_an_error(data: bytes, size: int) -> None:
    with contextlib.suppress(GarbledReply):
        for reply in read(ReplyReader(), data, size):
            assert too_deep(reply) in (False, True)
            if isinstance(reply, RedisErrorReply):
                assert reply.message.startswith(reply.code)
                assert len(str(reply)) <= 200


@given(REPLIES, st.data())
def test_a_reply_with_one_wrong_byte_is_no_more_than_an_error(
    said: object, data: st.DataObject
) -> None:
    wire = bytearray(on_the_wire(said))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(GarbledReply):
        read(ReplyReader(), bytes(wire) * 2, 11)


@pytest.mark.parametrize(
    "stream",
    [b"*1\r\n" * 100 + b":1\r\n", b"$-2\r\n", b"*-5\r\n", b"$5x\r\n", b"$99999999999999999999\r\n",
     b"\x00", b":12a\r\n", b":" + b"9" * 30 + b"\r\n", b"* 99999\r\n", b"%1\r\n*0\r\n:1\r\n",
     b"HTTP/1.1 400\r\n"],
    ids=lambda stream: repr(stream[:20]),
)  # fmt: skip
def test_what_is_no_protocol_is_reported_as_such(stream: bytes) -> None:
    with pytest.raises(GarbledReply):
        read(ReplyReader(), stream, len(stream))


def test_after_an_error_there_are_no_more_replies() -> None:
    reader = ReplyReader()
    reader.feed(b"$-2\r\n:1\r\n")
    for _ in range(3):
        with pytest.raises(GarbledReply):
            reader.next()


@pytest.mark.parametrize("head", [b"$99999999999\r\n", b"+", b"-", b":", b"*9\r\n+"])
def test_a_reply_that_never_ends_is_ended_at_its_bound(head: bytes) -> None:
    reader, fed = ReplyReader(), [head, *[b"1" * 65_536] * (MAX_REPLY // 65_536 + 1)]
    with pytest.raises(GarbledReply):
        read(reader, b"".join(fed), 65_536)


ITEMS = [
    b"*0\r\n",
    b"*1\r\n*0\r\n",
    b"%0\r\n",
    b"~0\r\n",
    b"-\r\n",
    b":1\r\n",
    b"$-1\r\n",
    b",1\r\n",
]


@pytest.mark.parametrize("item", ITEMS, ids=repr)
def test_a_megabyte_of_the_smallest_items_stays_within_64(item: bytes) -> None:
    part = b"*%d\r\n" % MAX_ITEMS + item * MAX_ITEMS
    stream = (b"*99\r\n" + part * 99)[:MAX_REPLY]
    tracemalloc.start()
    try:
        reader = ReplyReader()
        with contextlib.suppress(GarbledReply):
            read(reader, stream, 65_536)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_heads_that_claim_much_take_little_room() -> None:
    """As many as hiredis nests, with the most items each; on their way, they are not counted."""
    tracemalloc.start()
    try:
        with contextlib.suppress(GarbledReply):
            read(ReplyReader(), b"*%d\r\n" % MAX_ITEMS * 200_000, 65_536)
        assert tracemalloc.get_traced_memory()[1] < 96 << 20
    finally:
        tracemalloc.stop()


def test_depth_is_refused_however_it_is_wrapped_and_what_came_before_is_read() -> None:
    deep = b"*2\r\n:1\r\n" * (MAX_DEPTH + 1) + b":2\r\n"
    assert too_deep(read(ReplyReader(), deep[8:], 99)[0]) is False
    reader = ReplyReader()
    reader.feed(b"+OK\r\n" + deep)
    assert reader.next() == b"OK"
    with pytest.raises(GarbledReply, match="nested"):
        reader.next()


@pytest.mark.parametrize("before", [b":1\r\n", b"", b"*1\r\n:1\r\n"], ids=repr)
@pytest.mark.parametrize("size", [3, 6, 7, 100])
def test_a_large_head_behind_numbers_is_refused_before_it_is_read(before: bytes, size: int) -> None:
    with pytest.raises(GarbledReply, match="a list of more than"):
        read(ReplyReader(), before + b"*9999999\r\n:1\r\n", size)
