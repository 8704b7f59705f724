"""Limiters that share one limit over real sockets on loopback, all in this process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgpack
import pytest

from crdtbucket import (
    Bucket,
    BucketSpec,
    Limiter,
    LimiterClosed,
    MeshConfig,
    MeshError,
    NodeConflict,
)
from crdtbucket.config import load_config
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.links.link import Link
from crdtbucket.mesh.links.peer_identity import PeerIdentity, Proof
from crdtbucket.mesh.node_info import NodeInfo
from tests.interrupted import interrupted
from tests.waits import eventually, until

SECRET = "a secret of this test"
# Nothing refills while a test runs.
SPEC = BucketSpec("ai-agent-inference", capacity=300, refill_rate=1, refill_interval="1h")
KEY = "tenant-42"


def node(name: str, *peers: str, spec: BucketSpec = SPEC, listen: str = "127.0.0.1:0") -> Limiter:
    mesh = MeshConfig(listen=listen, peers=peers, secret=SECRET, gossip_interval=0.02)
    return Limiter([spec], node=name, region=name[:2], mesh=mesh)


def peers(limiter: Limiter) -> list[str]:
    """The peers that are alive, once this node knows what they know."""
    stats = limiter.stats()
    if stats["warming_up"]:
        return []
    return [name for name, state in stats["peers"].items() if state == "alive"]


def left(limiter: Limiter, key: str = KEY) -> int:
    return limiter.bucket("ai-agent-inference").peek(key).remaining


@contextlib.asynccontextmanager
async def three() -> AsyncIterator[tuple[Limiter, Limiter, Limiter]]:
    """Three linked nodes that have warmed up."""
    async with contextlib.AsyncExitStack() as stack:
        eu = await stack.enter_async_context(node("eu-1"))
        us = await stack.enter_async_context(node("us-1", eu.address))
        ap = await stack.enter_async_context(node("ap-1", eu.address))
        nodes = (eu, us, ap)
        await eventually(lambda: all(len(peers(one)) == 2 for one in nodes))
        yield nodes


async def test_three_limiters_hold_one_limit_together() -> None:
    async with three() as nodes:
        for one in nodes:
            bucket = one.bucket("ai-agent-inference")
            for _ in range(95):
                # Not a take: what the others may be taking is held back, and their last burst is
                # remembered for several times 5 s. The last tokens are kept for their reserves.
                assert (await bucket.wait(KEY, timeout=240)).allowed
            await eventually(lambda: len({left(other) for other in nodes}) == 1)
        assert [left(one) for one in nodes] == [15, 15, 15]
        for one in nodes:
            assert not one.bucket("ai-agent-inference").take(KEY, 16)


async def test_what_one_limiter_has_taken_is_missing_at_all_of_them() -> None:
    async with three() as nodes:
        assert nodes[0].bucket("ai-agent-inference").take(KEY, 300)
        await eventually(lambda: [left(one) for one in nodes] == [0, 0, 0])
        for one in nodes:
            assert not one.bucket("ai-agent-inference").take(KEY)


async def test_three_limiters_under_overload_admit_the_limit_once() -> None:
    spec = BucketSpec("ai-agent-inference", capacity=300, refill_rate=300)
    async with contextlib.AsyncExitStack() as stack:
        eu = await stack.enter_async_context(node("eu-1", spec=spec))
        nodes = [eu]
        for name in ("us-1", "ap-1"):
            one = node(name, eu.address, spec=spec)
            nodes.append(await stack.enter_async_context(one))
        await eventually(lambda: all(len(peers(one)) == 2 for one in nodes))
        admitted, offered, most = [0, 0, 0], 0, 0
        start = time.monotonic()
        # Each offers 400 a second however late the loop runs: four limits together.
        while (now := time.monotonic()) < start + 2:
            calls = int(400 * (now - start)) - offered
            offered, most = offered + calls, max(most, calls)
            for place, one in enumerate(nodes):
                admitted[place] += one.bucket("ai-agent-inference").take_burst(KEY, calls)
            await asyncio.sleep(0.01)
        limit = 300 + 300 * (now - start)
        # Where the machine pauses for long, what is refilled above the capacity is lost, and then
        # each takes once before it has merged the takes of the two others.
        assert 0.75 * limit < sum(admitted) < 1.1 * limit + 2 * most
        assert min(admitted) > 0.15 * sum(admitted)


async def test_refunds_and_waits_reach_over_nodes() -> None:
    async with three() as nodes:
        eu, us, _ = (one.bucket("ai-agent-inference") for one in nodes)
        async with eu.reserve(KEY, estimate=300, ttl=60) as reservation:
            await eventually(lambda: left(nodes[1]) == 0)
            waiting = asyncio.ensure_future(us.wait(KEY, 50))
            await asyncio.sleep(0)
            reservation.commit(actual=100)
        # No refill comes for an hour: only the refund can end the wait.
        decision = await asyncio.wait_for(waiting, 60)
        assert decision.allowed
        await eventually(lambda: [left(one) for one in nodes] == [150, 150, 150])


async def test_leaving_ends_the_links_and_keeps_what_was_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket")
    async with node("eu-1") as eu:
        async with node("us-1", eu.address) as us:
            await eventually(lambda: peers(us) == ["eu-1"])
            assert us.bucket("ai-agent-inference").take(KEY, 200)
        # Said in the last words, without a round in between.
        await eventually(lambda: peers(eu) == [] and left(eu) == 100)
        with pytest.raises(LimiterClosed):
            us.bucket("ai-agent-inference").take(KEY)
        assert us.address == ""
        assert "mesh" not in us.stats()
        about = [message for message in caplog.messages if "us-1" in message and "link" in message]
        said = {message.partition(" us-1")[0] for message in about}
        assert said == {"linked with", "the link with"}


@pytest.mark.parametrize("peers", [(), ("127.0.0.1:9",)])
async def test_a_second_process_of_one_name_refuses_to_serve_and_the_first_goes_on(
    peers: tuple[str, ...],
) -> None:
    """Also where no peer has ever answered the first one, which so has no memory."""
    async with node("eu-1", *peers) as old:
        duplicate = node("eu-1", old.address)
        async with duplicate:
            bucket = duplicate.bucket("ai-agent-inference")

            def refuses() -> bool:
                try:
                    bucket.take(KEY)
                except NodeConflict:
                    return True
                return False

            await eventually(refuses)
        assert old.bucket("ai-agent-inference").take(KEY)


async def test_a_port_in_use_is_reported_and_can_be_tried_again() -> None:
    async with node("eu-1") as eu:
        address = eu.address
        other = node("us-1", listen=address)
        with pytest.raises(MeshError):
            await other.__aenter__()
        with pytest.raises(MeshError):
            other.__enter__()
    async with other:
        assert other.address == address


def test_with_runs_the_mesh_in_a_thread() -> None:
    before = set(threading.enumerate())
    with node("eu-1") as eu, node("us-1", eu.address) as us:
        until(lambda: peers(us) == ["eu-1"])
        assert eu.bucket("ai-agent-inference").take(KEY, 120)
        until(lambda: left(us) == 180)
    assert set(threading.enumerate()) <= before  # one of an earlier test may end meanwhile


async def test_every_line_of_the_first_example_runs() -> None:
    from crdtbucket import Decision, Mode

    keys, costs = ["a", "b"], [1, 2]
    spec = BucketSpec(
        "ai-agent-inference", capacity=10_000, refill_rate=2_000, refill_interval="1s"
    )
    async with node("us-1", spec=spec) as peer:
        limiter = Limiter(
            [spec],
            node="eu-1",
            region="eu",
            mesh=MeshConfig(listen="127.0.0.1:0", peers=[peer.address], secret=SECRET),
        )
        async with limiter:
            await eventually(lambda: peers(limiter) == ["us-1"])  # until then: its share only
            bucket = limiter.bucket("ai-agent-inference")
            decision = bucket.take("tenant-42", cost=3)
            assert isinstance(decision, Decision)
            assert decision.mode is Mode.EVENTUAL
            decision = await bucket.acquire("tenant-42", 3)
            decision = await bucket.wait("tenant-42", 3, timeout=2.0)
            with bucket.reserve("tenant-42", estimate=800, ttl=60) as r:
                r.commit(actual=412)
            async with bucket.reserve("tenant-42", estimate=800, ttl=60) as r:
                r.commit(actual=412)
            bucket.peek("tenant-42")
            bucket.refund(decision, 2)
            bucket.take_many(keys, costs)
    file = Path(__file__).parents[2] / "examples" / "openclaw.yaml"
    assert Limiter.from_file(file, node="eu-1", region="eu").bucket("ai-agent-inference")


async def test_the_fleet_shows_who_runs_what(tmp_path: Path) -> None:
    def file(name: str, version: int, peers: str) -> Path:
        path = tmp_path / name
        path.write_text(
            f"version: {version}\nnode: {name}\nregion: r-{name}\n"
            f"mesh: {{listen: '127.0.0.1:0', peers: [{peers}]}}\n"
            f"services: {{api: {{limit: {version}00/minute}}}}\n"
        )
        return path

    async with Limiter.from_file(file("a", 1, "")) as one:
        assert [row["version"] for row in one.fleet()] == [1]
        async with Limiter.from_file(file("b", 1, one.address)) as two:
            await eventually(lambda: [row["version"] for row in two.fleet()] == [1, 1])
            assert len({row["hash"] for row in two.fleet()}) == 1
            config = load_config(file("b", 2, one.address))
            two.reload(config)
            told = {
                "node": "b", "region": "r-b", "state": "alive", "version": 2,
                "hash": config.hash, "stage": 0, "rollout": None, "unseen": [],
                "mode": "eventual",
            }  # fmt: skip
            await eventually(lambda: one.fleet()[1] == told)
            await eventually(lambda: two.fleet() == one.fleet())


async def test_the_fleet_shows_in_which_mode_each_node_decides() -> None:
    strong = BucketSpec("strong", 10, 1, consistency="strong")
    redis = "redis://127.0.0.1:9"  # nothing listens on the discard port
    mesh = MeshConfig(listen="127.0.0.1:0", secret=SECRET, gossip_interval=0.02)
    async with Limiter([strong, SPEC], node="a", mesh=mesh, redis=redis) as one:
        peer = replace(mesh, peers=(one.address,))
        async with Limiter([SPEC], node="b", mesh=peer, redis=redis) as two:
            await eventually(lambda: modes(one) == modes(two) == ["fallback", "eventual"])


def modes(limiter: Limiter) -> list[str | None]:
    return [row["mode"] for row in limiter.fleet()]


async def test_a_node_whose_peers_are_silent_says_that_it_warms_up() -> None:
    # Nothing listens on the discard port.
    async with node("eu-1", "127.0.0.1:9") as eu:
        assert eu.stats()["warming_up"]
        bucket = eu.bucket("ai-agent-inference")
        assert bucket.take(KEY, 10)
        assert not bucket.take(KEY, 200)  # more than half of the capacity: not its share alone
        # Two seconds without an answer: there is nobody to wait for.
        assert (await bucket.wait(KEY, 200, timeout=60)).allowed
        assert not eu.stats()["warming_up"]


async def test_a_limiter_with_a_state_directory_remembers_its_debts(tmp_path: Path) -> None:
    spec = BucketSpec("api", capacity=100, refill_rate=1, refill_interval="1h")

    def limiter() -> Limiter:
        return Limiter(
            [spec], node="eu-1", mesh=MeshConfig(listen="127.0.0.1:0", state_dir=tmp_path)
        )

    async with limiter() as first:
        assert first.bucket("api").take("tenant", 70)
        with pytest.raises(NodeConflict, match="eu-1"):
            async with limiter():
                pass
    async with limiter() as second:
        assert second.bucket("api").peek("tenant").remaining == 30
        assert not second.bucket("api").take("tenant", 31)


async def test_a_damaged_snapshot_is_a_clear_error_and_leaves_the_name_free(tmp_path: Path) -> None:
    spec = BucketSpec("api", capacity=100, refill_rate=1)
    config = MeshConfig(listen="127.0.0.1:0", state_dir=tmp_path)
    (tmp_path / "eu-1.snapshot").write_bytes(b"\x93\x01\x02")
    with pytest.raises(MeshError, match="snapshot"):
        async with Limiter([spec], node="eu-1", mesh=config):
            pass
    (tmp_path / "eu-1.snapshot").unlink()
    async with Limiter([spec], node="eu-1", mesh=config):
        pass


async def test_a_snapshot_of_another_version_is_left_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = BucketSpec("api", capacity=100, refill_rate=1)
    config = MeshConfig(listen="127.0.0.1:0", state_dir=tmp_path)
    saved = tmp_path / "eu-1.snapshot"
    saved.write_bytes(msgpack.packb((snapshot.FORMAT - 1, 7, [], [], [])))
    async with Limiter([spec], node="eu-1", mesh=config) as limiter:
        assert limiter.bucket("api").take("tenant", 100)
    assert "eu-1 starts its epoch no. 1 without memory" in caplog.text
    assert f"format {snapshot.FORMAT - 1}, this version reads {snapshot.FORMAT}" in caplog.text
    assert "the next snapshot replaces it" in caplog.text
    assert saved.read_bytes()[1] == snapshot.FORMAT  # replaced


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
async def test_the_log_says_how_many_keys_are_left_of_the_last_epoch(
    shared: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if they have stayed in a shared table, and none comes from the snapshot."""
    spec = BucketSpec("api", capacity=100, refill_rate=1, refill_interval="1h")
    config = MeshConfig(listen="127.0.0.1:0", state_dir=tmp_path / "state")
    path = tmp_path / "table" if shared else None
    for _ in range(2):
        caplog.clear()
        caplog.set_level(logging.INFO, "crdtbucket")
        async with Limiter([spec], node="eu-1", mesh=config, shared=path) as limiter:
            assert limiter.bucket("api").take("tenant", 10)
    assert "eu-1 starts its epoch no. 2 with 1 key of the last one" in caplog.text


async def test_after_a_reboot_a_snapshot_stands_when_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = BucketSpec("api", capacity=100, refill_rate=1, refill_interval="1h")
    config = MeshConfig(listen="127.0.0.1:0", state_dir=tmp_path)
    async with Limiter([spec], node="eu-1", mesh=config) as first:
        assert first.bucket("api").take("tenant", 70)
    monkeypatch.setattr(snapshot, "boot_id", lambda: b"the boot after")
    async with Limiter([spec], node="eu-1", mesh=config) as second:
        assert second._tables.main.inbox.suspects == 1
        assert not second.bucket("api").take("tenant", 31)
        await eventually(lambda: second._tables.main.inbox.suspects == 0)
        assert second.bucket("api").peek("tenant").remaining == 30


async def test_nodes_whose_overrides_differ_count_each_override_for_itself() -> None:
    def planned(capacity: int) -> BucketSpec:
        plan = BucketSpec("any", capacity, 1, "1h")
        return replace(SPEC, overrides=[("gold-*", plan)])

    async with contextlib.AsyncExitStack() as stack:
        eu = await stack.enter_async_context(node("eu-1", spec=planned(200)))
        us = await stack.enter_async_context(node("us-1", eu.address, spec=planned(400)))
        ap = await stack.enter_async_context(node("ap-1", eu.address))
        await eventually(lambda: all(len(peers(limiter)) == 2 for limiter in (eu, us, ap)))
        assert eu.bucket(SPEC.name).take("gold-1", 120)
        # The same override with another capacity counts what was taken.
        await eventually(lambda: left(us, "gold-1") == 280)
        # A node that has no such override does nothing with it, and logs that.
        await eventually(lambda: ap.stats()["mesh"]["unknown_bucket"] > 0)
        assert left(ap, "gold-1") == 300
        assert ap.bucket(SPEC.name).take("gold-1", 10)
        assert us.bucket(SPEC.name).take("gold-1", 20)
        await eventually(lambda: left(eu, "gold-1") == 60)
        # What was taken without the override is counted where the override ends.
        bucket = us.bucket(SPEC.name)
        assert isinstance(bucket, Bucket)
        bucket.choose_by(None, ())
        await eventually(lambda: left(us, "gold-1") == 290)
        assert left(eu, "gold-1") == 60


async def test_any_thread_may_ask_for_numbers_while_links_are_made_and_end() -> None:
    numbers = itertools.count()
    async with node("eu-1") as limiter:
        mesh, machine = limiter._node.mesh, limiter._node.machine
        assert mesh is not None
        assert machine is not None

        def change() -> None:
            number = next(numbers)
            peer = NodeInfo(f"n{number}", "", 1000 + number, "", 0)
            link = SimpleNamespace(peer=peer, source="", identity=PeerIdentity(peer, 0, Proof.KEY))
            mesh.refusals.add(f"reason {number}", "a text")
            mesh.links.put(cast("Link", link))
            if number % 3:
                machine.connected(peer, 0)
            else:
                machine.links.pop(next(iter(machine.links), ""), None)

        assert interrupted(limiter._node.stats, change)["peers"]
        mesh.links._links.clear()


async def test_new_secrets_are_no_error_in_a_limiter_that_is_closed_meanwhile() -> None:
    async with node("eu-1") as limiter:
        local, mesh = limiter._node, limiter._node.identity.mesh
        assert mesh is not None
        for lines in range(100):
            for work in (local.renew, local.check_key):
                local._ended = False
                left = iter(range(lines))
                interrupted(
                    partial(work, mesh),
                    lambda left=left: next(left, None) is None and local.end(),
                )
