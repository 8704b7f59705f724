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
