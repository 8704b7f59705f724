"""Keys that move from one server of a cluster to another, and servers that claim it wrongly."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from crdtbucket import Bucket, BucketSpec, Degradation, Limiter, Mode, RedisConfig
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.redis import topology
from crdtbucket.strong.strong_bucket import StrongBucket
from tests.strong.fake_server import fake, friendly
from tests.strong.redis_groups import cluster
from tests.strong.redis_server import PATIENT, Server
from tests.waits import eventually

SPEC = BucketSpec("api", 1_000, 1, "1h")
KEY = "tenant-42"
PATIENTLY = Degradation(modes=ControllerSettings(**PATIENT))  # type: ignore[arg-type]


def strong(config: RedisConfig, degradation: Degradation = PATIENTLY) -> Limiter:
    return Limiter([SPEC], node="n1", redis=config, consistency="strong", degradation=degradation)


def place(limiter: Limiter, nodes: list[Server]) -> tuple[bytes, int, Server]:
    """The Redis key of `KEY`, its slot, and the server that has it."""
    bucket = limiter.bucket("api")
    assert isinstance(bucket, StrongBucket)
    name = bucket.store.ledger.names.key(bucket, bucket.hash(KEY))
    slot = topology.slot(name)
    return name, slot, next(one for one in nodes if one.call("CLUSTER", "COUNTKEYSINSLOT", slot))


def begin_move(name: bytes, slot: int, source: Server, target: Server) -> None:
    """The slot is on its way and this key has arrived: the source answers ASK."""
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.call("CLUSTER", "MYID"))
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.call("CLUSTER", "MYID"))
    source.call("MIGRATE", target.host, target.port, name, 0, 5_000)


def end_move(slot: int, nodes: list[Server], target: Server) -> None:
    """The slot belongs to the target: the source answers MOVED."""
    owner = target.call("CLUSTER", "MYID")
    for one in [target, *(node for node in nodes if node is not target)]:
        one.call("CLUSTER", "SETSLOT", slot, "NODE", owner)


async def test_a_key_on_its_way_is_asked_for_where_it_is_and_charged_once() -> None:
    async with cluster() as nodes:
        config = RedisConfig(host=nodes[0].host, port=nodes[0].port, cluster=True, deadline=10.0)
        async with strong(config) as limiter:
            bucket = limiter.bucket("api")
            decisions = [await bucket.acquire(KEY, 5)]
            name, slot, source = place(limiter, nodes)
            target = next(one for one in nodes if one is not source)
            begin_move(name, slot, source, target)
            decisions += await asyncio.gather(*(bucket.acquire(KEY, 5) for _ in range(30)))
            end_move(slot, nodes, target)
            decisions += await asyncio.gather(*(bucket.acquire(KEY, 5) for _ in range(30)))
            await eventually(lambda: not limiter.stats()["strong"]["unsettled"])
            decisions.append(await bucket.acquire(KEY, 5))
            assert {(d.allowed, d.mode) for d in decisions} == {(True, Mode.STRONG)}
            assert decisions[-1].remaining == 1_000 - 5 * len(decisions)
            assert not limiter.stats()["strong"]["unclaimed_charges"]
            assert all(not one["failed"] for one in limiter.stats()["redis"].values())
        fields = target.call("HGETALL", name)
        records = [v.split() for k, v in zip(fields[::2], fields[1::2], strict=True) if b":" in k]
        assert [(int(one[1]), int(one[2])) for one in records] == [(5 * len(decisions), 0)]


async def test_an_endpoint_that_only_sends_elsewhere_is_well() -> None:
    """What another server answers is no silence of this one."""
    async with cluster() as nodes:
        config = RedisConfig(host=nodes[0].host, port=nodes[0].port, cluster=True, deadline=5.0)
        hasty = Degradation(modes=ControllerSettings(latency_limit=0.2, outage_after=0.25))
        async with strong(config, hasty) as limiter:
            bucket = limiter.bucket("api")
            await bucket.acquire(KEY)
            name, slot, source = place(limiter, nodes)
            begin_move(name, slot, source, next(one for one in nodes if one is not source))
            assert (await bucket.acquire(KEY)).mode == "strong"
            address = f"{source.host}:{source.port}"
            assert isinstance(bucket, StrongBucket)
            endpoint = next(e for a, e in bucket.store.endpoints.items() if str(a) == address)
            # Nothing is open there, so no time that passes can make it an outage.
            assert endpoint.health.controller.next_tick(endpoint.health.now()) is None
            assert endpoint.dispatcher.open_calls == 0


HASTY = Degradation(modes=ControllerSettings(outage_after=0.2))


async def until_fallback(bucket: Bucket, keys: list[str]) -> None:
    """Asks on, in turn; every caller gets an answer."""
    for key in itertools.cycle(keys):
        if bucket.mode is Mode.FALLBACK:
            return
        assert (await bucket.acquire(key)).mode == "fallback"
        await asyncio.sleep(0.005)


async def test_a_node_of_a_cluster_that_is_taken_for_a_single_server_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cluster() as nodes:
        config = RedisConfig(host=nodes[0].host, port=nodes[0].port)
        with caplog.at_level(logging.WARNING, "crdtbucket.strong"):
            async with strong(config, HASTY) as limiter:
                bucket = limiter.bucket("api")
                theirs = [key for key in map(str, range(99)) if slot_of(bucket, key) > 6_000]
                await asyncio.wait_for(until_fallback(bucket, theirs), 60)
        (said,) = [line for line in caplog.messages if "cluster" in line]
        assert "set cluster=True, or redis+cluster:// in the url" in said


@pytest.mark.parametrize("reply", [b"-MOVED x\r\n", b"-ASK 7\r\n", b"-MOVED 1 h:0\r\n"])
async def test_a_server_that_sends_nowhere_is_out_of_order(reply: bytes) -> None:
    def answer(command: list[bytes]) -> bytes:
        return reply if command[0] == b"EVALSHA" else friendly(command)

    async with fake(answer) as server:
        config = RedisConfig(host=server.address.host, port=server.address.port)
        async with strong(config, HASTY) as limiter:
            bucket = limiter.bucket("api")
            await asyncio.wait_for(until_fallback(bucket, [KEY]), 60)
            assert len(server.clients) == 1  # its connection is not to blame


def slot_of(bucket: Bucket, key: str) -> int:
    assert isinstance(bucket, StrongBucket)
    return topology.slot(bucket.store.ledger.names.key(bucket, bucket.hash(key)))


MILD = ControllerSettings(
    latency_limit=0.5, outage_after=0.6, stable_after=0.2, stable_after_failover=0.2,
    least_return_gap=0.0, probe_interval=0.02,
)  # fmt: skip


async def test_a_server_that_gave_away_the_slot_of_its_probe_is_strong_again_after_an_outage() -> (
    None
):
    async with cluster() as nodes:
        config = RedisConfig(host=nodes[0].host, port=nodes[0].port, cluster=True, deadline=0.1)
        async with strong(config, Degradation(modes=MILD)) as limiter:
            bucket = limiter.bucket("api")
            assert isinstance(bucket, StrongBucket)
            await bucket.acquire(KEY)
            _, own, source = place(limiter, nodes)
            target = next(one for one in nodes if one is not source)
            share = nodes.index(source)
            ranges = ((share * topology.SLOTS // 3, (share + 1) * topology.SLOTS // 3 - 1),)
            slot = topology.slot(bucket.store.registry.probe(ranges)[1].key)
            assert slot != own
            end_move(slot, nodes, target)
            source.call("CLIENT", "PAUSE", 1_500)
            while bucket.mode is not Mode.FALLBACK:
                await bucket.acquire(KEY)
            await eventually(lambda: bucket.mode is Mode.STRONG)
            assert (await bucket.acquire(KEY)).mode is Mode.STRONG
