"""The proxy between two processes: bytes pass at once, late or not at all, as it is set."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crdtbucket.demo.demo_network import RegionNetwork
from crdtbucket.testing.carried_connection import Way
from crdtbucket.testing.fault_proxy import HOST, FaultProxy
from tests.waits import is_closed


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    server = await asyncio.start_server(echo, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def proxied(delay: float = 0.0) -> AsyncIterator[FaultProxy]:
    async with echo_server() as port:
        proxy = FaultProxy(port, delay=delay)
        await proxy.start()
        try:
            yield proxy
        finally:
            await proxy.stop()


@contextlib.asynccontextmanager
async def call(
    proxy: FaultProxy,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("turns", range(5))
def test_a_proxy_that_stops_closes_what_it_has_just_accepted(turns: int) -> None:
    async def stop_after(turns: int) -> socket.socket:
        proxy = FaultProxy()
        await proxy.start()
        caller = socket.create_connection((HOST, proxy.port))
        for _ in range(turns):
            await asyncio.sleep(0)
        await proxy.stop()
        return caller

    is_closed(stop_after(turns))


async def test_every_byte_passes_both_ways_and_the_end_too() -> None:
    sent = bytes(range(256)) * 20_000
    async with proxied() as proxy, call(proxy) as (reader, writer):

        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        received, _ = await asyncio.gather(reader.read(), send())
        assert received == sent


async def test_each_way_takes_at_least_the_delay() -> None:
    async with proxied(delay=0.05) as proxy, call(proxy) as (reader, writer):
        before = asyncio.get_running_loop().time()
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        # A timer may be early by the resolution of the loop's clock.
        assert asyncio.get_running_loop().time() - before >= 0.0999


async def test_a_cut_holds_everything_back_and_a_heal_loses_nothing() -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.cut()
        writer.write(b"two")
        async with call(proxy) as (late_reader, late_writer):
            late_writer.write(b"new")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(late_reader.read(1), 0.01)
            proxy.heal()
            assert await asyncio.wait_for(reader.readexactly(3), 60) == b"two"
            assert await asyncio.wait_for(late_reader.readexactly(3), 60) == b"new"


async def test_one_direction_is_cut_and_nobody_can_connect_until_both_pass() -> None:
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(3):
                arrived.put_nowait(data)
                writer.write(data)

    server = await asyncio.start_server(answer, HOST, 0)
    proxy = FaultProxy(server.sockets[0].getsockname()[1])
    await proxy.start()
    try:
        async with call(proxy) as (reader, writer):
            for data in (b"one", b"two"):
                writer.write(data)
                assert await asyncio.wait_for(arrived.get(), 60) == data
                if data == b"one":
                    assert await asyncio.wait_for(reader.readexactly(3), 60) == data
                    proxy.let_pass(there=True, back=False)
            async with call(proxy) as (late_reader, late_writer):
                late_writer.write(b"new")
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.05)
                assert arrived.empty()
                proxy.let_pass(there=True, back=True)
                assert await asyncio.wait_for(reader.readexactly(3), 60) == b"two"
                assert await asyncio.wait_for(late_reader.readexactly(3), 60) == b"new"
    finally:
        await proxy.stop()
        server.close()


async def test_a_reset_ends_connections_and_new_ones_are_carried() -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        await proxy.reset()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        assert proxy.connections == 0
        async with call(proxy) as (again, more):
            more.write(b"y")
            assert await again.readexactly(1) == b"y"


async def test_a_reset_arrives_as_one_at_both_ends() -> None:
    heard: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    met = asyncio.Event()

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            met.set()

        def connection_lost(self, exc: Exception | None) -> None:
            heard.set_result(exc)

    server = await asyncio.get_running_loop().create_server(Server, HOST, 0)
    proxy = FaultProxy(server.sockets[0].getsockname()[1])
    await proxy.start()
    async with call(proxy) as (reader, _):
        await asyncio.wait_for(met.wait(), 60)
        await proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 60)
        assert isinstance(await asyncio.wait_for(heard, 60), ConnectionResetError)
    await proxy.stop()
    server.close()


async def test_an_end_whose_receiver_was_reset_meanwhile_ends_the_connection() -> None:
    loop = asyncio.get_running_loop()
    failed: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failed.append(context))
    with socket.create_server((HOST, 0)) as listener, socket.socket() as caller:
        proxy = FaultProxy(listener.getsockname()[1])
        await proxy.start()
        caller.setblocking(False)
        await loop.sock_connect(caller, (HOST, proxy.port))
        listener.setblocking(False)
        server, _ = await loop.sock_accept(listener)
        await asyncio.sleep(0.05)
        # Both within one turn of the loop, which sees the end of the stream first.
        caller.shutdown(socket.SHUT_WR)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(loop.sock_recv(caller, 1), 60)
        await proxy.stop()
    assert failed == []


async def test_nobody_at_the_far_end_closes_the_call() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))  # bound, and nobody listens
        proxy = FaultProxy(unused.getsockname()[1])
        await proxy.start()
        async with call(proxy) as (reader, _):
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 60) == b""
        await proxy.stop()


async def test_the_ways_differ_and_may_change_while_a_connection_is_open() -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        assert await round_trip(reader, writer) < 5
        proxy.back.delay = 0.08
        assert await round_trip(reader, writer) >= 0.079
        proxy.there.delay = 0.04
        assert await round_trip(reader, writer) >= 0.119
        assert proxy.delay == 0.04
        proxy.delay = 0.0
        assert proxy.back == proxy.there == Way()


async def test_jitter_keeps_the_order_and_comes_from_the_seed() -> None:
    sent = b"".join(b"%06d" % number for number in range(500))
    proxies = [FaultProxy(1, seed=seed) for seed in (1, 1, 2)]
    assert len({proxy.random.random() for proxy in proxies}) == 2
    async with proxied() as proxy, call(proxy) as (reader, writer):
        proxy.there.jitter = proxy.back.jitter = 0.005
        for start in range(0, len(sent), 6):
            writer.write(sent[start : start + 6])
            await asyncio.sleep(0)
        assert await asyncio.wait_for(reader.readexactly(len(sent)), 60) == sent


async def test_a_narrow_way_passes_so_many_bytes_a_second_and_the_first_ones_early() -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        proxy.there.bandwidth = 100_000
        now = asyncio.get_running_loop().time
        before = now()
        writer.write(bytes(50_000))
        await reader.readexactly(1)
        first = now() - before
        await asyncio.wait_for(reader.readexactly(49_999), 60)
        assert now() - before >= 0.499
        assert first < now() - before - 0.1


async def test_a_sender_waits_for_a_way_that_is_full() -> None:
    async with proxied() as proxy, call(proxy) as (_, writer):
        proxy.cut()
        writer.transport.set_write_buffer_limits(0)

        async def send() -> None:
            for _ in range(100):
                writer.write(bytes(1 << 20))
                await writer.drain()

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(send(), 1)


async def test_down_refuses_and_resets_and_up_is_at_the_same_port() -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        await round_trip(reader, writer)
        port = proxy.port
        await proxy.down()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 60)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
        await proxy.down()
        await proxy.up()
        await proxy.up()
        assert proxy.port == port
        async with call(proxy) as ends:
            await round_trip(*ends)


async def test_a_reply_ends_in_the_middle_and_the_next_connection_is_whole() -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        await round_trip(reader, writer)
        proxy.reset_after(3)
        writer.write(b"reply")
        assert await asyncio.wait_for(reader.readexactly(3), 60) == b"rep"
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 60)
        async with call(proxy) as ends:
            await round_trip(*ends)


@pytest.mark.parametrize("size", [3, 5])
async def test_a_reply_stalls_and_goes_on_where_it_stopped(size: int) -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        proxy.stall_after(size)
        writer.write(b"reply")
        assert await asyncio.wait_for(reader.readexactly(size), 60) == b"reply"[:size]
        writer.write(b"again")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        async with call(proxy) as ends:
            await round_trip(*ends)  # no other connection stalls
        proxy.heal()
        rest = b"replyagain"[size:]
        assert await asyncio.wait_for(reader.readexactly(len(rest)), 60) == rest


async def test_an_end_arrives_late_when_closing_is_slow() -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        proxy.there.close_delay = 0.1
        before = asyncio.get_running_loop().time()
        writer.write(b"last")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 60) == b"last"
        assert asyncio.get_running_loop().time() - before >= 0.099
        assert proxy.connections == 0


async def test_a_unix_socket_can_be_at_the_far_end() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.start_unix_server(echo, f"{folder}/s")
        proxy = FaultProxy(path=f"{folder}/s")
        await proxy.start()
        async with call(proxy) as (reader, writer):
            await round_trip(reader, writer)
            await proxy.reset()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 60)
        await proxy.stop()
        server.close()


async def round_trip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    """Seconds that a question and its answer took."""
    now = asyncio.get_running_loop().time
    before = now()
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 60) == b"ping"
    return now() - before


async def test_stopping_frees_the_port_even_in_a_cut() -> None:
    async with proxied() as proxy:
        proxy.cut()
        async with call(proxy):
            await proxy.stop()
            with pytest.raises(OSError, match="Connect call failed"):
                await asyncio.open_connection(HOST, proxy.port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, proxy.port))


async def test_a_network_cuts_one_region_from_all_others_and_no_more() -> None:
    async with echo_server() as eu, echo_server() as us, echo_server() as ap:
        network = RegionNetwork({"eu": eu, "us": us, "ap": ap}, delay=0.0)
        await network.start()
        network.cut("us")
        peers = {region: network.mesh(region)["peers"] for region in ("eu", "us", "ap")}
        assert len({*peers["eu"], *peers["us"], *peers["ap"]}) == 6
        together = {("eu", "ap"), ("ap", "eu")}
        for caller in ("eu", "us", "ap"):
            called = [name for name in ("eu", "us", "ap") if name != caller]
            for name, address in zip(called, peers[caller], strict=True):
                linked = (caller, name) in together
                assert await passes(address, 60 if linked else 0.3) == linked
        network.heal("us")
        assert await passes(peers["us"][0])
        await network.stop()


async def passes(address: str, within_s: float = 60) -> bool:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"?")
        return await asyncio.wait_for(reader.read(1), within_s) == b"?"
    except asyncio.TimeoutError:
        return False
    finally:
        writer.transport.abort()
