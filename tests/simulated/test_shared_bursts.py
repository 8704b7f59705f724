"""Buckets that refill on both sides of a partition: a whole capacity each, or a share of it."""

from __future__ import annotations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import mesh_of

CAPACITY = 1_000
SPEC = BucketSpec("b", CAPACITY, 100)


def cut_in_overload(**options: object) -> SimulatedMesh:
    """Two nodes that both asked for the whole refill until they were cut off from each other."""
    mesh = mesh_of(2, SPEC, latency=0.08, **options)
    overload(mesh, 20)
    mesh.partition(["A"], ["B"])
    return mesh


def overload(mesh: SimulatedMesh, seconds: int) -> int:
    """Both nodes ask for the whole refill. Returns what was admitted."""
    admitted = 0
    for _ in range(seconds * 10):
        admitted += sum(mesh[name].take_burst("b", "k", 10) for name in mesh.nodes)
        mesh.advance(0.1)
    return admitted


def burst(mesh: SimulatedMesh, names: str) -> int:
    """These nodes ask for a capacity each, at once."""
    return sum(mesh[name].take_burst("b", "k", CAPACITY) for name in names)


@pytest.mark.parametrize(("bursts", "capacities"), [("whole", 2), ("share", 1)])
def test_a_trough_through_a_partition(bursts: str, capacities: int) -> None:
    mesh = cut_in_overload(partition_burst=bursts)
    overload(mesh, 20)
    mesh.advance(30.0)
    assert burst(mesh, "AB") == pytest.approx(capacities * CAPACITY, rel=0.02)


def test_a_lone_burst_gets_the_share_of_its_side() -> None:
    mesh = cut_in_overload(partition_burst="share")
    mesh.advance(30.0)
    assert burst(mesh, "A") == pytest.approx(CAPACITY / 2, rel=0.1)


def test_overload_through_a_partition_loses_nothing() -> None:
    admitted = {}
    for bursts in ("whole", "share"):
        mesh = cut_in_overload(partition_burst=bursts)
        admitted[bursts] = overload(mesh, 60)
    assert admitted["share"] == pytest.approx(admitted["whole"], rel=0.01)
    assert admitted["share"] == pytest.approx(60 * 100, rel=0.02)


def test_the_whole_capacity_is_back_after_the_partition() -> None:
    mesh = cut_in_overload(partition_burst="share")
    mesh.advance(30.0)
    mesh.heal()
    mesh.advance(2.0 + CAPACITY / 100)
    assert {mesh[name].peek("b", "k").remaining for name in mesh.nodes} == {CAPACITY}


def test_a_side_keeps_its_part_by_heads() -> None:
    """A node that was hardly called has a half beside one that was."""
    mesh = mesh_of(4, SPEC, partition_burst="share")
    for _ in range(100):
        mesh["A"].take_burst("b", "k", 5)
        mesh.advance(0.1)
    mesh["D"].take("b", "k")
    mesh.partition(["A", "B", "C"], ["D"])
    mesh.advance(60.0)
    assert burst(mesh, "D") == pytest.approx(CAPACITY / 2, rel=0.1)


def cut_in_waves(seconds: int) -> SimulatedMesh:
    """Five nodes that are cut in two as a wave begins, after so many seconds of waves."""
    spec = BucketSpec("b", 10_000, 2_000)
    mesh = mesh_of(5, spec, latency=0.08, jitter=0.5, reordering=1.0, partition_burst="share")
    waves(mesh, seconds)
    mesh.partition(["A", "B"], ["C", "D", "E"])
    return mesh


def waves(mesh: SimulatedMesh, seconds: int) -> int:
    """Each of five nodes asks for 80 % of the refill for 5 s, and for nothing for 5 s. Returns what
    was admitted."""
    admitted = 0
    for tick in range(seconds * 100):
        for name in mesh.nodes if tick % 1_000 < 500 else ():
            admitted += mesh[name].take_burst("b", "k", 16)
        mesh.advance(0.01)
    return admitted


@pytest.mark.slow
def test_only_the_wave_that_begins_with_the_cut_gets_more_than_the_refill() -> None:
    """Both sides have found a full bucket then, before they could know of the cut."""
    mesh, refill = cut_in_waves(60), 10 * 2_000
    assert refill < waves(mesh, 10) < refill + 0.16 * 10_000
    assert max(waves(mesh, 10) for _ in range(10)) < refill


def test_a_heal_makes_nobody_look_false() -> None:
    """A side owes what it has left to the other one, which knows that nobody took it."""
    mesh = cut_in_waves(20)
    waves(mesh, 20)
    mesh.heal()
    waves(mesh, 1)
    counts = [mesh[name].node.members.bounded.counts() for name in mesh.nodes]
    assert counts == [{}] * 5
