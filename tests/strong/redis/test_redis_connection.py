"""One connection: each caller gets its reply, in order, however the connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import (
    BucketSpec,
    ConfigError,
    CrdtbucketError,
    Limiter,
    Mode,
    RedisConfig,
    RedisUnavailable,
)
from crdtbucket.base.address import Address
from crdtbucket.strong.redis import login
from crdtbucket.strong.redis.access import Access, server_access, tls_context
from crdtbucket.strong.redis.redis_connection import (
    MAX_OPEN_CALLS,
    RedisConnection,
    RedisConnectionLost,
    ask,
)
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
from tests.certificates import Authority
from tests.strong.fake_server import Command, FakeServer, echo, fake, friendly
from tests.strong.redis_server import Server, free_port
from tests.waits import eventually

SOURCE = "return ARGV[1]"
SHA = hashlib.sha1(SOURCE.encode()).hexdigest()


@contextlib.asynccontextmanager
async def connected(
    to: Server | FakeServer | Address, access: Access | None = None, **options: Any
) -> AsyncIterator[RedisConnection]:
    if isinstance(to, Server):
        to = Address(to.host, to.port)
    elif isinstance(to, FakeServer):
        to = to.address
    connection = await RedisConnection.open(to, access or Access(), 5.0, **options)
    try:
        yield connection
    finally:
        connection.abort()


class Wire(asyncio.Transport):
    """Stands for the socket: what was written, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


def wired() -> tuple[RedisConnection, Wire]:
    connection, wire = RedisConnection(Address("test", 1)), Wire()
    connection.connection_made(wire)
    return connection, wire


async def turn() -> None:
    """All that the loop has to do now."""
    for _ in range(3):
        await asyncio.sleep(0)


# -- the protocol


def read(*pieces: bytes) -> list[object]:
    reader, replies = ReplyReader(), []
    for piece in pieces:
        reader.feed(piece)
        while (reply := reader.next()) is not NOTHING:
            replies.append(reply)
    return replies


def test_a_command_is_a_list_of_bulks() -> None:
    assert encode("GET", b"\x00\r\n", 12, "é") == (
        b"*4\r\n$3\r\nGET\r\n$3\r\n\x00\r\n\r\n$2\r\n12\r\n$2\r\n\xc3\xa9\r\n"
    )


def test_errors_are_values_with_a_code() -> None:
    moved, nested = read(b"-MOVED 1 h:2\r\n*2\r\n:1\r\n-OOM full\r\n")
    assert isinstance(moved, RedisErrorReply)
    assert (moved.code, moved.message) == ("MOVED", "MOVED 1 h:2")
    assert isinstance(nested, list)
    assert (nested[1].code, nested[1].kind) == ("OOM", "oom")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("LOADING Redis is loading", "loading"),
        ("READONLY You can't write", "readonly"),
        ("OOM command not allowed", "oom"),
        ("NOAUTH", "auth"),
        ("WRONGPASS", "auth"),
        ("CLUSTERDOWN The cluster is down", "down"),
        ("MASTERDOWN", "down"),
        ("TRYAGAIN", "down"),
        ("ERR unknown", "script"),
        ("", "script"),
    ],
)
def test_what_an_error_is_evidence_of(message: str, kind: str) -> None:
    assert RedisErrorReply(message).kind == kind


def test_a_long_error_is_cut_where_people_read_it() -> None:
    assert len(str(RedisErrorReply("ERR " + "x" * 10_000))) == 200


STREAM = b":1\r\n*3\r\n:-5\r\n$5\r\na\r\nb\x00\r\n$-1\r\n-ERR no\r\n+OK\r\n*0\r\n$0\r\n\r\n"


def test_replies_may_come_in_any_pieces() -> None:
    whole = read(STREAM)
    assert len(whole) == 6
    for size in range(1, len(STREAM)):
        pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
        assert str(read(*pieces)) == str(whole)


@pytest.mark.parametrize("mark", [b"*", b"%", b"~", b">", b"|"])
def test_a_head_that_asks_for_much_room_is_refused_however_it_comes(mark: bytes) -> None:
    head = b"%b%d\r\n" % (mark, MAX_ITEMS + 1)
    for before in (b"", b"+OK\r\n", b"*2\r\n:1\r\n"):
        stream = before + head + b":1\r\n"
        for cut in range(len(stream)):
            with pytest.raises(GarbledReply, match="items"):
                read(stream[:cut], stream[cut:])
        with pytest.raises(GarbledReply, match="items"):
            read(*(stream[at : at + 1] for at in range(len(stream))))


def test_a_list_of_the_most_items_and_such_texts_are_read() -> None:
    (reply,) = read(b"*%d\r\n" % MAX_ITEMS + b":1\r\n" * MAX_ITEMS)
    assert reply == [1] * MAX_ITEMS
    assert read(b"$9\r\n:*1000000\r\n") == [b":*1000000"]


def test_a_reply_without_end_is_refused() -> None:
    pieces = [b"x" * 65_536] * (MAX_REPLY // 65_536 + 1)
    with pytest.raises(GarbledReply, match="bytes"):
        read(b"$%d\r\n" % (MAX_REPLY * 4), *pieces)
    assert read(b"$%d\r\n" % (MAX_REPLY * 4), *pieces[:-1]) == []


def test_many_large_replies_are_no_large_reply() -> None:
    one = b"$%d\r\n" % (MAX_REPLY // 2) + b"x" * (MAX_REPLY // 2) + b"\r\n"
    assert len(read(*[one] * 10)) == 10


def test_replies_nested_beyond_the_bound_are_too_deep() -> None:
    def nested(depth: int) -> object:
        return [nested(depth - 1), 1] if depth else 1

    assert not too_deep(nested(MAX_DEPTH))
    assert too_deep(nested(MAX_DEPTH + 1))
    assert not too_deep(b"text")


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_whatever_bytes_come_the_result_is_replies_or_one_error(pieces: list[bytes]) -> None:
    with contextlib.suppress(GarbledReply):
        read(*pieces)


@given(st.binary(max_size=3), st.integers(0, len(STREAM)))
def test_a_damaged_stream_is_replies_or_one_error(damage: bytes, at: int) -> None:
    with contextlib.suppress(GarbledReply):
        read(STREAM[:at] + damage + STREAM[at + 1 :])


# -- order


async def test_a_lone_command_is_written_at_once_and_others_together() -> None:
    connection, wire = wired()
    got: list[object] = []
    connection.send(b"1", got.append)
    assert wire.written == [b"1"]
    for command in (b"2", b"3", b"4"):
        connection.send(command, got.append)
    assert wire.written == [b"1"]
    await turn()
    assert wire.written == [b"1", b"234"]
    assert len(connection._calls) == 4
    connection.data_received(b":1\r\n:2\r\n:3\r\n:4\r\n")
    assert got == [1, 2, 3, 4]
    assert (len(connection._calls), connection.oldest_ns) == (0, None)


async def test_callers_who_come_in_crowds_travel_together() -> None:
    connection, wire = wired()
    for _ in range(2):
        for command in (b"a", b"b", b"c"):
            connection.send(command, lambda reply: None)
        await turn()
        connection.data_received(b":1\r\n:2\r\n:3\r\n")
    assert wire.written == [b"a", b"bc", b"abc"]
    connection.send(b"d", lambda reply: None)
    await turn()
    connection.data_received(b":1\r\n")
    connection.send(b"e", lambda reply: None)
    assert wire.written[3:] == [b"d", b"e"]  # alone again, at once again


async def test_a_callback_may_send() -> None:
    connection, wire = wired()
    got: list[object] = []
    connection.send(b"1", lambda reply: connection.send(b"3", got.append))
    connection.send(b"2", lambda reply: connection.send(b"4", got.append))
    await turn()
    connection.data_received(b":1\r\n:2\r\n")
    await turn()
    assert b"".join(wire.written) == b"1234"
    connection.data_received(b":3\r\n:4\r\n")
    assert got == [3, 4]


async def test_the_oldest_call_is_known() -> None:
    connection, _ = wired()
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    connection.send(b"1", lambda reply: None)
    first = connection.oldest_ns
    assert first is not None
    assert before <= first <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    connection.send(b"2", lambda reply: None)
    assert connection.oldest_ns == first
    connection.data_received(b":1\r\n")
    assert connection.oldest_ns is None  # the second waits for others of its turn
    await turn()
    assert connection.oldest_ns is not None
    assert connection.oldest_ns >= first


async def test_congestion_is_reported() -> None:
    connection, _ = wired()
    assert not connection.congested
    connection.pause_writing()
    assert connection.congested
    connection.resume_writing()
    for _ in range(MAX_OPEN_CALLS):
        assert not connection.congested
        connection.send(b"x", lambda reply: None)
    assert connection.congested
    connection.data_received(b":1\r\n")
    assert not connection.congested


async def test_a_server_that_does_not_read_makes_congestion() -> None:
    async with fake() as server, connected(server) as connection:
        server.clients[0].transport.pause_reading()  # type: ignore[attr-defined]
        command = encode("SET", "k", b"x" * 1_000_000)
        for _ in range(40):
            connection.send(command, lambda reply: None)
            await turn()
        assert connection.congested
        server.clients[0].transport.resume_reading()  # type: ignore[attr-defined]
        await eventually(lambda: not connection.congested)


@given(st.lists(st.sampled_from(["send", "cancel", "reply", "turn"]), max_size=60))
def test_every_reply_reaches_its_own_call(steps: list[str]) -> None:
    async def play() -> None:
        connection, wire = wired()
        got: list[tuple[int, object]] = []
        sent = answered = 0
        for step in [*steps, "turn", *["reply"] * len(steps)]:
            if step == "send":
                connection.send(
                    b"%d " % sent, lambda reply, number=sent: got.append((number, reply))
                )
                sent += 1
            elif step == "turn":
                await turn()
            elif step == "reply" and answered < len(b"".join(wire.written).split()):
                connection.data_received(b":%d\r\n" % answered)
                answered += 1
        assert b"".join(wire.written).split() == [b"%d" % number for number in range(sent)]
        assert got == [(number, number) for number in range(sent)]

    asyncio.run(play())


async def test_ten_thousand_cancelled_asks_get_no_foreign_reply(server: Server) -> None:
    async with connected(server) as connection:
        mixed: list[tuple[int, asyncio.Task[object]]] = []
        for number in range(20_000):
            asking = ask(connection, "ECHO", number)
            mixed.append((number, asyncio.ensure_future(asking)))
            if number % 100 == 99:
                await turn()  # they are sent, and their replies are on the way
                for one, task in mixed[-100:]:
                    if one % 2:
                        task.cancel()
        await asyncio.wait([task for _, task in mixed])
        cancelled = sum(task.cancelled() for _, task in mixed)
        assert cancelled > 9_000
        for number, task in mixed:
            if not task.cancelled():
                assert task.result() == b"%d" % number
        assert await ask(connection, "ECHO", "last") == b"last"
        assert len(connection._calls) == 0


async def test_ask_raises_what_redis_answers_and_refuses_depth() -> None:
    deep = b"*1\r\n" * (MAX_DEPTH + 1) + b":1\r\n"
    answers = {b"BAD": b"-ERR no\r\n", b"DEEP": deep}
    async with fake(lambda c: answers.get(c[0], b"+OK\r\n")) as server, connected(server) as one:
        with pytest.raises(RedisErrorReply, match="ERR no"):
            await ask(one, "BAD")
        assert await ask(one, "GOOD") == b"OK"
        with pytest.raises(RedisUnavailable, match="nested to more than"):
            await ask(one, "DEEP")


# -- the end


async def test_a_loss_is_reported_to_every_open_call_in_order_and_then_to_the_owner() -> None:
    got: list[object] = []
    async with fake() as server:
        async with connected(server, on_lost=lambda *_: got.append("owner")) as connection:
            server.answer = lambda command: b""
            for number in range(3):
                connection.send(
                    encode("X"), lambda reply, number=number: got.append((number, type(reply)))
                )
            await eventually(lambda: len(server.commands) == 5)
            server.clients[0].transport.abort()
            await eventually(lambda: "owner" in got)
            assert got == [*((number, RedisConnectionLost) for number in range(3)), "owner"]
            assert connection.closed
            with pytest.raises(RedisConnectionLost, match="closed the connection"):
                connection.send(encode("X"), got.append)
        await turn()
    assert len(got) == 4  # an abort after the end is not reported again


async def test_an_abort_waits_for_nothing() -> None:
    got: list[object] = []
    async with (
        fake(echo) as server,
        connected(server, on_lost=lambda _, error: got.append(error)) as connection,
    ):
        server.answer = lambda command: b""
        connection.send(encode("X"), got.append)
        connection.send(encode("Y"), got.append)
        connection.abort()
        assert connection.closed
        with pytest.raises(RedisConnectionLost, match="closed here"):
            connection.send(encode("Z"), got.append)
        await eventually(lambda: len(got) == 3)
        assert [type(one) for one in got] == [RedisConnectionLost] * 3
        assert len(connection._calls) == 0


async def test_a_callback_that_fails_takes_no_others_answer_away() -> None:
    loop, failures, got = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda loop, context: failures.append(context["exception"]))

    def fail(reply: object) -> None:
        raise ZeroDivisionError

    async with (
        fake(echo) as server,
        connected(server, on_lost=lambda _, error: got.append(error)) as connection,
    ):
        server.answer = lambda command: b""
        for callback in (fail, got.append, fail, got.append):
            connection.send(encode("X"), callback)
        connection.abort()
        await eventually(lambda: len(got) == 3)
        assert [type(one) for one in failures] == [ZeroDivisionError] * 2


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "no Redis protocol"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "no Redis protocol"),
        (b":1\r\n:2\r\n", "nobody asked for"),
        (b"*99999999\r\n", "more than"),
    ],
)
async def test_garbage_ends_the_connection_with_the_reason(stream: bytes, told: str) -> None:
    got: list[Any] = []
    async with (
        fake() as server,
        connected(server, on_lost=lambda _, error: got.append(error)) as connection,
    ):
        server.answer = lambda command: stream
        connection.send(encode("X"), lambda reply: None)
        await eventually(lambda: got)
        assert told in str(got[0])
        assert str(connection.address) in str(got[0])
        assert got[0].kind == "script"


async def test_garbage_is_reported_to_the_calls_behind_it() -> None:
    got: list[object] = []
    connection, wire = wired()
    for _ in range(3):
        connection.send(b"x", got.append)
    connection.data_received(b":1\r\n?")
    assert wire.aborted
    connection.connection_lost(None)
    await turn()
    assert got[0] == 1
    assert [type(one) for one in got[1:]] == [RedisConnectionLost] * 2


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_server_that_ends_in_mid_stream(how: str) -> None:
    with Server() as server:
        lost: list[object] = []
        async with connected(
            server, scripts=[SOURCE], on_lost=lambda _, error: lost.append(error)
        ) as connection:
            got: list[object] = []
            for number in range(5_000):
                connection.send(encode("EVALSHA", SHA, 0, number), got.append)
            await eventually(lambda: got)
            getattr(server, how)()
            await eventually(lambda: lost)
            assert len(got) == 5_000
            known = [reply for reply in got if isinstance(reply, bytes)]
            assert known == [b"%d" % number for number in range(len(known))]
            assert {type(reply) for reply in got[len(known) :]} <= {RedisConnectionLost}
            with pytest.raises(RedisUnavailable) as refused:
                await RedisConnection.open(connection.address, Access(), 1.0)
            assert refused.value.kind == "refused"


async def test_a_frozen_server_answers_late_and_in_order(server: Server) -> None:
    async with connected(server, scripts=[SOURCE]) as connection:
        server.freeze()
        try:
            got: list[object] = []
            for number in range(1_000):
                connection.send(encode("EVALSHA", SHA, 0, number), got.append)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ask(connection, "EVALSHA", SHA, 0, "given up"), 0.05)
            assert got == []
            assert len(connection._calls) == 1_001
            with pytest.raises(RedisUnavailable, match=r"did not answer within 0\.1 s") as slow:
                await RedisConnection.open(connection.address, Access(), 0.1)
            assert slow.value.kind == "timed_out"
        finally:
            server.thaw()
        assert await ask(connection, "EVALSHA", SHA, 0, "next") == b"next"
        assert got == [b"%d" % number for number in range(1_000)]


# -- opening


async def test_a_real_server_lets_us_in(server: Server) -> None:
    async with connected(server, Access(db=3, client_name="me-1"), scripts=[SOURCE]) as connection:
        assert await ask(connection, "EVALSHA", SHA, 0, "x") == b"x"
        info = await ask(connection, "CLIENT", "INFO")
        assert isinstance(info, bytes)
        assert b" db=3 " in info
        assert b" name=me-1 " in info
    async with connected(Address(path=str(server.path))) as connection:
        assert await ask(connection, "PING") == b"PONG"


async def test_scripts_come_after_the_handshake_that_holds_what_was_asked() -> None:
    async with fake() as server:
        access = Access("me", "pw", 2, client_name="me-1")
        async with connected(server, access, scripts=["return 1", "return 2"]):
            assert server.commands == [
                [b"AUTH", b"me", b"pw"],
                [b"SELECT", b"2"],
                [b"PING"],
                [b"CLIENT", b"SETNAME", b"me-1"],
                [b"SCRIPT", b"LOAD", b"return 1"],
                [b"SCRIPT", b"LOAD", b"return 2"],
            ]


async def test_wrong_passwords_and_rights_are_reported_without_the_secret() -> None:
    rules = ("requirepass right", "user poor on >poor ~* +ping +auth", "user off off >off +@all")
    with Server(*rules) as server:
        cases = [
            (Access(), r"asks for a password \(NOAUTH: set password of the connection\)"),
            (
                Access(password="hunter2"),
                r"the default user in \(WRONGPASS: check password",
            ),
            (Access("nobody", "hunter2"), r"does not let user 'nobody' in \(WRONGPASS: check"),
            (Access("off", "off"), "does not let user 'off' in"),
            (Access("poor", "poor", db=1), "allow user 'poor' the command SELECT: allow it"),
        ]
        for access, told in cases:
            with pytest.raises(RedisUnavailable, match=told) as caught:
                await RedisConnection.open(Address(server.host, server.port), access, 5.0)
            assert caught.value.kind == "auth"
            assert "hunter2" not in f"{caught.value} {caught.value!r}"
            assert f"{server.host}:{server.port}" in str(caught.value)
        async with connected(server, Access(password="right")) as connection:
            assert await ask(connection, "PING") == b"PONG"
        async with connected(server, Access("poor", "poor")) as connection:
            assert await ask(connection, "PING") == b"PONG"  # it may not name itself: no matter


async def test_a_password_where_none_is_asked_for(server: Server) -> None:
    with pytest.raises(RedisUnavailable, match="leave them out where it asks for none"):
        await RedisConnection.open(Address(server.host, server.port), Access(password="x"), 5.0)


@pytest.mark.parametrize(
    ("refused", "answer", "told", "kind"),
    [
        (b"AUTH", b"-ERR unknown command 'AUTH', beginning with: 'hunter2'\r\n", "ERR", "auth"),
        (b"AUTH", b"-ERR max number of clients reached\r\n", "maxclients", "refused"),
        (b"AUTH", b"-LOADING Redis is loading\r\n", "LOADING", "loading"),
        (b"SELECT", b"-ERR DB index is out of range\r\n", "no database 2", "script"),
        (b"SCRIPT", b"-ERR Error compiling script\r\n", "compiling", "script"),
        (b"SCRIPT", b"-NOPERM no rights\r\n", "SCRIPT LOAD", "auth"),
        (b"PING", b"-LOADING Redis is loading\r\n", "LOADING", "loading"),
        (b"PING", b"-MASTERDOWN Link with MASTER is down\r\n", "MASTERDOWN", "down"),
        (b"PING", b"HTTP/1.1 400\r\n", "really a Redis", "script"),
    ],
)
async def test_a_refused_handshake_is_explained(
    refused: bytes, answer: bytes, told: str, kind: str
) -> None:
    def refuse(command: Command) -> bytes:
        return answer if command[0] == refused else friendly(command)

    async with fake(refuse) as server:
        access = Access(password="hunter2", db=2)
        with pytest.raises(RedisUnavailable, match=told) as caught:
            await RedisConnection.open(server.address, access, 5.0, scripts=["x"])
        assert caught.value.kind == kind
        assert "hunter2" not in str(caught.value)
        # And nothing is left open.
        await eventually(lambda: all(one.transport.is_closing() for one in server.clients))


async def test_a_server_without_room_says_so() -> None:
    with Server("maxclients 1") as server, socket.create_connection((server.host, server.port)):
        with pytest.raises(RedisUnavailable, match="maxclients") as caught:
            await RedisConnection.open(Address(server.host, server.port), Access(), 5.0)
        assert caught.value.kind == "refused"


async def test_a_login_leaves_in_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without room may have refused and closed by then: a second write would fail, and
    end the connection before it is read why."""
    written: list[int] = []
    write = RedisConnection._write

    def counted(connection: RedisConnection) -> None:
        written.append(len(connection._gathered))
        write(connection)

    monkeypatch.setattr(RedisConnection, "_write", counted)
    async with fake(friendly) as server:
        access = Access(password="hunter2", db=2)
        connection = await RedisConnection.open(server.address, access, 5.0, scripts=["x", "y"])
        connection.abort()
    assert written == [4, 2]


async def test_a_name_that_is_not_taken_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(command: Command) -> bytes:
        return b"-ERR unknown command\r\n" if command[0] == b"CLIENT" else friendly(command)

    caplog.set_level(logging.DEBUG, "crdtbucket.strong")
    async with fake(refuse) as server, connected(server):
        assert "does not take a client name" in caplog.text


async def test_where_nobody_listens(tmp_path: Path) -> None:
    cases = [
        (Address("127.0.0.1", free_port()), "cannot be reached .* correct host and port"),
        (Address(path=str(tmp_path / "none")), "cannot be reached .* correct path"),
        (Address("nowhere.invalid", 6379), "nowhere.invalid:6379 does not resolve .* correct"),
        (Address("no..name", 6379), r"no..name:6379 does not resolve \(it is no name .* correct"),
    ]
    for address, told in cases:
        with pytest.raises(RedisUnavailable, match=told) as caught:
            await RedisConnection.open(address, Access(), 5.0)
        assert caught.value.kind == "refused"


async def test_a_server_that_says_nothing_or_hangs_up() -> None:
    lost: list[object] = []
    async with fake(lambda command: b"") as server:
        with pytest.raises(RedisUnavailable, match="did not answer") as caught:
            await RedisConnection.open(
                server.address, Access(), 0.05, on_lost=lambda _, error: lost.append(error)
            )
        assert caught.value.kind == "timed_out"

        def hang_up(command: Command) -> bytes:
            server.clients[-1].transport.abort()
            return b""

        server.answer = hang_up
        with pytest.raises(RedisUnavailable, match="before the handshake ended") as caught:
            await RedisConnection.open(
                server.address, Access(), 5.0, on_lost=lambda _, error: lost.append(error)
            )
        assert caught.value.kind == "lost"
        assert lost == []  # the error informs the caller


async def test_a_cancelled_opening_leaves_nothing_open() -> None:
    async with fake(lambda command: b"") as server:
        opening = asyncio.ensure_future(RedisConnection.open(server.address, Access(), 5.0))
        await eventually(lambda: server.commands)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await eventually(lambda: server.clients[0].transport.is_closing())


# -- TLS


@contextlib.contextmanager
def tls_server(authority: Authority, *options: str) -> Iterator[tuple[Server, int]]:
    port, files = free_port(), authority.issue("redis")
    lines = (
        f"tls-port {port}",
        f"tls-cert-file {files['tls_cert']}",
        f"tls-key-file {files['tls_key']}",
        f"tls-ca-cert-file {authority.file}",
        *options,
    )
    with Server(*lines) as server:
        yield server, port


async def through_tls(port: int, host: str = "127.0.0.1", **fields: str) -> object:
    config = RedisConfig(url=f"rediss://{host}:{port}", **fields)
    access = server_access(config, tls_context(config))
    async with connected(config.target.addresses[0], access) as connection:
        return await ask(connection, "PING")


async def test_tls_with_an_authority_of_our_own(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    with tls_server(authority, "tls-auth-clients no") as (server, port):
        assert await through_tls(port, tls_ca=authority.file) == b"PONG"
        for options in ({"tls_ca": other.file}, {}):
            with pytest.raises(RedisUnavailable, match=f"{port} is not trusted .cert") as caught:
                await through_tls(port, **options)
            assert caught.value.kind == "auth"
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        with pytest.raises(RedisUnavailable, match="certificate"):
            await through_tls(port, host="localhost", tls_ca=authority.file)  # another name
        config = RedisConfig(url="rediss://h", tls_ca=authority.file)
        plain = Address(server.host, server.port)
        with pytest.raises(RedisUnavailable, match="Does its port speak TLS"):
            await RedisConnection.open(plain, server_access(config, tls_context(config)), 0.1)
        with pytest.raises(RedisUnavailable, match="TLS"):
            await RedisConnection.open(Address("127.0.0.1", port), Access(), 5.0)


async def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    ours, theirs = authority.issue("node"), other.issue("stranger")
    with tls_server(authority) as (_, port):
        assert await through_tls(port, tls_ca=authority.file, **ours) == b"PONG"
        for files in (theirs, {}):
            with pytest.raises(RedisUnavailable, match="TLS") as caught:
                await through_tls(port, tls_ca=authority.file, **files)
            assert caught.value.kind in ("auth", "lost")


async def test_a_certificate_that_is_renewed_needs_no_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server refuses the first one, as one that has expired."""
    caplog.set_level(logging.INFO, "crdtbucket.strong")
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    files, renewed = theirs.issue("node"), ours.issue("renewed")
    with tls_server(ours) as (_, port):
        config = RedisConfig(url=f"rediss://127.0.0.1:{port}", tls_ca=ours.file, **files)
        spec = BucketSpec("b", 100, 1, "1h", consistency="strong")
        async with Limiter([spec], node="n", redis=config) as limiter:
            assert (await limiter.bucket("b").acquire("k")).mode is Mode.FALLBACK
            for kind in ("tls_cert", "tls_key"):
                shutil.copy(renewed[kind], files[kind])

            async def is_strong() -> bool:
                return (await limiter.bucket("b").acquire("k")).mode is Mode.STRONG

            await eventually(is_strong)
    assert f"{files['tls_key']} has changed, and is in use" in caplog.text


def test_a_key_that_is_not_the_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    one, two = authority.issue("one"), authority.issue("two")
    config = RedisConfig(url="rediss://h", tls_cert=one["tls_cert"], tls_key=two["tls_key"])
    with pytest.raises(ConfigError, match=r"redis\.tls_cert"):
        tls_context(config)


def test_errors_of_this_layer_are_ours() -> None:
    for kind in (GarbledReply, RedisErrorReply, RedisConnectionLost, RedisUnavailable):
        assert issubclass(kind, CrdtbucketError)


async def test_of_the_addresses_of_a_name_one_that_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No packet comes back from the first, as from a host that is switched off."""
    monkeypatch.setattr(login, "NEXT_ADDRESS_S", 0.01)
    loop = asyncio.get_running_loop()
    connect, tried = loop.sock_connect, []

    async def resolve(host: str, port: int, **kind: Any) -> list[Any]:
        found = [("192.0.2.1", port), ("127.0.0.1", port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in found]

    async def connect_or_not(sock: socket.socket, where: Any) -> None:
        tried.append(where[0])
        if where[0] == "192.0.2.1":
            await loop.create_future()
        await connect(sock, where)

    async with fake() as server:
        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        monkeypatch.setattr(loop, "sock_connect", connect_or_not)
        one = await RedisConnection.open(Address("a-name", server.address.port), Access(), 20.0)
        one.abort()
    assert tried == ["192.0.2.1", "127.0.0.1"]
