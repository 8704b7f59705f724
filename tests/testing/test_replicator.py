"""The replicator between real servers: what one member writes reaches the others, late or
damaged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from crdtbucket.testing.copy_queue import ReplicationFaults
from tests.strong.redis_server import BOUND, PROGRAMS, Server
from tests.strong.regions import QUICK, region_world
from tests.strong.tried_replicator import TriedReplicator
from tests.waits import eventually

REGIONS = ("eu", "us", "ap")

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no redis-server here: make redis")


@contextlib.asynccontextmanager
async def three(
    faults: ReplicationFaults = QUICK,
) -> AsyncIterator[tuple[dict[str, Server], TriedReplicator]]:
    async with region_world(*REGIONS, faults=faults) as world:
        yield world.servers, world.replicator


def fields(server: Server, key: str) -> dict[bytes, bytes]:
    flat = server.call("HGETALL", key)
    return dict(zip(flat[::2], flat[1::2], strict=True))


async def come_to_differ(replicator: TriedReplicator, ways: set[tuple[str, str]]) -> None:
    """Until the copies of the second region of each pair alone are not what the first one holds."""
    deadline = time.monotonic() + BOUND
    while {(one, other) for one, other, _ in await replicator.differences()} != ways:
        assert time.monotonic() < deadline, await replicator.differences()
        await asyncio.sleep(0.01)


async def test_each_region_s_own_keys_are_copied_and_no_others() -> None:
    async with three() as (servers, replicator):
        servers["eu"].call("HSET", "{k}@eu", "level", 1, "a", 2)
        servers["eu"].call("PEXPIRE", "{k}@eu", 100_000)
        servers["us"].call("HSET", "{k}@us", "level", 3)
        servers["us"].call("HSET", "{k}", "level", 9)
        servers["us"].call("SET", "beat@us", "now")
        await replicator.caught_up(BOUND)
        assert await replicator.differences() == []
        for server in servers.values():
            assert fields(server, "{k}@eu") == {b"level": b"1", b"a": b"2"}
            assert fields(server, "{k}@us") == {b"level": b"3"}
            assert server.call("GET", "beat@us") == b"now"
            assert 0 < server.call("PTTL", "{k}@eu") <= 100_000
        assert servers["ap"].call("EXISTS", "{k}") == 0
        servers["eu"].call("HDEL", "{k}@eu", "a")
        await replicator.caught_up(BOUND)
        assert fields(servers["ap"], "{k}@eu") == {b"level": b"1"}


async def test_a_cut_pair_gets_nothing_of_each_other_and_the_third_gets_both() -> None:
    async with three() as (servers, replicator):
        replicator.cut(("eu", "us"))
        for region in ("eu", "us"):
            servers[region].call("HSET", f"k@{region}", "level", 1)
        await come_to_differ(replicator, {("eu", "us"), ("us", "eu")})
        with pytest.raises(TimeoutError, match="on their way"):
            await replicator.caught_up(0.05)
        replicator.heal()
        await replicator.caught_up(BOUND)
        assert await replicator.differences() == []


async def test_a_region_whose_clock_was_set_back_gets_copies_and_its_own_are_ignored() -> None:
    async with three() as (servers, replicator):
        replicator.disregard("eu")
        servers["eu"].call("HSET", "k@eu", "level", 1)
        servers["us"].call("HSET", "k@us", "level", 1)
        await come_to_differ(replicator, {("eu", "us"), ("eu", "ap")})
        replicator.heal()
        await replicator.caught_up(BOUND)
        assert await replicator.differences() == []


async def test_torn_older_and_repeated_copies_end_as_the_newest() -> None:
    faults = ReplicationFaults(lag=0.002, torn=0.5, older=0.5, repeated=0.5)
    async with three(faults) as (servers, replicator):
        for number in range(40):
            words = [word for name in "abcd" for word in (name, number)]
            servers["eu"].call("HSET", "k@eu", "level", number, *words)
            await asyncio.sleep(0.005)
        await replicator.caught_up(BOUND)
        assert await replicator.differences() == []


async def test_a_member_that_was_killed_gets_the_others_copies_again() -> None:
    async with three() as (servers, replicator):
        for region in REGIONS:
            servers[region].call("HSET", f"k@{region}", "level", 1)
        await replicator.caught_up(BOUND)
        servers["us"].restart()
        await replicator.caught_up(BOUND)
        await come_to_differ(replicator, {("us", "eu"), ("us", "ap")})
        assert fields(servers["us"], "k@us") == {}
        await replicator.bring_back("us")
        await replicator.caught_up(BOUND)
        assert await replicator.differences() == []


async def test_fields_that_come_back_do_not_replace_what_is_new() -> None:
    async with three() as (servers, replicator):
        servers["eu"].call("HSET", "k@eu", "level", 1, "a", 1)
        await replicator.caught_up(BOUND)
        replicator.isolate("eu")
        servers["eu"].call("FLUSHALL")
        servers["eu"].call("HSET", "k@eu", "level", 2)
        await replicator.bring_back("eu")
        assert fields(servers["eu"], "k@eu") == {b"level": b"2", b"a": b"1"}
        replicator.heal()
        replicator.resend("eu")
        await replicator.caught_up(BOUND)
        assert await replicator.differences() == []


async def test_a_region_goes_back_to_an_old_state() -> None:
    async with three() as (servers, replicator):
        servers["eu"].call("HSET", "k@eu", "level", 1)
        state = await replicator.held("eu", "eu")
        servers["eu"].call("HSET", "k@eu", "level", 2, "a", 1)
        servers["eu"].call("HSET", "new@eu", "level", 1)
        await replicator.restore("eu", state)
        assert fields(servers["eu"], "k@eu") == {b"level": b"1"}
        assert fields(servers["eu"], "new@eu") == {}
        await replicator.caught_up(BOUND)
        assert fields(servers["us"], "k@eu") == {b"level": b"1"}


async def test_a_replicator_that_has_stopped_leaves_no_connection() -> None:
    async with three() as (servers, replicator):
        servers["eu"].call("HSET", "k@eu", "level", 1)
        await replicator.caught_up(BOUND)
        await replicator.stop()
        deadline = time.monotonic() + BOUND
        while len(servers["eu"].call("CLIENT", "LIST").splitlines()) > 1:  # but this one
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_a_member_that_refuses_writes_gets_the_copies_later() -> None:
    async with three() as (servers, replicator):
        servers["us"].call("CONFIG", "SET", "maxmemory", 1)
        servers["eu"].call("HSET", "k@eu", "level", 1)
        await eventually(lambda: fields(servers["ap"], "k@eu") == {b"level": b"1"})
        assert fields(servers["us"], "k@eu") == {}
        servers["us"].call("CONFIG", "SET", "maxmemory", 0)
        await replicator.caught_up(BOUND)
        assert fields(servers["us"], "k@eu") == {b"level": b"1"}


async def test_an_error_of_a_server_is_reported() -> None:
    with pytest.raises(ValueError, match="only hashes and strings"):  # noqa: PT012 - the end may raise it, too
        async with three() as (servers, replicator):
            servers["eu"].call("RPUSH", "k@eu", "no hash")
            await replicator.caught_up(BOUND)
