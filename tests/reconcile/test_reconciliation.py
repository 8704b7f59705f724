"""Real nodes and a real Redis whose counts differ are brought up to date."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import Limiter, MeshConfig
from crdtbucket.config import load_config
from crdtbucket.errors import ConfigError
from crdtbucket.mesh.links.channel import Channel
from crdtbucket.mesh.links.hello import VERSION, Introduction, Role
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.session import Handshake
from crdtbucket.mesh.transport import mesh_network, observing_links
from crdtbucket.reconcile.observed_node import ObservationFailed
from crdtbucket.reconcile.observer import Observer
from crdtbucket.testing.fault_proxy import FaultProxy
from tests.reconcile import fleet
from tests.reconcile.fleet import SECRET, Counts, config_file, counts, holder, nodes, recorded, run
from tests.strong.redis.test_topology import cluster
from tests.strong.redis_server import Server, free_port
from tests.tombstones import add_tombstone
from tests.waits import eventually

path, server = fleet.path, fleet.server
"""Fixtures."""


async def spend(limiters: list[Limiter], key: str = "k") -> None:
    """Each node takes by itself, and no two as many tokens."""
    for number, limiter in enumerate(limiters):
        assert limiter.bucket("api").take(key, 100 + number)
        assert await limiter.bucket("strong").acquire(key, 200 + number)


async def test_all_are_brought_to_the_merged_columns_and_a_second_run_finds_nothing(
    path: Path, server: Server
) -> None:
    async with nodes(path, "a", "b", "c") as limiters:
        await spend(limiters)
        expected: dict[str, Counts] = {
            bucket: {o: c for one in limiters for o, c in counts(one, bucket, "k").items()}
            for bucket in ("api", "strong")
        }
        assert sorted(taken for _, taken, _ in expected["api"].values()) == [100, 101, 102]
        report = await run(path, limiters)
        for one in limiters:
            for bucket, merged in expected.items():
                assert counts(one, bucket, "k") == merged
            assert one.bucket("api").peek("k").remaining == 1000 - 303
        assert recorded(server, limiters[0], "k") == expected["strong"]
        assert report.complete
        assert (report.keys, report.differing_keys, report.over_admitted) == (2, 2, 0)
        behind = [101 + 102 + 201 + 202, 100 + 102 + 200 + 202, 100 + 101 + 200 + 201, 0]
        assert [one.behind_tokens for one in report.holders] == behind
        assert [one.charged for one in report.holders] == behind  # less than 1 token refills
        assert [one.left_tokens for one in report.holders] == [0, 0, 0, 0]
        again = await run(path, limiters)
        assert (again.keys, again.differing_keys, again.over_admitted) == (2, 0, 0)
        assert [one.behind_tokens for one in again.holders] == [0, 0, 0, 0]
        assert again.lines()[-1] == "Nothing to do."


@pytest.mark.parametrize(("keys", "own"), [(16, 0), (17, 0), (40, 0), (2, 14), (3, 14)])
async def test_a_table_without_room_for_all_keys_makes_a_run_incomplete(
    keys: int, own: int, path: Path
) -> None:
    """Where most keys are the node's own, one of these is evicted."""
    mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET)
    async with (
        nodes(path, "a") as (a,),
        Limiter.from_file(path, node="b", mesh=mesh, max_keys=16) as b,
    ):
        for number in range(keys):
            assert a.bucket("api").take(f"k{number}", 7)
        for number in range(own):
            assert b.bucket("api").take(f"own {number}", 7)
        report = await run(path, [a, b])
        full = keys + own > 16
        assert report.complete is not full
        assert [one.dropped > 0 for one in report.holders] == [False, full, False]
        said = "b: the table has no room for all keys: raise max_keys there."
        assert (said in report.lines()) is full
        assert ("All who answered were brought up to date." in report.lines()) is not full


async def test_a_dry_run_finds_the_same_and_changes_nothing(path: Path, server: Server) -> None:
    async with nodes(path, "a", "b") as limiters:
        await spend(limiters)
        server.call("FLUSHALL")
        before = [counts(one, b, "k") for one in limiters for b in ("api", "strong")]
        dry = await run(path, limiters, dry_run=True)
        assert [counts(one, b, "k") for one in limiters for b in ("api", "strong")] == before
        assert recorded(server, limiters[0], "k") == {}
        assert dry.differing_keys == 2
        wet = await run(path, limiters)
        assert wet.differing_keys == 2
        for a, b in zip(dry.holders, wet.holders, strict=True):
            assert (a.behind_keys, a.behind_tokens) == (b.behind_keys, b.behind_tokens)
        assert len(recorded(server, limiters[0], "k")) == 2


async def test_what_a_flushed_redis_lost_comes_back(path: Path, server: Server) -> None:
    async with nodes(path, "a", "b") as limiters:
        await spend(limiters)
        before = recorded(server, limiters[0], "k")
        server.call("FLUSHALL")
        report = await run(path, limiters)
        assert recorded(server, limiters[0], "k") == before
        redis = holder(report, "redis")
        assert (redis.behind_keys, redis.behind_tokens, redis.charged) == (1, 401, 401)
        decision = await limiters[1].bucket("strong").acquire("k", 1000 - 400)
        assert not decision.allowed
        assert (await limiters[1].bucket("strong").acquire("k", 1000 - 401)).allowed


async def test_keys_that_only_redis_knows_go_to_the_nodes(path: Path, server: Server) -> None:
    async with nodes(path, "a") as limiters:
        await limiters[0].bucket("strong").acquire("k", 300)
        known = counts(limiters[0], "strong", "k")
    async with nodes(path, "a", "b") as limiters:
        report = await run(path, limiters)
        for name, one in zip("ab", limiters, strict=True):
            assert counts(one, "strong", "k") == known
            assert holder(report, name).behind_tokens == 300
            assert one.bucket("strong").peek("k").remaining == 700
        assert (await run(path, limiters)).lines()[-1] == "Nothing to do."


async def test_over_admission_in_a_long_cut_is_found_charged_and_forgiven(path: Path) -> None:
    async with nodes(path, "a", "b", "c", "d") as limiters:
        for one in limiters:
            assert one.bucket("api").take("k", 1000)
        report = await run(path, limiters)
        assert report.over_admitted == 3000
        assert report.forgiven == 2000
        assert [one.charged for one in report.holders if one.kind == "node"] == [1000] * 4
        for one in limiters:
            debt = one.bucket("api").debt("k")
            assert debt is not None
            assert 1990 < debt / 60e9 <= 2000


async def test_linked_nodes_pass_on_what_one_is_sent_and_only_the_others_are_sent_the_rest(
    path: Path,
) -> None:
    async with nodes(path, "a", "lonely") as (a, lonely), nodes(path, "b", b=[a.address]) as (b,):
        await eventually(lambda: a.stats()["peers"] == {"b": "alive"})
        a.bucket("api").take("k", 10)
        lonely.bucket("api").take("k", 30)
        await eventually(lambda: len(counts(b, "api", "k")) == 1)
        report = await run(path, [a, lonely])
        silent = holder(report, "b")
        assert silent.error == "it was not asked"
        assert not report.complete
        merged = counts(a, "api", "k")
        assert sorted(taken for _, taken, _ in merged.values()) == [10, 30]
        assert a.stats()["peers"] == {"b": "alive"}
        assert lonely.stats()["peers"] == {}


async def test_members_are_found_by_what_the_first_one_knows(
    server: Server, tmp_path: Path
) -> None:
    path = config_file(tmp_path, server.url)
    async with nodes(path, "a") as (a,), nodes(path, "b", b=[a.address]) as (b,):
        await eventually(lambda: len(a.stats()["peers"]) == len(b.stats()["peers"]) == 1)
        text = path.read_text().replace('"127.0.0.1:1"', f'"127.0.0.1:1", peers: [{a.address}]')
        path.write_text(text)
        report = await run(path, [], peers=())
        assert {one.name for one in report.holders} == {"a", "b", "redis"}
        assert report.complete


async def test_columns_of_an_epoch_with_a_tombstone_are_nobodys_lack(path: Path) -> None:
    async with nodes(path, "a", "b") as (a, b):
        async with nodes(path, "dead") as (dead,):
            dead.bucket("api").take("k", 50)
            await run(path, [a, b, dead])
            epoch = dead._tables.main.epochs.running
        assert counts(a, "api", "k") == counts(b, "api", "k") != {}
        assert add_tombstone(a._tables.main, epoch)
        assert counts(a, "api", "k") == {}
        report = await run(path, [a, b])
        assert (report.keys, report.differing_keys) == (1, 0)


# -- under way


async def test_under_traffic_no_decision_is_lost(path: Path, server: Server) -> None:
    names = "abc"
    async with nodes(path, *names) as limiters:
        epochs = [one._tables.main.epochs.running for one in limiters]
        admitted = dict.fromkeys(("api", "strong"), 0)
        rng = random.Random(3)
        running = True

        async def take(one: Limiter) -> None:
            while running:
                key = f"k{rng.randrange(40)}"
                admitted["api"] += bool(one.bucket("api").take(key, 3)) * 3
                decision = await one.bucket("strong").acquire(key, 2)
                admitted["strong"] += decision.cost if decision.allowed else 0
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(take(one)) for one in limiters for _ in range(3)]
        for _ in range(15):
            report = await run(path, limiters)
            assert all(one.error is None for one in report.holders)
        running = False
        await asyncio.gather(*tasks)
        ledgers = [one.in_force.strong.store.ledger for one in limiters]  # type: ignore[union-attr]
        await eventually(lambda: not any(ledger.unsettled.pending for ledger in ledgers))
        await run(path, limiters)
        last = await run(path, limiters)
        assert last.differing_keys == 0
        assert [one._tables.main.epochs.running for one in limiters] == epochs
        for bucket, total in admitted.items():
            assert total > 300
            for one in limiters:
                found = [counts(one, bucket, f"k{number}") for number in range(40)]
                net = sum(t - r for key in found for _, t, r in key.values())
                assert net == total
        for number in range(40):
            mine = counts(limiters[0], "strong", f"k{number}")
            assert recorded(server, limiters[0], f"k{number}") == mine


def many(limiters: list[Limiter]) -> None:
    for number in range(5_000):
        for one in limiters:
            one.bucket("api").take(f"k{number}", 5)


async def test_a_run_that_is_stopped_leaves_the_rest_for_the_next(path: Path) -> None:
    async with nodes(path, "a", "b") as limiters:
        many(limiters)
        parts: list[float] = []
        report = await run(path, limiters, moved=parts.append, stopped=lambda: len(parts) > 1)
        assert 0 < report.done < 1
        assert report.done == parts[-1]
        assert not report.complete
        assert 0 < report.differing_keys < 5_000
        rest = await run(path, limiters)
        assert rest.differing_keys == 5_000 - report.differing_keys
        assert rest.complete
        assert (await run(path, limiters)).differing_keys == 0


async def test_a_node_that_goes_away_under_way_is_reported_and_the_others_go_on(
    path: Path,
) -> None:
    async with nodes(path, "a", "b") as limiters, nodes(path, "gone") as (gone,):
        everybody = [*limiters, gone]
        many(everybody)
        going: list[asyncio.Task[None]] = []

        def moved(part: float) -> None:
            if not going:
                going.append(asyncio.ensure_future(gone.aclose()))

        report = await run(path, everybody, moved=moved)
        await going[0]
        assert report.done == 1.0
        assert holder(report, "gone").error is not None
        assert not report.complete
        assert (await run(path, limiters)).differing_keys == 0


async def test_a_redis_that_goes_away_is_reported_and_the_nodes_go_on(tmp_path: Path) -> None:
    with Server() as own:
        path = config_file(tmp_path, own.url)
        async with nodes(path, "a", "b") as limiters:
            many(limiters)
            await limiters[0].bucket("strong").acquire("k", 5)
            report = await run(path, limiters, moved=lambda part: own.kill())
            assert "closed the connection" in str(holder(report, "redis").error)
            assert (await run(path, limiters)).differing_keys == 0


async def test_a_node_that_does_not_answer_is_given_up_in_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(path, "a", "b", "mute") as limiters:
        many(limiters[:2])
        offer = Link.offer
        monkeypatch.setattr(
            Link, "offer", lambda link, data: None if link in mute else offer(link, data)
        )
        mute: set[Link] = set()
        real = mesh_network.MeshNetwork.admit

        def admit(
            mesh: mesh_network.MeshNetwork,
            channel: Channel,
            shake: Handshake,
            *args: Any,
            **how: Any,
        ) -> Link:
            link = real(mesh, channel, shake, *args, **how)
            if mesh is limiters[2]._node.mesh and shake.peer_role is Role.OBSERVER:
                mute.add(link)
            return link

        monkeypatch.setattr(mesh_network.MeshNetwork, "admit", admit)
        # The other two answer on a busy machine, too.
        report = await run(path, limiters, timeout=3.0)
        assert holder(report, limiters[2].address).error == "no answer within 3 s"
        assert report.differing_keys == 5_000


# -- nodes that cannot be asked


async def test_a_wrong_secret_is_named(path: Path, server: Server, tmp_path: Path) -> None:
    async with nodes(path, "a", "b") as limiters:
        wrong = config_file(tmp_path, server.url, secret="another secret of these tests")
        report = await run(wrong, limiters)
        for one in report.holders:
            assert one.kind == "redis" or "shares no secret" in str(one.error)
        assert not report.complete
        assert limiters[0].stats()["mesh"]["refused"] == {"secret": 1}


async def test_a_peer_and_a_redis_that_are_not_there_are_named(tmp_path: Path) -> None:
    store = f"127.0.0.1:{free_port()}"
    path = config_file(tmp_path, f"redis://{store}/0")
    async with nodes(path, "a", "b") as limiters:
        for number, one in enumerate(limiters):
            one.bucket("api").take("k", 100 + number)
        nobody = f"127.0.0.1:{free_port()}"
        report = await run(path, [], peers=[*(one.address for one in limiters), nobody])
        assert "Connection refused" in str(holder(report, nobody).error)
        assert "cannot be reached" in str(holder(report, "redis").error)
        assert holder(report, "redis").address == store
        assert not report.complete
        assert counts(limiters[0], "api", "k") == counts(limiters[1], "api", "k")


async def test_a_node_of_an_earlier_version_is_not_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(path, "a") as limiters:

        def earlier(mesh: mesh_network.MeshNetwork, *, dialer: bool, lossy: bool) -> Handshake:
            me = Introduction(mesh._node.info, 1)
            shake = Handshake(mesh._keys, me, nonce=bytes(32), dialer=dialer)
            before = VERSION - 1
            shake.hello = replace(shake._own, lowest=before, highest=before).encode()
            return shake

        monkeypatch.setattr(mesh_network.MeshNetwork, "handshake", earlier)
        report = await run(path, limiters)
        error = str(holder(report, limiters[0].address).error)
        assert f"versions {VERSION - 1} to {VERSION - 1} and this node {VERSION}: upgrade" in error
        assert limiters[0].stats()["peers"] == {}
        assert limiters[0].stats()["mesh"]["connections"] == 0


async def test_another_definition_is_counted_and_its_level_not_adopted(
    path: Path, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    new = config_file(tmp_path / "new", server.url)
    new.write_text(new.read_text().replace("refill_rate: 60", "refill_rate: 120"))
    async with nodes(path, "a") as (a,), nodes(new, "b") as (b,):
        await a.bucket("strong").acquire("k", 300)
        b.bucket("api").take("k", 100)
        a.bucket("api").take("k", 200)
        lo, hi = a.bucket("strong").hash("k")
        name = f"crdtbucket:{{strong:{hi:016x}{lo:016x}}}"
        (field,) = [one for one in server.call("HKEYS", name) if one != b"level"]
        server.call("HDEL", name, field)
        before = server.call("HGETALL", name)
        report = await run(new, [a, b])
        assert counts(a, "api", "k") == counts(b, "api", "k")
        # Redis lacks a record; but its level is of the old definition, and is left alone.
        redis = holder(report, "redis")
        assert (redis.behind_tokens, redis.refused) == (300, 1)
        assert server.call("HGETALL", name) == before
        assert not report.complete
        assert a.bucket("api").peek("k").remaining == b.bucket("api").peek("k").remaining == 700


async def test_keys_of_buckets_that_the_file_does_not_have_are_counted(
    path: Path, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "less").mkdir()
    less = config_file(tmp_path / "less", server.url)
    less.write_text("\n".join(x for x in less.read_text().splitlines() if "api:" not in x))
    async with nodes(path, "a", "b") as limiters:
        await spend(limiters)
        report = await run(less, limiters)
        assert report.unknown_keys == 2
        assert report.keys == 1
        assert len(counts(limiters[0], "api", "k")) == 1


async def test_a_file_without_a_mesh_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text("services: {api: {limit: 100/minute}}")
    with pytest.raises(ConfigError, match="mesh"):
        await run(path, [])


# -- observers and the transport


async def test_observers_are_few_and_no_members(path: Path) -> None:
    config = load_config(path)
    assert config.mesh is not None
    async with nodes(path, "a") as (a,), AsyncExitStack() as stack:
        for _ in range(observing_links.MAX_OBSERVERS):
            caller = await stack.enter_async_context(Observer(config, config.mesh, "a", 60.0))
            peer = await caller.call(a.address)
            assert peer.name == "a"
            assert peer.members.keys() == {"a"}
        one_more = await stack.enter_async_context(Observer(config, config.mesh, "a", 60.0))
        with pytest.raises(ObservationFailed, match="as many"):
            await one_more.call(a.address)
        assert a.stats()["peers"] == {}
        mesh: Any = a._node.mesh
        assert len(mesh.links) == 0
        await stack.aclose()
        await eventually(lambda: not list(mesh._observers))
        async with Observer(config, config.mesh, "a", 60.0) as again:
            peer = await again.call(a.address)
            with pytest.raises(ObservationFailed, match="bad frames"):
                await peer.ask(payload=b"x")
        assert mesh.counters.refused == {"busy": 1, "frame": 1}


# -- a mesh that is cut, and a cluster


async def test_a_cut_mesh_is_sent_what_it_lacks_and_heals_without_charging_twice(
    path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        ports = [free_port(), free_port()]
        proxies = [FaultProxy(port) for port in ports]
        for proxy in proxies:
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        limiters = []
        for number, name in enumerate("ab"):
            mesh = MeshConfig(
                listen=f"127.0.0.1:{ports[number]}",
                advertise=f"127.0.0.1:{proxies[number].port}",
                peers=[f"127.0.0.1:{proxies[1 - number].port}"],
                secret=SECRET,
            )
            limiter = Limiter.from_file(path, node=name, mesh=mesh)
            limiters.append(await stack.enter_async_context(limiter))
        a, b = limiters
        await eventually(lambda: not (a.stats()["warming_up"] or b.stats()["warming_up"]))
        for proxy in proxies:
            proxy.cut()
        await eventually(lambda: a.stats()["peers"] == {"b": "suspect"})
        await eventually(lambda: b.stats()["peers"] == {"a": "suspect"})
        assert a.bucket("api").take("k", 100)
        assert b.bucket("api").take("k", 200)
        peers = [f"127.0.0.1:{port}" for port in ports]
        for _ in range(20):  # until its next round, a node takes the other for connected
            report = await run(path, [], peers=peers)
            if not any(holder(report, name).left_tokens for name in "ab"):
                break
            await asyncio.sleep(0.05)
        assert [holder(report, name).left_tokens for name in "ab"] == [0, 0]
        assert report.complete
        for one in limiters:
            assert one.bucket("api").debt("k") // 60_000_000_000 in (299, 300)  # type: ignore[operator]
            assert one._tables.main.stats()["refused_columns"] == 0
        frames = [one.stats()["mesh"]["frames"] for one in limiters]
        for proxy in proxies:
            proxy.heal()
        await eventually(
            lambda: all(
                one.stats()["mesh"]["frames"] > before + 20
                for one, before in zip(limiters, frames, strict=True)
            )
        )
        for one in limiters:
            assert one.bucket("api").debt("k") // 60_000_000_000 in (299, 300)  # type: ignore[operator]
            assert one.stats()["peers"].keys() == {"a", "b"} - {one.node}


async def test_a_cluster_is_read_and_written_on_every_primary(tmp_path: Path) -> None:
    async with cluster("redis-server") as servers:
        url = f"redis+cluster://{servers[0].host}:{servers[0].port}"
        path = config_file(tmp_path, url)
        async with nodes(path, "a", "b") as limiters:
            for number in range(60):
                decision = await limiters[0].bucket("strong").acquire(f"k{number}", 10)
                assert decision.mode == "strong"
            servers[1].call("FLUSHALL")
            assert 0 < sum(server.call("DBSIZE") for server in servers) < 62
            report = await run(path, limiters)
            lost = holder(report, "redis").behind_keys
            assert 0 < lost < 60
            assert holder(report, "b").behind_tokens == 600
            assert report.complete
            assert (await run(path, limiters)).lines()[-1] == "Nothing to do."
