"""A process that stands still while the others go on, and the calls that waited for it."""

from __future__ import annotations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import SECOND, drive, levels, mesh_of, total

CAPACITY, RATE = 500, 1_000
SPEC = BucketSpec("b", CAPACITY, RATE)
DEMAND = {"A": 1_000.0, "B": 800.0, "C": 200.0}
"""Twice the limit, half of it at A."""


def back_from(pause: float, unread: float) -> SimulatedMesh:
    """A mesh in overload whose hot node has just stood still. Its part was left to it meanwhile, so
    the bucket of one server would be full."""
    mesh = mesh_of(3, SPEC, latency=0.001)
    drive(mesh, DEMAND, 10.0)
    mesh.suspend("A", pause, unread=unread)
    drive(mesh, {"B": 800.0, "C": 200.0}, pause)
    return mesh


@pytest.mark.parametrize("unread", [0.0, 0.002, 0.02, 0.2])
@pytest.mark.parametrize("pause", [2.0, 4.0, 8.0, 20.0])
def test_a_burst_after_a_pause_is_given_out_once(pause: float, unread: float) -> None:
    mesh = back_from(pause, unread)
    admitted = mesh["A"].take_burst("b", "k", round(1_000 * pause))
    assert admitted >= 0.4 * CAPACITY
    admitted += total(drive(mesh, DEMAND, 3.0))
    assert admitted == pytest.approx(3 * RATE + CAPACITY, rel=0.02)


@pytest.mark.parametrize("unread", [0.0, 0.02])
def test_what_no_call_waited_for_is_given_out_after_a_pause(unread: float) -> None:
    admitted = total(drive(back_from(8.0, unread), DEMAND, 3.0))
    assert admitted == pytest.approx(3 * RATE + CAPACITY, rel=0.02)


@pytest.mark.parametrize("unread", [0.0, 0.02])
def test_a_light_load_is_not_denied_after_a_pause(unread: float) -> None:
    mesh, light = mesh_of(3, SPEC, latency=0.001), {"A": 400.0, "B": 200.0, "C": 200.0}
    drive(mesh, light, 10.0)
    mesh.suspend("A", 8.0, unread=unread)
    drive(mesh, {"B": 200.0, "C": 200.0}, 8.0)
    assert mesh["A"].take_burst("b", "k", 100) == 100
    assert sum(denied for _, denied, _ in drive(mesh, light, 5.0).values()) == 0
    mesh.advance(2.0)
    assert set(levels(mesh).values()) == {CAPACITY}


def test_a_burst_at_the_end_of_a_partition_is_given_out_once() -> None:
    """A side that asked for nothing and then for all of a full bucket, and the other one that asked
    for more than its part all the time."""
    mesh = mesh_of(3, SPEC, latency=0.001)
    drive(mesh, DEMAND, 10.0)
    mesh.partition(["A"], ["B", "C"])
    drive(mesh, {"B": 800.0, "C": 200.0}, 8.0)
    assert mesh["A"].take_burst("b", "k", 8_000) == pytest.approx(CAPACITY, rel=0.1)
    mesh.heal()
    assert total(drive(mesh, DEMAND, 3.0)) <= 3 * RATE + 0.1 * CAPACITY


def test_what_a_side_keeps_for_others_is_no_burst_of_it() -> None:
    """All ask for twice the limit in every other five seconds, in which a bucket refills, through a
    partition that ends when one begins."""
    mesh, wave = mesh_of(3, BucketSpec("b", 1_000, 200)), dict.fromkeys("ABC", 2.0 * 200 / 3)
    for second in range(0, 50, 5):
        if second == 25:
            mesh.partition(["A"], ["B", "C"])
        drive(mesh, wave if second % 10 == 0 else {}, 5.0)
    mesh.heal()
    assert total(drive(mesh, wave, 5.0)) >= 0.95 * (1_000 + 5 * 200)


def test_calls_are_decided_before_what_waits_is_read() -> None:
    """The first round goes out in between."""
    mesh = mesh_of(2, BucketSpec("b", CAPACITY, 1), latency=0.001)
    mesh.suspend("A", 1.0, unread=0.1)
    mesh["B"].take("b", "k", 100)
    mesh.advance_to(SECOND)
    assert mesh["A"].columns("b", "k") == {}
    mesh["A"].take("b", "k", 50)
    mesh.advance(0.09)
    assert mesh["A"].columns("b", "k") == {"A": (50, 0)}
    assert mesh["B"].columns("b", "k") == {"A": (50, 0), "B": (100, 0)}
    mesh.advance(0.02)
    assert mesh["A"].columns("b", "k") == {"A": (50, 0), "B": (100, 0)}
