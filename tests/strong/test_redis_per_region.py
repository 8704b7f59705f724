"""A Redis in each region: exact within one, and one limit over all as fast as replication is."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crdtbucket import InvalidSpec, Limiter, MeshConfig, RedisConfig
from crdtbucket.config import load_config
from crdtbucket.doctor.diagnosis import Diagnosis
from crdtbucket.doctor.redis_examination import examine_redis
from crdtbucket.errors import RedisReplyError
from crdtbucket.reconcile.asked_fleet import reconcile
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.registry import Registry
from crdtbucket.strong.redis.topology import SLOTS, slot
from tests.strong.redis_groups import cluster
from tests.strong.redis_server import BOUND, EAGER, PATIENT, PROGRAMS
from tests.strong.regions import KEY, SPEC, RegionWorld, region_world, state, take
from tests.waits import eventually

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no redis-server here: make redis")


async def learned(world: RegionWorld, limiter: Limiter, counts: dict[str, int]) -> None:
    """Until the member of a node has these counts: all that was taken before has been copied, and
    calls, which give back what they take, have looked at it."""
    await world.replicator.caught_up(60)
    bucket, deadline = limiter.bucket("b"), time.monotonic() + BOUND

    def others(counts: dict[str, int]) -> dict[str, int]:
        return {node: net for node, net in counts.items() if node != limiter.node}

    while others(world.counts(limiter.region)) != others(counts):
        assert time.monotonic() < deadline, (world.counts(limiter.region), counts)
        decision = await bucket.acquire(KEY)
        if decision.allowed:
            bucket.refund(decision)
        await asyncio.sleep(0.01)  # the other regions are looked at once in this time
    await eventually(lambda: world.counts(limiter.region) == counts)


async def test_what_one_region_takes_the_others_count() -> None:
    async with (
        region_world("eu", "us") as world,
        world.opened("eu") as eu,
        world.opened("eu", "eu-2") as other,
        world.opened("us") as us,
    ):
        assert await take(eu, 70)
        assert await take(other, 30)
        assert not await take(eu, 101)  # exact within the region, at once
        await learned(world, us, {"eu-1": 70, "eu-2": 30})
        assert await take(us, 60)
        await learned(world, eu, {"eu-1": 70, "eu-2": 30, "us-1": 60})
        assert not await take(other, 41)
        assert await take(other, 40)
        await learned(world, us, {"eu-1": 70, "eu-2": 70, "us-1": 60})
        homes = {owner[17:]: one.home for owner, one in world.entry("us").records.items()}  # type: ignore[union-attr]
        assert homes == {b"eu-1": b"eu", b"eu-2": b"eu", b"us-1": b"us"}


async def test_a_region_is_unknown_then_seen_then_silent_and_seen_again() -> None:
    async with region_world("eu", "us") as world, world.opened("eu") as eu:
        await eventually(lambda: eu.stats()["redis"])
        assert state(eu, "us") == "unknown"
        async with world.opened("us") as us:
            await eventually(lambda: state(eu, "us") == "seen")
            await eventually(lambda: state(us, "eu") == "seen")
            world.replicator.cut(("eu", "us"))
            await eventually(lambda: state(eu, "us") == state(us, "eu") == "silent")
            assert eu.stats()["regions"]["us"]["late"] > 0.5
            assert await take(eu, 1)
            world.replicator.heal()
            await eventually(lambda: state(eu, "us") == state(us, "eu") == "seen")


async def test_counts_are_exact_after_a_cut() -> None:
    async with (
        region_world("eu", "us", "ap") as world,
        world.opened("eu") as eu,
        world.opened("us") as us,
        world.opened("ap") as ap,
    ):
        assert await take(eu, 20)
        world.replicator.isolate("us")
        assert await take(us, 30)
        assert await take(ap, 40)
        world.replicator.heal()
        counts = {"eu-1": 20, "us-1": 30, "ap-1": 40}
        for one in (eu, us, ap):
            await learned(world, one, counts)
        assert not await take(eu, 111)
        assert await take(eu, 110)


async def test_a_member_that_was_flushed_gets_everything_again() -> None:
    async with (
        region_world("eu", "us") as world,
        world.opened("eu") as eu,
        world.opened("us") as us,
    ):
        assert await take(eu, 70)
        assert await take(us, 50)
        counts = {"eu-1": 70, "us-1": 50}
        for one in (eu, us):
            await learned(world, one, counts)
        world.servers["eu"].call("FLUSHALL")
        assert not await take(eu, 131)  # its own counts come with the call
        world.replicator.resend("eu")
        await learned(world, eu, counts)
        assert not await take(eu, 81)
        assert await take(eu, 80)


async def test_a_member_that_was_restored_from_an_old_state_loses_nothing() -> None:
    async with (
        region_world("eu", "us") as world,
        world.opened("eu") as eu,
        world.opened("eu", "eu-2") as other,
        world.opened("us") as us,
    ):
        assert await take(eu, 40)
        old = await world.replicator.held("eu", "eu")
        assert await take(other, 60)
        await learned(world, us, {"eu-1": 40, "eu-2": 60})
        await world.replicator.restore("eu", old)
        assert await take(us, 50)
        await learned(world, eu, {"eu-1": 40, "eu-2": 60, "us-1": 50})
        assert not await take(eu, 51)
        assert await take(other, 50)


async def test_a_region_that_is_added_shares_the_limit() -> None:
    async with region_world("eu", "us") as world:
        async with world.opened("eu", regions=("eu",)) as eu:
            assert await take(eu, 120)
        async with world.opened("eu", "eu-2") as eu, world.opened("us") as us:
            await learned(world, us, {"eu-1": 120})
            assert not await take(us, 81)
            assert await take(us, 80)
            await learned(world, eu, {"eu-1": 120, "us-1": 80})
            assert not await take(eu, 1)


async def test_what_a_region_took_that_is_removed_stays_counted() -> None:
    async with region_world("eu", "us") as world:
        async with world.opened("eu") as eu, world.opened("us") as us:
            assert await take(us, 120)
            await learned(world, eu, {"us-1": 120})
        async with world.opened("eu", "eu-2", regions=("eu",)) as eu:
            assert not await take(eu, 81)
            assert await take(eu, 80)
            assert world.counts("eu") == {"us-1": 120, "eu-2": 80}


async def test_a_region_that_is_renamed_counts_nothing_twice() -> None:
    async with region_world("eu", "us", "west") as world:
        async with world.opened("eu") as eu, world.opened("us") as us:
            assert await take(us, 90)
            await learned(world, eu, {"us-1": 90})
        names = ("eu", "west")
        async with (
            world.opened("eu", "eu-2", regions=names) as eu,
            world.opened("west", regions=names) as west,
        ):
            await learned(world, eu, {"us-1": 90})  # by what eu had learned before
            await learned(world, west, {"us-1": 90})
            assert await take(west, 30)
            await learned(world, eu, {"us-1": 90, "west-1": 30})
            assert not await take(eu, 81)
            assert await take(eu, 80)


async def test_a_region_without_its_server_falls_back_and_settles() -> None:
    async with (
        region_world("eu", "us") as world,
        world.opened("eu", modes=EAGER) as eu,
        world.opened("us") as us,
    ):
        assert await take(eu, 5)
        await learned(world, us, {"eu-1": 5})
        world.servers["eu"].stop()
        await eventually(lambda: eu.bucket("b").mode == "fallback")
        assert await take(eu, 10)  # of the quota, which is 20
        await eventually(lambda: state(us, "eu") == "silent")
        assert await take(us, 5)
        world.servers["eu"].start()
        await eventually(lambda: eu.bucket("b").mode == "strong")
        await world.settled(eu)
        world.replicator.resend("eu")
        for one in (eu, us):
            await learned(world, one, {"eu-1": 15, "us-1": 5})


@pytest.mark.parametrize("where", ["thread", "loop"])
async def test_a_quota_counts_the_nodes_of_all_regions(where: str) -> None:
    async with (
        region_world("eu", "us") as world,
        world.opened("eu") as eu,
        world.opened("us") as us,
        world.opened("us", "us-2"),
    ):
        shared: Callable[[Limiter], int] = lambda one: one.stats()["strong"]["sharing_nodes"]  # noqa: E731
        await eventually(lambda: shared(eu) == shared(us) == 3)
        # A beat that us-1 sent before it had counted us-2 may still be on its way.
        counted = world.beat("us", "us").version + 1
        await eventually(lambda: world.beat("eu", "us").version > counted)
        world.replicator.cut(("eu", "us"))
        await eventually(lambda: state(eu, "us") == "silent")
        assert shared(eu) == 3  # as last known
        if where == "thread":
            decision = await asyncio.to_thread(eu.bucket("b").acquire_sync, "k", 1)
            decision = await asyncio.to_thread(eu.bucket("b").acquire_sync, "k", 1)
            assert decision.allowed


async def test_a_process_that_was_not_counted_yet_does_not_speak_for_its_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unanswered(self: Registry, connection: RedisConnection) -> None:
        raise RedisReplyError("nothing came in time")

    monkeypatch.setattr(Registry, "_show", unanswered)
    async with region_world("eu", "us") as world, world.opened("us"):
        server, key = world.servers["us"], "crdtbucket:{0}:beat@us"
        await eventually(lambda: server.call("GET", key))
        start = world.beat("us", "us")
        server.call("SET", key, b"%d %d 7|" % start[:2])  # as six others had written it
        await eventually(lambda: world.beat("us", "us").version > start.version + 300)
        assert world.beat("us", "us").nodes == 7


async def test_a_mesh_carries_counts_while_replication_is_cut() -> None:
    def mesh(*peers: str) -> MeshConfig:
        return MeshConfig(listen="127.0.0.1:0", secret="0123456789abcdef", peers=peers)

    async with (
        region_world("eu", "us") as world,
        world.opened("eu", mesh=mesh()) as eu,
        world.opened("us", mesh=mesh(eu.address)) as us,
    ):
        await eventually(lambda: state(eu, "us") == state(us, "eu") == "seen")
        await eventually(lambda: "alive" in eu.stats()["peers"].values())
        world.replicator.cut(("eu", "us"))
        await eventually(lambda: state(eu, "us") == state(us, "eu") == "silent")
        assert await take(us, 30)
        await eventually(lambda: world.counts("eu") == {"us-1": 30})
        entry = world.entry("eu")
        assert entry is not None
        assert {one.home for one in entry.records.values()} == {b"us"}
        world.replicator.heal()
        assert await take(eu, 20)
        for one in (eu, us):
            await learned(world, one, {"us-1": 30, "eu-1": 20})


async def test_reconciliation_reads_and_raises_the_own_region_alone(tmp_path: Path) -> None:
    mesh = MeshConfig(listen="127.0.0.1:0", secret="0123456789abcdef")
    async with region_world("eu", "us") as world, world.opened("us", mesh=mesh) as us:
        assert await take(us, 30)
        world.servers["us"].call("HSET", "{other}@eu", "level", "a copy that nobody reads")
        file = tmp_path / "eu.yaml"
        file.write_text(
            "region: eu\nrating:\n  consistency: strong\n  bucket_backend:\n"
            f"    connection: {{url: '{world.servers['eu'].url}'}}\n"
            "    active_active: true\n    regions: [eu, us]\n"
            "mesh: {secret: 0123456789abcdef, listen: '127.0.0.1:1'}\n"
            "services: {b: {bucket: {capacity: 200, refill_rate: 1, refill_interval: 1h}}}\n"
        )
        await world.replicator.caught_up(60)
        config = load_config(file)
        report = await reconcile(config, name="a test", peers=[us.address])
        (held,) = [one for one in report.holders if one.kind == "redis"]
        assert (held.name, held.behind_tokens, held.error) == ("redis@eu", 30, None)
        assert world.counts("eu") == {"us-1": 30}
        again = await reconcile(config, name="a test", peers=[us.address])
        assert again.differing_keys == 0
        nobody = replace(config, region=None)
        with pytest.raises(InvalidSpec, match="region is missing"):
            await reconcile(nobody, name="a test", peers=[us.address])


async def test_the_doctor_tells_of_each_region() -> None:
    async with region_world("eu", "us", "ap") as world:
        modes = ControllerSettings(latency_limit=20.0, outage_after=30.0)
        config = world.config("eu")

        async def diagnoses() -> dict[str, Diagnosis]:
            found = await examine_redis(config, modes, 20.0, "eu")
            assert [one.subject for one in found[:7]] == ["redis regions"] * 7
            return {one.subject.rpartition(" ")[2]: one for one in found[7:]}

        assert (await diagnoses())["us"].text.startswith("no beat of it has come")
        async with world.opened("eu") as eu, world.opened("us"):
            await eventually(lambda: state(eu, "us") == "seen")
            found, deadline = await diagnoses(), time.monotonic() + BOUND
            while found["us"].level != "ok":  # on a busy machine it is silent now and then
                assert time.monotonic() < deadline, found["us"].text
                found = await diagnoses()
            assert found["script"].level == "ok"
            assert found["us"].text.endswith("behind, 1 node")
            assert found["ap"].level == "note"
            assert found["ap"].text.startswith("unknown")
            world.replicator.cut(("eu", "us"))
            await eventually(lambda: state(eu, "us") == "silent")
            found = await diagnoses()
            assert found["us"].level == "wrong"
            assert "silent" in found["us"].text
        (missing,) = [one for one in await examine_redis(config, modes, 20.0) if one.text]
        assert (missing.level, "region is missing" in missing.text) == ("wrong", True)


async def test_the_documented_rights_are_all_that_a_user_needs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "modes.md").read_text()
    for_all = re.search(r"An ACL user needs(.*?); in\s+a\s+cluster", text, re.DOTALL)
    for_regions = re.search(r"a-redis-in-each-region\) (`GET`.*?)\.", text)
    assert for_all is not None
    assert for_regions is not None
    pattern, *commands = re.findall(r"`([^`]+)`", for_all[1] + for_regions[1])
    rights = [f"+{command.lower().replace(' ', '|')}" for command in commands]
    async with region_world("eu", "us") as world, world.opened("us") as us:
        server = world.servers["eu"]
        server.call("ACL", "SETUSER", "limiter", "on", ">secret", f"~{pattern}", *rights)
        config = replace(world.config("eu"), url=None, host=server.host, port=server.port,
                         username="limiter", password="secret")  # fmt: skip
        async with world.opened("eu", redis=config) as eu:
            await eventually(lambda: state(eu, "us") == state(us, "eu") == "seen")
            assert await take(us, 30)
            await learned(world, eu, {"us-1": 30})
            server.call("SCRIPT", "FLUSH")
            assert await take(eu, 20)
            (stats,) = eu.stats()["redis"].values()
            assert (stats["failed"], stats["mode"]) == ({}, "strong")
        found = await examine_redis(config, ControllerSettings(**PATIENT), 20.0, "eu")
        assert [one for one in found if one.level == "wrong" and "rights" in one.subject] == []


async def test_what_a_node_granted_without_its_server_is_settled_by_its_next_epoch(
    tmp_path: Path,
) -> None:
    mesh = MeshConfig(listen="127.0.0.1:0", secret="0123456789abcdef", state_dir=str(tmp_path))
    async with region_world("eu", "us") as world, world.opened("us") as us:
        async with world.opened("eu", modes=EAGER, mesh=mesh) as eu:
            assert await take(eu, 5)
            await learned(world, us, {"eu-1": 5})
            world.servers["eu"].stop()
            await eventually(lambda: eu.bucket("b").mode == "fallback")
            assert await take(eu, 10)
        world.servers["eu"].start()
        async with world.opened("eu", modes=EAGER, mesh=mesh) as eu:
            await world.settled(eu)
            world.replicator.resend("eu")
            for one in (eu, us):
                await learned(world, one, {"eu-1": 15})


async def test_each_primary_of_a_cluster_has_a_beat_of_its_own() -> None:
    async with cluster() as nodes:
        addresses = [f"{one.host}:{one.port}" for one in nodes]
        redis = RedisConfig(
            nodes=addresses, cluster=True, deadline=10.0, active_active=True, regions=("eu", "us")
        )
        modes = ControllerSettings(**PATIENT)
        limiter = Limiter([SPEC], node="eu-1", region="eu", redis=redis, consistency="strong",
                          degradation=Degradation(modes=modes))  # fmt: skip
        async with limiter:
            for number in range(12):  # on all primaries
                assert await take(limiter, 200, f"tenant-{number}")
                assert not await take(limiter, 1, f"tenant-{number}")

            def beats() -> list[bytes]:
                found = (one.call("KEYS", "*:beat@eu") for one in nodes)
                return [keys[0] if keys else b"" for keys in found]

            await eventually(lambda: all(beats()))
            assert state(limiter, "us") == "unknown"
            assert len(set(beats())) == 3
            owners = [slot(key) * 3 // SLOTS for key in beats()]
            assert owners == [0, 1, 2]
