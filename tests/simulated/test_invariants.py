"""The named invariants that are about a whole mesh."""

from __future__ import annotations

from array import array

import pytest

from crdtbucket._core import BucketReplica
from crdtbucket.mesh.protocol.entries import HIDDEN
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.meshes import STILL, debts, drive, levels, lowest_level, mesh_of, total

FAST = BucketSpec("b", 1000, 1000)


@pytest.mark.parametrize("ppm", [0.0, 500.0])
def test_no_starvation(ppm: float) -> None:
    """2x overload for a minute: shares within a factor 2 of demand, a rare caller included."""
    mesh = mesh_of(
        4, FAST, latency=0.05, clock_drift_ppm={"A": ppm, "B": -ppm}, clock_offsets={"C": 0.037}
    )
    demand = {"A": 1400.0, "B": 400.0, "C": 198.0, "D": 2.0}
    drive(mesh, demand, 5)
    result = drive(mesh, demand, 60)
    admitted = total(result)
    for name, (allowed, _, _) in result.items():
        share = allowed / admitted
        assert demand[name] / 2000 / 2 <= share <= demand[name] / 2000 * 2, (name, result)


def test_no_silence_deadlock() -> None:
    mesh = mesh_of(3)
    demand = {"A": 60.0, "B": 50.0, "C": 40.0}
    drive(mesh, demand, 3)
    assert total(drive(mesh, demand, 30)) >= 0.99 * 3000


def test_dead_peer_leaves_my_share() -> None:
    mesh = mesh_of(2)
    demand = {"A": 100.0, "B": 100.0}
    drive(mesh, demand, 5)
    mesh.crash("A")
    assert drive(mesh, {"B": 100.0}, 30)["B"][0] >= 0.9 * 1500


def test_light_load_never_denied() -> None:
    """0.9 of the rate, through a partition and after it."""
    mesh = mesh_of(4, FAST)
    demand = {"A": 400.0, "B": 300.0, "C": 150.0, "D": 50.0}
    drive(mesh, demand, 5)
    mesh.partition(["A", "D"], ["B", "C"])
    cut = drive(mesh, demand, 20)
    mesh.heal()
    healed = drive(mesh, demand, 20)
    assert sum(denied for _, denied, _ in (*cut.values(), *healed.values())) == 0


def test_a_full_bucket_states_no_debt_whatever_it_keeps_for_silent_peers() -> None:
    mesh = mesh_of(2, FAST, latency=0.1)
    drive(mesh, {"A": 300.0, "B": 600.0}, 5)
    mesh.partition(["A"], ["B"])
    drive(mesh, {"A": 300.0}, 5)
    mesh.advance(1.0)
    node = mesh["A"]
    assert node.bucket("b").credit("k") > 1000
    _, positions = node.node.roster.announced()
    entry = array("I", [node.table.find(*node.bucket("b").hash("k"))])
    payload, _, _ = node.table.outbox.encode_entries(entry, 0, positions, 1000)
    assert payload[18] == 0
    assert not payload[16] & HIDDEN


@pytest.mark.parametrize("silent", [0.0, 10.0, 100.0])
def test_what_is_kept_for_a_silent_peer_is_not_paid_to_a_newcomer(silent: float) -> None:
    """A node that keeps no credit would again and again adopt that the bucket is full, and the
    newcomer alone would get far more than the limit."""
    mesh = mesh_of(3, BucketSpec("b", 100, 50), latency=0.05)
    drive(mesh, {"A": 5.0, "B": 5.0, "C": 30.0}, 10.0)
    mesh.partition(["A", "B"], ["C"])
    drive(mesh, {"A": 5.0, "B": 5.0}, silent)
    mesh.join("D")
    mesh.partition(["A", "B", "D"], ["C"])
    mesh.advance(2.0)
    assert total(drive(mesh, {"A": 5.0, "B": 5.0, "D": 500.0}, 10.0)) <= 1.2 * (100 + 50 * 10.0)


def test_what_is_kept_for_a_peer_is_not_charged_to_it_at_the_heal() -> None:
    """Its own takes, of which the other side knows nothing yet, would count twice."""
    mesh = mesh_of(3, BucketSpec("b", 2000, 100))
    drive(mesh, {"A": 30.0, "B": 30.0, "C": 40.0}, 30.0)
    mesh.partition(["A", "B"], ["C"])
    drive(mesh, {"C": 90.0}, 60.0)
    mesh.heal()
    assert lowest_level(mesh, 1.0) >= 1990


def test_nodes_that_keep_the_same_do_not_answer_each_other() -> None:
    """A bucket that owes no more than is kept for a silent peer is not full."""
    mesh = mesh_of(4, BucketSpec("b", 10_000, 100))
    drive(mesh, {"A": 20.0, "B": 20.0, "C": 40.0, "D": 10.0}, 10.0)
    mesh.partition(["A", "B", "D"], ["C"])
    drive(mesh, {"A": 20.0, "B": 20.0, "D": 10.0}, 10.0)
    mesh.restart("D")  # it keeps no credit, so it gets the debt by which the others decide
    drive(mesh, {"A": 20.0, "B": 20.0, "D": 10.0}, 5.0)
    frames = mesh.frames_sent
    drive(mesh, {"A": 20.0, "B": 20.0, "D": 10.0}, 10.0)
    assert mesh.frames_sent - frames < 1.1 * 4 * 3 * 100


def test_what_is_kept_for_a_silent_peer_is_not_paid_to_a_common_store() -> None:
    mesh = mesh_of(2, FAST)
    drive(mesh, {"A": 300.0, "B": 600.0}, 5)
    mesh.partition(["A"], ["B"])
    drive(mesh, {"A": 300.0}, 5)
    mesh.advance(1.0)
    bucket = mesh["A"].bucket("b")
    taken = mesh["A"].take_burst("b", "k", 800, 1)
    stated = BucketReplica(bucket).open_call("k", 1)[5]
    assert bucket.debt("k") < 0 < taken * 10**6 <= stated


def test_stated_debt_is_never_aged() -> None:
    mesh = mesh_of(2, STILL, latency=0.5, jitter=0.0)
    mesh["A"].take("b", "k", 30)
    mesh.advance(1.5)
    stated = debts(mesh)
    assert 0 <= stated["B"] - stated["A"] <= 0.8 * 10**9


def test_full_keys_are_silent() -> None:
    mesh = mesh_of(2)
    for name in "AB":
        mesh[name].take("b", "k", 50)
    mesh.advance(3.0)
    before = {name: mesh[name].node.entries_sent for name in "AB"}
    mesh.advance(10.0)
    assert {name: mesh[name].node.entries_sent for name in "AB"} == before
    assert [len(mesh[name].table) for name in "AB"] == [1, 1]
    mesh.advance(10.0)
    assert [len(mesh[name].table) for name in "AB"] == [0, 0]


def test_an_idle_key_in_debt_is_not_evicted() -> None:
    mesh = mesh_of(2, STILL)
    mesh["A"].take("b", "k", 50)
    mesh.advance(40.0)
    assert [len(mesh[name].table) for name in "AB"] == [1, 1]
    assert levels(mesh) == {"A": 50, "B": 50}


def test_memory_bound_under_flood_and_partition() -> None:
    """A flood of keys makes no indebted key forget, and least debt goes first."""
    mesh = mesh_of(2, STILL, max_keys=64)
    mesh["A"].take("b", "hot", 90)
    mesh.advance(1.0)
    mesh.partition(["A"], ["B"])
    for i in range(1000):
        mesh["A"].take("b", f"flood {i}", 1)
        mesh.advance(0.005)
    mesh.heal()
    mesh.advance(5.0)
    for name in "AB":
        assert len(mesh[name].table) <= 64
        assert mesh[name].peek("b", "hot").remaining == 10
    assert mesh["A"].table.stats()["evicted_indebted"] >= 900


def test_definition_change_keeps_tokens() -> None:
    """Roll-out from node to node and back, while takes go on: nothing is minted."""
    mesh = mesh_of(3, STILL)
    mesh["A"].take("b", "k", 40)
    mesh.advance(1.0)
    for spec in (BucketSpec("b", 100, 2, "1h"), BucketSpec("b", 50, 2, "1h"), STILL):
        for name in "ABC":
            mesh[name].bucket("b").define(spec)
            mesh.advance(0.5)
    assert levels(mesh) == {"A": 60, "B": 60, "C": 60}
    mesh["C"].take("b", "k", 10)
    mesh.advance(1.0)
    assert levels(mesh) == {"A": 50, "B": 50, "C": 50}


@pytest.mark.parametrize("size", [2, 3, 5])
def test_cold_burst_admits_little_more_than_the_capacity(size: int) -> None:
    """All nodes at once, from nothing: at most what is admitted before the first updates is
    extra."""
    mesh = mesh_of(size, FAST, latency=0.05, jitter=0.0)
    names = [f"{n}" for n in "ABCDE"[:size]]
    result = drive(mesh, dict.fromkeys(names, 4000.0), 2.0)
    unseen = (size - 1) * 4000 * 0.17  # until the first flush has come: 50 ms, a round, and back
    assert 2900 <= total(result) <= 1000 + 2000 + unseen


def test_nothing_taken_is_lost_over_any_restart() -> None:
    mesh = mesh_of(3, STILL, loss=0.2, duplication=0.2, reordering=0.3)
    for second in range(10):
        mesh["ABC"[second % 3]].take("b", "k", 5)
        mesh.advance(1.0)
        mesh.restart("ABC"[(second + 1) % 3], "empty" if second % 2 else "snapshot")
        mesh.advance(1.0)
    mesh.advance(12.0)
    assert levels(mesh) == {"A": 50, "B": 50, "C": 50}
