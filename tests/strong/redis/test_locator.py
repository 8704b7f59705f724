"""Which servers to ask for the primaries when some are gone, frozen or behind."""

from __future__ import annotations

import asyncio

import pytest

from crdtbucket import BucketSpec, ControllerSettings, Limiter, Mode, RedisConfig, RedisUnavailable
from crdtbucket.base.address import Address
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis import locator as module
from crdtbucket.strong.redis import topology
from crdtbucket.strong.redis.locator import Locator
from crdtbucket.strong.redis.topology import Topology
from tests.strong.fake_server import (
    Command,
    FakeServer,
    ScriptAnswer,
    fake,
    friendly,
    given_up_at_once,
)
from tests.strong.redis_groups import cluster, watched
from tests.strong.redis_server import free_port
from tests.waits import eventually

BOUND_S = 60.0
MODES = ControllerSettings(stable_after=0.1, stable_after_failover=0.1, least_return_gap=0.0)


def bulk(*texts: bytes) -> bytes:
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(t), t) for t in texts)


def says(name: bytes, reply: bytes) -> ScriptAnswer:
    return lambda command: reply if command[0] == name else friendly(command)


def names(server: FakeServer) -> ScriptAnswer:
    """The answer of a sentinel that names this server."""
    return says(b"SENTINEL", bulk(b"127.0.0.1", b"%d" % server.address.port))


def cluster_of(*ports: int) -> ScriptAnswer:
    """The answer of a node of a cluster: a primary and its replicas, at these ports, have all
    slots."""
    ours = [b"*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port for port in ports]
    reply = b"*1\r\n*%d\r\n:0\r\n:16383\r\n" % (2 + len(ours)) + b"".join(ours)
    return says(b"CLUSTER", reply)


def silent(command: Command) -> bytes:
    return b""


def sentinels(*several: FakeServer, timeout: float = 30.0) -> RedisConfig:
    return RedisConfig(
        sentinel_master="main",
        sentinels=[str(one.address) for one in several],
        connect_timeout=timeout,
    )


MASTER = says(b"ROLE", b"*1\r\n$6\r\nmaster\r\n")


async def test_the_one_that_answered_last_is_asked_first() -> None:
    async with fake(MASTER) as server, fake() as gone, fake() as good:
        good.answer = names(server)
        gone.answer = lambda command: b"-ERR no\r\n"
        locator = Locator(sentinels(gone, good), None)
        for _ in range(3):
            assert (await locator.locate()).primaries[0].address == server.address
        assert len(gone.clients) == 1


async def test_one_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time-out is longer than this test may take, and its answer would be as good."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    async with fake(MASTER) as server, fake(silent) as frozen, fake() as good:
        good.answer = names(server)
        locator = Locator(sentinels(frozen, good, timeout=60.0), None)
        found = await asyncio.wait_for(locator.locate(), BOUND_S)
        assert found.primaries[0].address == server.address
        assert len(frozen.clients) == 1
        await eventually(lambda: frozen.clients[0].transport.is_closing())
        good.answer, frozen.answer = silent, names(server)
        found = await asyncio.wait_for(locator.locate(), BOUND_S)
        assert found.primaries[0].address == server.address


@pytest.mark.parametrize("cluster", [False, True])
async def test_those_behind_are_asked_again_while_one_says_nothing(
    cluster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover ends only after they were asked; the time-out of the frozen one is longer than
    this test may take."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    async with fake(MASTER) as server, fake(silent) as frozen, fake() as behind:
        good = cluster_of(server.address.port) if cluster else names(server)

        def answer(command: Command) -> bytes:
            return good(command) if len(behind.clients) > 2 else b"-ERR no\r\n"

        behind.answer = answer
        config = sentinels(frozen, behind, timeout=60.0)
        if cluster:
            nodes = [str(one.address) for one in (frozen, behind)]
            config = RedisConfig(cluster=True, nodes=nodes, connect_timeout=60.0)
        found = await asyncio.wait_for(Locator(config, None).locate(), BOUND_S)
        assert found.primaries[0].address == server.address
        assert (len(frozen.clients), len(behind.clients)) == (1, 3)


async def test_a_sentinel_is_asked_again_while_its_primary_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The primary is frozen, and the sentinel names another one only later."""
    monkeypatch.setattr(topology, "PATIENCE_S", 0.01)
    async with fake(MASTER) as server, fake(silent) as frozen, fake() as sentinel:
        sentinel.answer = lambda command: names(server if sentinel.clients[2:] else frozen)(command)
        found = await asyncio.wait_for(
            Locator(sentinels(sentinel, timeout=60.0), None).locate(), BOUND_S
        )
        assert found.primaries[0].address == server.address
        assert (len(sentinel.clients), len(frozen.clients)) == (3, 1)
        await eventually(lambda: frozen.clients[0].transport.is_closing())


async def test_those_that_were_silent_are_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their time-outs end one after the other, each while the other one is asked."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    asked = 0

    async def ask(who: Address, *rest: object) -> Topology:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.03 * asked)
        raise RedisUnavailable(f"{who} did not answer", "timed_out")

    monkeypatch.setattr(module, "ask_sentinel", ask)
    config = RedisConfig(sentinel_master="main", sentinels=["a:1", "b:1"])
    with pytest.raises(RedisUnavailable, match="a:1 did not answer; b:1 did not answer"):
        await asyncio.wait_for(Locator(config, None).locate(), BOUND_S)
    assert asked == 2


async def test_those_that_were_silent_are_asked_after_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with fake(silent) as frozen, fake() as behind:
        behind.answer = lambda command: b"-ERR no\r\n"
        given_up_at_once(frozen, monkeypatch)
        locator = Locator(sentinels(frozen, behind), None)
        with pytest.raises(RedisUnavailable, match=r"did not answer .*; .* does not serve"):
            await locator.locate()
        with pytest.raises(RedisUnavailable, match=r"does not serve.*; .* did not answer"):
            await locator.locate()


async def test_nodes_that_a_cluster_had_are_asked_when_the_seed_is_gone() -> None:
    async with fake() as other:
        async with fake() as seed:
            seed.answer = cluster_of(seed.address.port, other.address.port)
            other.answer = cluster_of(other.address.port)
            locator = Locator(RedisConfig(cluster=True, nodes=[str(seed.address)]), None)
            assert (await locator.locate()).primaries[0].address == seed.address
            assert other.clients == []
        for _ in range(2):
            assert (await locator.locate()).primaries[0].address == other.address


async def test_a_cluster_is_followed_though_its_only_seed_died() -> None:
    spec = BucketSpec("b", 100, 1, "1h", consistency="strong")
    async with cluster(replicas=True) as nodes:
        config = RedisConfig(
            cluster=True, nodes=[f"{nodes[0].host}:{nodes[0].port}"], deadline=10.0
        )
        how = Degradation(modes=MODES)
        async with Limiter([spec], node="n1", redis=config, degradation=how) as limiter:
            bucket = limiter.bucket("b")
            for number in range(60):
                assert (await bucket.acquire(f"k{number}", 10)).mode is Mode.STRONG
            nodes[0].kill()
            await eventually(lambda: f"{nodes[3].host}:{nodes[3].port}" in limiter.stats()["redis"])
            await eventually(lambda: bucket.mode is Mode.STRONG)
            for number in range(60):
                decision = await bucket.acquire(f"k{number}", 10)
                assert (decision.mode, decision.remaining) == (Mode.STRONG, 80)


async def test_a_failover_is_followed_beside_a_frozen_sentinel() -> None:
    spec = BucketSpec("b", 100, 1, "1h", consistency="strong")
    async with watched() as (primary, replica, several):
        config = RedisConfig(
            sentinel_master="main",
            sentinels=[f"{one.host}:{one.port}" for one in several],
            deadline=10.0,
        )
        how = Degradation(modes=MODES)
        async with Limiter([spec], node="n1", redis=config, degradation=how) as limiter:
            bucket = limiter.bucket("b")
            assert (await bucket.acquire("k")).mode is Mode.STRONG
            several[0].freeze()
            primary.kill()
            await eventually(lambda: f"{replica.host}:{replica.port}" in limiter.stats()["redis"])
            await eventually(lambda: bucket.mode is Mode.STRONG)
            assert (await bucket.acquire("k")).mode is Mode.STRONG


async def test_a_single_server_is_asked_nothing() -> None:
    one = Address("127.0.0.1", free_port())
    layout = await Locator(RedisConfig(host=one.host, port=one.port), None).locate()
    assert layout.primaries[0].address == one
    assert layout.nodes == ()
