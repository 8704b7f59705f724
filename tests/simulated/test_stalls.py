"""Links and engines that hold frames and deliver them late: an update counts with its true age."""

from __future__ import annotations

import itertools

import pytest

from crdtbucket.mesh.protocol.rounds import UNREACHED_NS
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.meshes import NAMES, drive, mesh_of, total

SPEC = BucketSpec("b", 500, 100)


@pytest.mark.parametrize("drain", [0.0, 3.0, 6.0])
def test_late_frames_in_overload_admit_the_limit(drain: float) -> None:
    mesh = mesh_of(3, SPEC, latency=0.08)
    demand = dict.fromkeys(NAMES[:3], 2.0 * 100 / 3)
    drive(mesh, demand, 10.0)
    mesh.stall(3.0, drain)
    result = drive(mesh, demand, 3.0 + drain)
    given = total(result) / (100 * (3.0 + drain))
    assert 0.9 <= given <= 1.05, result
    assert max(starved for _, _, starved in result.values()) <= 1.0
    assert total(drive(mesh, demand, 10.0)) == pytest.approx(1000, rel=0.03)


@pytest.mark.parametrize("held", [3.0, 8.0])
@pytest.mark.parametrize("drain", [0.0, 6.0])
@pytest.mark.parametrize("capacity", [25, 500])
def test_late_frames_under_a_light_load_deny_nothing(
    held: float, drain: float, capacity: int
) -> None:
    """Nor where the credit of those three seconds is more than the bucket: what comes of them first
    is three seconds old, and the credit since then remains."""
    mesh = mesh_of(3, BucketSpec("b", capacity, 100))
    demand = dict.fromkeys(NAMES[:3], 0.6 * 100 / 3)
    drive(mesh, demand, 10.0)
    mesh.stall(held, drain)
    for _, denied, _ in drive(mesh, demand, held + drain + 20.0).values():
        assert denied == 0


@pytest.mark.parametrize("held", [3.0, 8.0, 20.0])
@pytest.mark.parametrize(("before", "idle"), [(0.0, 0.076), (0.0, 10.0), (10.0, 10.0)])
def test_late_frames_deny_nothing_where_a_key_was_asked_for_first_while_they_were_held(
    before: float, idle: float, held: float
) -> None:
    """The first ones show how much was asked for, and are some seconds old."""
    mesh, demand = mesh_of(3), dict.fromkeys(NAMES[:3], 0.9 * 100 / 3)
    drive(mesh, demand, before)
    mesh.advance(idle)
    mesh.stall(held)
    assert sum(denied for _, denied, _ in drive(mesh, demand, held + 10.0).values()) == 0


def test_takes_in_frames_that_are_too_old_for_their_rates_are_in_the_credit() -> None:
    mesh, demand = mesh_of(3), dict.fromkeys(NAMES[:3], 0.9 * 100 / 3)
    drive(mesh, demand, 10.0)
    mesh.advance(10.0)
    mesh.stall(20.0, 8.0)
    assert sum(denied for _, denied, _ in drive(mesh, demand, 38.0).values()) == 0


@pytest.mark.parametrize("known", [0.2, 0.5])
@pytest.mark.parametrize("drain", [0.0, 0.5, 6.0])
@pytest.mark.parametrize("load", [0.6, 0.75])
def test_who_learns_late_how_much_another_one_asks_for_denies_no_light_load(
    known: float, drain: float, load: float
) -> None:
    """Frames are held from the first rounds on, when rates are known from a part of a second."""
    mesh = mesh_of(2, BucketSpec("b", 300, 1000), latency=0.001)
    demand = dict.fromkeys(NAMES[:2], load * 1000 / 2)
    drive(mesh, demand, known)
    mesh.stall(3.0, drain, ("B", "A"))
    denied = [denied for _, denied, _ in drive(mesh, demand, 4.0 + drain).values()]
    assert denied == [0, 0]


@pytest.mark.parametrize("drain", [0.5, 6.0])
@pytest.mark.parametrize("load", [1.1, 1.5, 3.0])
def test_who_learns_late_how_much_another_one_asks_for_admits_the_limit(
    drain: float, load: float
) -> None:
    """In overload it is expected to have got its part of what is refilled."""
    mesh = mesh_of(2, BucketSpec("b", 1000, 1000), latency=0.001)
    demand = dict.fromkeys(NAMES[:2], load * 1000 / 2)
    given, seconds = total(drive(mesh, demand, 0.2)), 4.0 + drain
    mesh.stall(3.0, drain, ("B", "A"))
    given += total(drive(mesh, demand, seconds))
    assert given <= 1000 + 1000 * (0.2 + seconds) + 20


@pytest.mark.parametrize("at", [0.0, 5.0])
@pytest.mark.parametrize(("held", "drain"), [(8.0, 0.0), (8.0, 8.0), (8.0, 16.0)])
def test_late_frames_are_no_jump_of_a_clock(
    at: float, held: float, drain: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the first round trip as well."""
    mesh = mesh_of(3, SPEC, latency=0.15)
    mesh.advance(at)
    mesh.stall(held, drain)
    mesh.advance(held + drain + 20.0)
    assert "clock jumped" not in caplog.text


@pytest.mark.parametrize("source", ["A", "B"])
def test_one_way_that_stalls_makes_nothing_older_on_the_other(source: str) -> None:
    most = 0.2 + UNREACHED_NS / 1e9  # one that acknowledges nothing gets it all once in that time
    mesh = mesh_of(3, SPEC)
    mesh.advance(5.0)
    mesh.stall(3.0, 6.0, *((source, other) for other in NAMES[:3] if other != source))
    for _ in range(90):
        mesh.advance(0.1)
        for here, there in itertools.permutations(NAMES[:3], 2):
            node = mesh[here]
            lag = node.node.members.lags(node.local_ns(mesh.now_ns))[there][0] / 1e9
            assert lag <= most or there == source, (here, there, lag)
