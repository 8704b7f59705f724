"""Two servers that are used under the name of one region are noticed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from crdtbucket._core import Table
from crdtbucket.base.address import Address
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.store_regions import RegionClaim
from tests.strong.redis_server import PROGRAMS, Server

NS = 1_000_000_000
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no redis-server here: make redis")


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[RedisConnection]:
    server.call("FLUSHALL")
    connection = await RedisConnection.open(Address(server.host, server.port), Access(), 60.0)
    try:
        yield connection
    finally:
        connection.abort()


def claim(table: Table, region: str = "eu") -> RegionClaim:
    return RegionClaim("crdtbucket:", Regions(region, ["eu", "us"]), table)


async def test_servers_that_overwrite_each_other_are_reported(
    shared: Server, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(max_keys=16, virtual=True)
    one, other = claim(table), claim(table)
    async with connected(shared) as connection:
        for _ in range(3):
            assert one.conflict == ""  # once may be an old copy
            await one.make(connection, "a" * 40)
            await other.make(connection, "b" * 40)  # as replication brings it
            table.set_time(table.now() + 5 * NS)
        assert "another server" in one.conflict
        assert "'eu'" in one.conflict
        assert "bbbb" in one.conflict
        told = [record for record in caplog.records if record.levelname == "CRITICAL"]
        assert len(told) == 2  # each once
        for _ in range(15):  # the other one is gone
            await one.make(connection, "a" * 40)
            table.set_time(table.now() + 5 * NS)
        assert one.conflict == ""


async def test_a_restart_and_an_old_copy_are_no_second_server(shared: Server) -> None:
    table = Table(max_keys=16, virtual=True)
    one, other = claim(table), claim(table)
    async with connected(shared) as connection:
        for run_id in ("a", "a", "b", "b", "c"):  # the processes of a region follow one another
            await one.make(connection, run_id)
            await other.make(connection, run_id)
        old = shared.call("GET", "crdtbucket:{server}@eu").replace(b"c", b"b", 1)
        shared.call("SET", "crdtbucket:{server}@eu", old)  # an old copy came back
        await one.make(connection, "c")
        await one.make(connection, "c")
        assert (one.conflict, other.conflict) == ("", "")


async def test_a_server_that_does_not_say_which_it_is_is_not_claimed(shared: Server) -> None:
    async with connected(shared) as connection:
        one = claim(Table(max_keys=16, virtual=True))
        await one.make(connection, None)
        assert shared.call("EXISTS", "crdtbucket:{server}@eu") == 0


async def test_regions_that_hash_keys_otherwise_are_reported(shared: Server) -> None:
    async with connected(shared) as connection:
        eu = claim(Table(max_keys=16, virtual=True, hash_key=b"a" * 16))
        us = claim(Table(max_keys=16, virtual=True, hash_key=b"b" * 16), "us")
        for _ in range(2):
            await eu.make(connection, "a" * 40)
            await us.make(connection, "b" * 40)
        assert "region 'us' hash keys of buckets otherwise" in eu.conflict
        assert "region 'eu'" in us.conflict
        us = claim(Table(max_keys=16, virtual=True, hash_key=b"a" * 16), "us")
        await us.make(connection, "b" * 40)
        await eu.make(connection, "a" * 40)
        assert (eu.conflict, us.conflict) == ("", "")
