"""Restarts from snapshots of any age: history costs nothing, and no debt is minted away."""

from __future__ import annotations

import pytest

from crdtbucket.mesh.protocol import node_memory
from crdtbucket.mesh.protocol.wire import MAX_ORIGINS
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import STILL, levels, mesh_of
from tests.simulated.network import Network

HOURLY = BucketSpec("b", 1000, 1000, "1h")


def used_up(
    size: int = 3, spec: BucketSpec = HOURLY, gossip_interval: float = 0.1
) -> SimulatedMesh:
    """Everybody knows that the bucket is empty."""
    mesh = mesh_of(size, spec, forget_after=900.0, gossip_interval=gossip_interval)
    mesh["A"].take_burst("b", "k", spec.capacity)
    mesh.advance(5.0)
    assert set(levels(mesh).values()) <= {0, 1}
    return mesh


@pytest.mark.parametrize("rebooted", [False, True])
def test_what_has_refilled_since_costs_nothing(rebooted: bool) -> None:
    mesh = used_up(gossip_interval=1.0)
    mesh.crash("A")
    mesh.advance(7300.0)
    assert [len(mesh[name].table) for name in "BC"] == [0, 0]
    mesh.restart("A", "snapshot", rebooted=rebooted)
    for _ in range(80):
        mesh.advance(0.1)
        assert levels(mesh)["B"] == levels(mesh)["C"] == 1000
    assert levels(mesh)["A"] == 1000


@pytest.mark.parametrize("rebooted", [False, True])
def test_what_others_have_seen_refill_and_be_taken_anew_counts_once(rebooted: bool) -> None:
    mesh = used_up(gossip_interval=1.0)
    mesh.crash("A")
    mesh.advance(7300.0)
    mesh["B"].take("b", "k", 10)
    mesh.advance(2.0)
    mesh.restart("A", "snapshot", rebooted=rebooted)
    mesh.advance(8.0)
    assert all(990 <= level <= 993 for level in levels(mesh).values())


@pytest.mark.parametrize("rebooted", [False, True])
def test_a_debt_is_kept_over_a_restart(rebooted: bool) -> None:
    mesh = used_up()
    mesh.crash("A")
    mesh.advance(60.0)
    mesh.restart("A", "snapshot", rebooted=rebooted)
    assert mesh["A"].peek("b", "k").remaining <= 20
    mesh.advance(4.0)
    assert all(level <= 22 for level in levels(mesh).values())


@pytest.mark.parametrize("apart", [0.0, 0.4, 1.5, 5.0])
@pytest.mark.parametrize("rebooted", [False, True])
def test_all_nodes_at_once_mint_nothing(apart: float, rebooted: bool) -> None:
    """There is nobody with memory to ask: what the snapshots say stands, and nobody has more."""
    mesh = used_up()
    for name in "ABC":
        mesh.crash(name)
    mesh.advance(2.0)
    for name in "ABC":
        mesh.restart(name, "snapshot", rebooted=rebooted)
        mesh.advance(apart)
    for _ in range(60):
        mesh.advance(0.1)
        for name, level in levels(mesh).items():
            assert level <= 7 + apart, (name, level)
    assert max(levels(mesh).values()) - min(levels(mesh).values()) <= 1


def test_one_that_starts_with_nothing_is_nobody_with_memory() -> None:
    """Its word that it knows of no debt cancels none."""
    mesh = used_up()
    for name in "ABC":
        mesh.crash(name)
    mesh.advance(2.0)
    mesh.restart("B")
    mesh.restart("C")
    mesh.advance(0.6)
    mesh.restart("A", "snapshot", rebooted=True)
    mesh.advance(6.0)
    assert max(levels(mesh).values()) <= 6


def test_a_lone_node_stands_by_its_snapshot() -> None:
    mesh = used_up()
    mesh.crash("A")
    mesh.partition(["A"], ["B", "C"])
    mesh.restart("A", "snapshot", rebooted=True)
    assert mesh["A"].table.inbox.suspects == 1
    mesh.advance(1.9)
    assert (mesh["A"].table.inbox.suspects, levels(mesh)["A"] <= 3) == (1, True)
    mesh.advance(0.3)
    assert (mesh["A"].table.inbox.suspects, levels(mesh)["A"] <= 3) == (0, True)


@pytest.mark.parametrize("peers", [0, 2])
def test_a_part_of_many_suspect_debts_is_settled_in_each_round(
    peers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until all are, the snapshot of before is what is saved."""
    monkeypatch.setattr(node_memory, "SETTLED_PLACES", 10)
    mesh = mesh_of(1 + peers, HOURLY)
    for number in range(35):
        mesh["A"].take("b", f"k{number}", 10)
    mesh.crash("A")
    mesh.advance(60.0)
    mesh.restart("A", "snapshot", rebooted=True)
    node, before = mesh["A"], mesh["A"].node.memory.snapshot()
    seen = [node.table.inbox.suspects]
    while node.table.inbox.suspects:
        mesh.advance(0.01)
        assert (node.node.memory.snapshot() is before) == bool(node.table.inbox.suspects)
        seen += [node.table.inbox.suspects] * (node.table.inbox.suspects != seen[-1])
    assert seen == [35, 25, 15, 5, 0]
    assert mesh["A"].peek("b", "k1").remaining == (1000 if peers else 990)


def test_takes_of_the_suspect_time_are_counted_everywhere() -> None:
    mesh = mesh_of(3, STILL)
    mesh["A"].take("b", "k", 20)
    mesh.advance(2.0)
    mesh.restart("A", "snapshot", rebooted=True)
    assert mesh["A"].take("b", "k", 3).allowed
    mesh.advance(4.0)
    assert set(levels(mesh).values()) == {77}
    assert mesh["C"].columns("b", "k") == {"A": (23, 0)}


def test_a_crash_before_it_is_settled_forgets_nothing() -> None:
    """The snapshot that is kept is the old one: a new one would be of this boot, and believed."""
    mesh = used_up()
    mesh.crash("A")
    old = mesh["A"].saved
    mesh.partition(["A"], ["B", "C"])
    mesh.restart("A", "snapshot", rebooted=True)
    mesh.advance(1.0)
    assert b"".join(mesh["A"].node.memory.snapshot()) == old
    mesh.advance(2.0)
    assert b"".join(mesh["A"].node.memory.snapshot()) != old


def test_a_node_that_meets_nobody_can_start_any_number_of_times() -> None:
    """Each start is another epoch, and nobody says of an old one that all know its counts."""
    mesh = mesh_of(1, HOURLY)
    for _ in range(MAX_ORIGINS + 100):
        assert mesh["A"].take("b", "k", 1).allowed
        mesh.advance(0.01)
        mesh.restart("A", "snapshot")
    assert 1000 - (MAX_ORIGINS + 100) <= mesh["A"].peek("b", "k").remaining <= 400


def test_a_reload_between_keeps_the_tokens() -> None:
    mesh = used_up()
    mesh.crash("A")
    mesh.advance(900.0)
    changed = BucketSpec("b", 1000, 2000, "1h")
    for name in "BC":
        mesh[name].bucket("b").define(changed)
    mesh.specs = [changed]
    mesh.restart("A", "snapshot")
    assert 249 <= mesh["A"].peek("b", "k").remaining <= 253
    mesh.advance(3.0)
    assert all(249 <= level <= 256 for level in levels(mesh).values())


@pytest.mark.parametrize("nodes", ["BC", "ABC"])
def test_who_began_alone_with_an_old_snapshot_drops_no_column_that_others_owe_by(
    nodes: str,
) -> None:
    """C knew the epochs of before, and no takes of them. When it was linked it said that they are
    dead: B dropped the columns, C counted none of them, and their takes were given out again."""
    linked = [nodes[i : i + 2] for i in range(len(nodes) - 1)]
    mesh = Network(nodes, [HOURLY], linked=linked, latency=0.02, seed=1)
    mesh.advance(2.0)
    memory = b"".join(mesh["C"].node.memory.snapshot())
    mesh["C"].take("b", "k", 300)
    mesh["B"].take("b", "k", 100)
    mesh.advance(1.0)
    mesh.leave("C")
    mesh.reset_pairs([("B", "C")])
    mesh.back("C", memory)
    mesh.advance(60.0)
    mesh["C"].take("b", "k", 50)
    mesh.mend([("B", "C")], resets=True)
    for _ in range(6):
        mesh.advance(10.0)
        assert all(550 <= level <= 585 for level in levels(mesh).values())
