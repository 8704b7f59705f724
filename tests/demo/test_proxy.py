"""The proxy between the regions: bytes pass, late, held back or not at all, as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from crdtbucket.demo.network import Network
from crdtbucket.demo.proxy import HOST, Proxy


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
async def proxied(delay: float = 0.0) -> AsyncIterator[Proxy]:
    async with echo_server() as port:
        proxy = Proxy(port, delay=delay)
        await proxy.start()
        try:
            yield proxy
        finally:
            await proxy.stop()


@contextlib.asynccontextmanager
async def call(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


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
            assert await asyncio.wait_for(reader.readexactly(3), 5) == b"two"
            assert await asyncio.wait_for(late_reader.readexactly(3), 5) == b"new"


async def test_a_reset_ends_connections_and_new_ones_are_carried() -> None:
    async with proxied() as proxy, call(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        await proxy.reset()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        assert proxy.connections == 0
        async with call(proxy) as (again, more):
            more.write(b"y")
            assert await again.readexactly(1) == b"y"


async def test_nobody_at_the_far_end_closes_the_call() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))  # bound, and nobody listens
        proxy = Proxy(unused.getsockname()[1])
        await proxy.start()
        async with call(proxy) as (reader, _):
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        await proxy.stop()


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
        network = Network({"eu": eu, "us": us, "ap": ap}, delay=0.0)
        await network.start()
        network.cut("us")
        assert len({*network.peers("eu"), *network.peers("us"), *network.peers("ap")}) == 6
        passing = {}
        for caller in ("eu", "us", "ap"):
            called = [name for name in ("eu", "us", "ap") if name != caller]
            for name, address in zip(called, network.peers(caller), strict=True):
                passing[caller, name] = await passes(address)
        assert {pair for pair, passed in passing.items() if passed} == {("eu", "ap"), ("ap", "eu")}
        network.heal("us")
        assert await passes(network.peers("us")[0])
        await network.stop()


async def passes(address: str) -> bool:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"?")
        return await asyncio.wait_for(reader.read(1), 0.3) == b"?"
    except asyncio.TimeoutError:
        return False
    finally:
        writer.transport.abort()
