"""A Redis that forgets keys is logged, and is sent again what it forgot."""

from __future__ import annotations

import logging

import pytest

from crdtbucket import BucketSpec, Limiter, RedisConfig
from crdtbucket.base.address import Address
from crdtbucket.errors import RedisReplyError
from crdtbucket.strong import supervisor
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.resp import RedisErrorReply
from crdtbucket.strong.redis.server_facts import ServerFacts, facts, read_facts, read_time
from tests.strong.fake_server import fake, friendly
from tests.strong.redis_server import PROGRAMS, Server
from tests.waits import eventually

STILL = BucketSpec("b", 100, 1, "1h", consistency="strong")


def opened(server: Server, node: str = "n1") -> Limiter:
    modes = ControllerSettings(latency_limit=5.0, outage_after=20.0)
    config = RedisConfig(url=server.url, deadline=10.0)
    return Limiter([STILL], node=node, redis=config, degradation=Degradation(modes=modes))


def evict_all(server: Server) -> None:
    """Evicts all keys at once, as a full memory does; then there is room again."""
    before = evicted(server)
    server.call("CONFIG", "SET", "maxmemory", "1")
    while server.call("DBSIZE"):
        pass
    assert evicted(server) > before
    server.call("CONFIG", "SET", "maxmemory", "64mb")


def evicted(server: Server) -> int:
    return read_facts(server.call("INFO", "stats")).evicted or 0


def records(server: Server) -> int:
    """The number of records of all nodes and keys."""
    return sum(server.call("HLEN", key) - 1 for key in server.call("KEYS", "crdtbucket:{b:*"))


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_server_tells_what_is_asked(program: str) -> None:
    rules = ("maxmemory 64mb", "maxmemory-policy allkeys-lru")
    with Server(*rules, program=program) as server:
        connection = await RedisConnection.open(Address(server.host, server.port), Access(), 5.0)
        found = await facts(connection)
        assert (found.max_memory, found.policy, found.evicted) == (64 << 20, "allkeys-lru", 0)
        assert found.run_id is not None
        assert found.evicts
        server.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        again = await facts(connection)
        assert (again.run_id, again.evicts, again.warning) == (found.run_id, False, "")
        connection.abort()


async def test_a_user_who_may_not_ask_gets_no_facts() -> None:
    refuse = b"-NOPERM no permissions to run the 'info' command\r\n"
    async with fake(lambda c: refuse if c[0] == b"INFO" else friendly(c)) as server:
        connection = await RedisConnection.open(server.address, Access(), 5.0)
        assert await facts(connection) == ServerFacts()
        connection.abort()


@pytest.mark.parametrize(
    "reply", [None, 5, b"", b"maxmemory:\r\n", b"maxmemory:-5\r\n", b"evicted_keys:" + b"9" * 60]
)
def test_what_is_no_answer_says_nothing(reply: object) -> None:
    assert read_facts(reply) == ServerFacts()


@pytest.mark.parametrize(
    "reply", [None, b"5", [], [b"1"], [b"1", b"2", b"3"], [b"1", 2], [b"-1", b"0"], [b"1", b""]]
)
def test_what_is_no_time_is_refused(reply: object) -> None:
    assert read_time([b"1700000000", b"000042"]) == 1_700_000_000_000_042
    with pytest.raises(RedisReplyError, match="TIME was answered with something else"):
        read_time(reply)
    with pytest.raises(RedisErrorReply, match="NOPERM"):
        read_time(RedisErrorReply("NOPERM no"))


@pytest.mark.parametrize(
    ("memory", "policy", "evicts"),
    [(0, "allkeys-lru", False), (None, "allkeys-lru", False), (1, "noeviction", False),
     (1, "", False), (1, "volatile-ttl", True), (1, "allkeys-random", True)],
)  # fmt: skip
def test_all_policies_but_one_evict(memory: int | None, policy: str, evicts: bool) -> None:
    found = ServerFacts(max_memory=memory, policy=policy)
    assert found.evicts is evicts
    assert (policy in found.warning and "noeviction" in found.warning) is evicts


async def test_a_policy_that_evicts_is_a_warning_and_a_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Server("maxmemory 64mb", "maxmemory-policy volatile-lru") as server:
        async with opened(server) as limiter:
            (numbers,) = limiter.stats()["redis"].values()
            assert (numbers["evicts"], numbers["evicted"]) == (1, 0)
    (warning,) = (r for r in caplog.records if "maxmemory-policy" in r.getMessage())
    assert warning.levelno == logging.WARNING
    assert "volatile-lru" in warning.getMessage()


async def test_a_policy_that_changes_later_is_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "POLICY_NS", 10_000_000)
    with Server("maxmemory 64mb") as server:
        async with opened(server) as limiter:
            assert next(iter(limiter.stats()["redis"].values()))["evicts"] == 0
            server.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
            await eventually(lambda: next(iter(limiter.stats()["redis"].values()))["evicts"])
    assert "allkeys-lfu" in caplog.text


async def test_what_redis_evicted_is_sent_again_by_all_who_know_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody asks for these keys any more."""
    monkeypatch.setattr(supervisor, "EVICTION_NS", 10_000_000)
    with Server("maxmemory 64mb", "maxmemory-policy allkeys-lru") as server:
        async with opened(server) as one, opened(server, "n2") as two:
            for number in range(100):
                assert await one.bucket("b").acquire(f"k{number}", 60)
                assert await two.bucket("b").acquire(f"k{number}", 30)
            for _ in range(2):
                evict_all(server)
                await eventually(lambda: records(server) == 200)
            async with opened(server, "n3") as three:
                for number in range(100):
                    decision = await three.bucket("b").acquire(f"k{number}", 10)
                    assert decision.allowed
                    assert decision.remaining == 0
                    assert not await three.bucket("b").acquire(f"k{number}")
