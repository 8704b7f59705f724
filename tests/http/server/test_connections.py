"""Clients that are slow, broken or too many do not keep the server from the others."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web

from crdtbucket.http.server import connections
from crdtbucket.http.server.serve_settings import ServeSettings
from tests.http.serving import TOKEN, Asker, serving
from tests.waits import eventually

HEAD = b"POST /v1/take HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
QUICK: dict[str, Any] = {"head_deadline": 0.2, "request_deadline": 0.2, "idle_deadline": 0.2}
BODY = b'{"bucket": "api", "key": "a"}'
LENGTH = b"Content-Length: %d\r\n\r\n" % len(BODY)
WHOLE = HEAD + LENGTH + BODY


async def to_the_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection is closed, or reset."""
    got = b""
    try:
        while more := await asyncio.wait_for(reader.read(65_536), 60):
            got += more
    except ConnectionResetError:
        pass
    return got


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Sends a byte at a time, for ever: a timer that starts again at each byte never ends."""
    try:
        for place in range(10**6):
            writer.write(data[place % len(data) :][:1])
            await writer.drain()
            await asyncio.sleep(0.02)
    except (ConnectionError, OSError):
        pass


async def test_after_a_bug_slow_clients_are_still_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, looks = connections.now_ns, []

    def bug_at_first() -> int:
        looks.append(True)
        if len(looks) == 1:
            raise ZeroDivisionError
        return clock()

    async with serving(**{**QUICK, "idle_deadline": 60}) as client:
        reader, _ = await client.connect()
        await eventually(lambda: client.server.api.connections.open)
        monkeypatch.setattr(connections, "now_ns", bug_at_first)
        assert await to_the_end(reader) == b""
    assert "ZeroDivisionError" in caplog.text


SLOW = {
    "nothing": (b"", b""),
    "a head a byte at a time": (b"GET / HTTP/1.1\r\nX: ", b"x"),
    "a body a byte at a time": (HEAD + b"Content-Length: 1000\r\n\r\n", b" "),
    "a body that stops": (HEAD + b"Content-Length: 1000\r\n\r\n{", b""),
    "chunks a byte at a time": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize(("first", "then"), SLOW.values(), ids=SLOW)
async def test_a_slow_client_is_hung_up_on(first: bytes, then: bytes) -> None:
    async with serving(**{**QUICK, "idle_deadline": 60}) as client:
        reader, writer = await client.connect()
        writer.write(first)
        dripping = asyncio.create_task(drip(writer, then)) if then else None
        assert await to_the_end(reader) == b""
        connections = client.server.api.connections
        await eventually(lambda: not connections.open)
        assert connections.refused["slow"] == 1
        if dripping is not None:
            await dripping
        assert (await client.get("/healthz"))["status"] == "ok"


async def test_so_is_one_that_goes_on_slowly_after_a_good_request() -> None:
    async with serving(**{**QUICK, "head_deadline": 60}) as client:
        reader, writer = await client.connect()
        writer.write(WHOLE)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        dripping = asyncio.create_task(drip(writer, b"x"))
        assert await to_the_end(reader) == b""
        await dripping


async def test_a_request_under_way_is_answered_also_where_no_client_was_left_before() -> None:
    async with serving(drain_deadline=60.0) as client:
        connections = client.server.api.connections
        _, first = await client.connect()
        await eventually(lambda: len(connections.open) == 1)
        first.close()
        await eventually(lambda: not connections.open)
        reader, writer = await client.connect()
        writer.write(HEAD + LENGTH)
        await eventually(lambda: any(one.busy for one in connections.open))
        draining = asyncio.create_task(connections.drain())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not draining.done()
        writer.write(BODY)
        assert (await to_the_end(reader)).startswith(b"HTTP/1.1 200")
        await draining


async def test_one_that_does_not_read_its_answers_is_hung_up_on() -> None:
    async with serving(**{**QUICK, "idle_deadline": 0.5}) as client:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.setblocking(False)
            host, _, port = client.url.removeprefix("http://").rpartition(":")
            await loop.sock_connect(sock, (host, int(port)))
            request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"

            async def flood() -> None:
                while True:
                    await loop.sock_sendall(sock, request * 100)

            with pytest.raises(ConnectionError):
                await asyncio.wait_for(flood(), 60)
        await eventually(lambda: not client.server.api.connections.open)


async def test_a_flood_of_connections_leaves_those_that_are_served() -> None:
    # No connection of the flood ends, and makes room for one more, before all of them are there.
    deadlines = {**QUICK, "head_deadline": 5, "idle_deadline": 60}
    async with serving(max_connections=4, **deadlines) as client:
        reader, writer = await client.connect()
        writer.write(WHOLE)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        flood = [await client.connect() for _ in range(60)]
        answers = await asyncio.gather(*(to_the_end(one) for one, _ in flood))
        full = [answer for answer in answers if answer]
        assert len(full) == 57
        for answer in full:
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert b"Content-Length: %d" % len(body) in head
            assert b"application/problem+json" in head
        writer.write(WHOLE)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        assert client.server.api.connections.refused["full"] == 57
        for _, one in [*flood, (reader, writer)]:
            one.close()
        await eventually(lambda: not client.server.api.connections.open)
        assert (await client.get("/healthz"))["status"] == "ok"


async def test_an_answer_to_head_has_no_body() -> None:
    async with serving() as client:
        reader, writer = await client.connect()
        # A body would be read as the start of the next answer.
        for path, status in [(b"/healthz", b"200"), (b"/metrics", b"200"), (b"/v1/take", b"405")]:
            for _ in range(2):
                writer.write(b"HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 " + status)


BROKEN = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a line that is too long": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    "a field that is too long": b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": HEAD + LENGTH[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


async def answer_to(client: Asker, data: bytes) -> bytes:
    reader, writer = await client.connect()
    writer.write(data)
    return await to_the_end(reader)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_http_is_a_problem_and_no_traceback(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as client:
        answer = await answer_to(client, data)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
        assert b"application/problem+json" in answer
        assert client.server.api.connections.refused["malformed"] == 1
        assert not caplog.records


async def test_a_bomb_is_not_unpacked() -> None:
    async with serving() as client:
        packed = HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
        reader, writer = await client.connect()
        writer.write(packed)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 415")


async def test_a_bug_is_500_and_stands_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as client:

        def broken() -> None:
            raise ZeroDivisionError("a bug of this test")

        monkeypatch.setattr(client.server.api.views, "buckets_now", broken)
        status, problem, _ = await client.ask("GET", "/v1/buckets")
        assert status == 500
        assert "ZeroDivisionError" not in str(problem)
        assert "a bug of this test" in caplog.text


# -- surplus connections

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
STATUS = b"GET /admin/status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"


async def test_a_thousand_slow_connections_do_not_stop_health_and_admin() -> None:
    many = connections.MAX_SURPLUS + 20
    async with serving(max_connections=8, admin_token=TOKEN) as client:
        held = [await client.connect() for _ in range(many)]
        for _, writer in held:
            writer.write(b"GET / HTTP/1.1\r\nX: ")
        await eventually(lambda: client.server.api.connections.refused["full"] >= many - 8 - 64)
        for line in (HEALTH, STATUS % TOKEN.encode()):
            answer = await answer_to(client, line)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            assert b"\r\nConnection: close\r\n" in answer
        assert (await answer_to(client, WHOLE)).startswith(b"HTTP/1.1 503")
        assert client.limiter.stats()["buckets"]["api"]["allowed"] == 0


async def test_a_surplus_connection_gets_a_place_that_has_become_free() -> None:
    async with serving(max_connections=1) as client:
        _, first = await client.connect()
        reader, second = await client.connect()
        server = client.server.api.connections
        await eventually(lambda: len(server.open) == 2)
        first.close()
        await eventually(lambda: len(server.open) == 1)
        for _ in range(2):
            second.write(WHOLE)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        assert server.refused["full"] == 0


class FakeConnection:
    """The parts of a connection that `Connections` uses."""

    def __init__(self, address: str | None) -> None:
        self.remote_address = address
        self.placed = False


@pytest.mark.parametrize(("share", "each"), [(0, 2), (3, 3)])
def test_one_address_has_a_share_of_the_places(share: int, each: int) -> None:
    settings = ServeSettings(max_connections=4, max_connections_per_address=share)
    server: Any = connections.Connections(settings)
    greedy = [FakeConnection("192.0.2.1") for _ in range(4)]
    for one in greedy:
        server.joined(one)
    assert [one.placed for one in greedy] == [n < each for n in range(4)]
    other = FakeConnection("192.0.2.2")
    server.joined(other)
    assert other.placed
    assert not server.place_for(greedy[-1])
    server.left(greedy[0])
    assert server.place_for(greedy[-1])


def test_a_connection_that_is_gone_takes_no_place() -> None:
    """Its first request may be read only after it has ended: a task of its own reads it."""
    server: Any = connections.Connections(ServeSettings(max_connections_per_address=1))
    address = "192.0.2.1"
    first, second, third = (FakeConnection(address) for _ in range(3))
    server.joined(first)
    server.joined(second)  # surplus
    server.left(second)
    server.left(first)
    assert not server.place_for(second)
    server.joined(third)
    assert third.placed


async def test_a_client_that_is_gone_at_once_is_no_bug() -> None:
    """aiohttp's task begins only after it has ended, and raised an error that the log then had."""

    async def answer(_: web.BaseRequest) -> web.Response:
        raise AssertionError("nobody asks")

    server = web.Server(answer)
    client = connections.ClientConnection(connections.Connections(ServeSettings()), server)
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    client.connection_made(transport)
    before = asyncio.all_tasks()
    client.connection_lost(None)
    (result,) = await asyncio.gather(*(before - {asyncio.current_task()}), return_exceptions=True)
    # Where Python starts tasks at once, aiohttp's waits by then, and is cancelled.
    assert result is None or isinstance(result, asyncio.CancelledError)


def test_services_of_this_host_may_have_all_places() -> None:
    server: Any = connections.Connections(ServeSettings(max_connections=4))
    mine = [FakeConnection(None) for _ in range(5)]
    for one in mine:
        server.joined(one)
    assert [one.placed for one in mine] == [True] * 4 + [False]


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with serving() as client:
        reader, writer = await client.connect()
        writer.write(HEAD + b"Expect: 100-continue\r\n" + LENGTH)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        answer = await answer_to(client, HEAD + b"Expect: a miracle\r\n" + LENGTH)
        assert answer.startswith(b"HTTP/1.1 417")


# -- the end of a client, and of the server


async def test_a_client_that_is_gone_in_the_middle_of_its_body_is_no_bug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as client:
        _, writer = await client.connect()
        writer.write(WHOLE[:-1])
        connections = client.server.api.connections
        await eventually(lambda: any(one.busy for one in connections.open))
        writer.transport.abort()
        await eventually(lambda: not connections.open)
        await eventually(lambda: not client.server.api.metrics.open_requests)
        await client.get("/healthz")
        assert not caplog.records


async def test_a_client_that_sends_nothing_more_gets_its_answers() -> None:
    async with serving(idle_deadline=600, request_deadline=600) as client:
        reader, writer = await client.connect()
        writer.write(WHOLE * 20)
        writer.write_eof()
        assert (await to_the_end(reader)).count(b"HTTP/1.1 200") == 20
        reader, writer = await client.connect()
        writer.write(WHOLE)
        await reader.readuntil(b"}")
        writer.write_eof()
        assert await to_the_end(reader) == b""
        reader, writer = await client.connect()
        writer.write(WHOLE[:-1])
        writer.write_eof()
        assert await to_the_end(reader) == b""
        await eventually(lambda: not client.server.api.connections.open)


@pytest.mark.parametrize("whole", [1, 3])
@pytest.mark.parametrize("part", [WHOLE[:-1], HEAD + LENGTH, HEAD[:30]])
async def test_a_part_of_a_request_at_the_end_takes_no_answer_from_those_before_it(
    whole: int, part: bytes
) -> None:
    async with serving(idle_deadline=600, request_deadline=600) as client:
        for first, then in ((WHOLE * whole + part, b""), (WHOLE * whole, part)):
            reader, writer = await client.connect()
            writer.write(first)
            if then:
                await reader.readuntil(b"}")
                writer.write(then)
            writer.write_eof()
            answers = (await to_the_end(reader)).count(b"HTTP/1.1 200")
            assert answers == whole - bool(then)  # one was read already
        await eventually(lambda: not client.server.api.connections.open)
        assert client.server.api.metrics.open_requests == 0


async def test_what_a_server_finds_sent_when_it_ends_is_answered() -> None:
    async with serving() as client:
        held = [await client.connect() for _ in range(3)]
        for reader, writer in held:
            writer.write(WHOLE)
            await reader.readuntil(b"}")
        for _, writer in held[:2]:
            writer.write(WHOLE)  # it is in the socket, which the server has not read
        await client.server.api.connections.drain()
        for reader, _ in held[:2]:
            answer = await to_the_end(reader)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"\r\nConnection: close\r\n" in answer
        assert await to_the_end(held[2][0]) == b""


@pytest.mark.parametrize(
    ("peer", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),  # a household has 2^64 of them
        ("127.0.0.1", None),
        ("::ffff:127.0.0.1", None),  # as a socket of both families shows it
        ("::1", None),
    ],
)
def test_which_address_a_client_counts_for(peer: str, counted_as: str | None) -> None:
    assert connections._remote(peer) == counted_as
