"""Clocks that jump, also while some peers are cut off."""

from __future__ import annotations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import SECOND, drive, jump, mesh_of, stand_still, total
from tests.simulated.run import play

SLOW = BucketSpec("b", 100, 2)
"""Full after 50 s, so that a jump of a minute fills it."""
OVERLOAD = dict.fromkeys("ABC", 100.0)


def in_overload(forget_after: float = 900.0, spec: BucketSpec = SLOW) -> SimulatedMesh:
    """Three nodes that have been asked for twice the limit until nothing was left."""
    mesh = mesh_of(3, spec, forget_after=forget_after)
    drive(mesh, dict.fromkeys("ABC", 2 * spec.rate_per_second / 3), 60)
    return mesh


def twice_the_limit(mesh: SimulatedMesh, seconds: float) -> dict[str, tuple[int, int, float]]:
    return drive(mesh, dict.fromkeys("ABC", 2 * mesh.specs[0].rate_per_second / 3), seconds)


@pytest.mark.parametrize("seconds", [30.0, 300.0])
def test_a_jump_is_undone_while_another_peer_is_silent(seconds: float) -> None:
    """The silent one has not compared its clock with this one since, and is no witness against it:
    the two others would go on with what the jump has refilled."""
    mesh = in_overload()
    mesh.partition("AB", "C")
    mesh.advance(5.0)
    before = mesh["B"].peek("b", "k").debt
    jump(mesh, "A", seconds)
    mesh.advance(8.0)
    believed = SLOW.capacity / SLOW.rate_per_second / 5
    for name in "AB":
        assert mesh[name].peek("b", "k").debt >= before - (8.1 + believed) * SECOND


@pytest.mark.parametrize("seconds", [30.0, 120.0])
def test_a_peer_has_been_silent_for_no_longer_after_a_jump(seconds: float) -> None:
    """Else the node keeps for it what it could have taken in the time of the jump, and gets nothing
    for as long."""
    mesh = in_overload()
    mesh.partition("AB", "C")
    twice_the_limit(mesh, 5)
    jump(mesh, "A", seconds)
    mesh.advance(5.0)
    assert total(twice_the_limit(mesh, 60)) >= 0.8 * 60 * SLOW.rate_per_second
    assert mesh["A"].bucket("b").credit("k") == pytest.approx(
        mesh["B"].bucket("b").credit("k"), rel=0.2
    )


def test_who_falls_silent_after_a_jump_is_silent_at_once() -> None:
    mesh = in_overload()
    jump(mesh, "A", 60.0)
    mesh.advance(5.0)
    mesh.partition("A", "BC")
    mesh.advance(20.0)
    theirs = 20 * SLOW.rate_per_second * 2 / 3
    assert mesh["A"].bucket("b").credit("k") == pytest.approx(theirs, rel=0.2)


def test_peers_that_are_cut_off_are_not_forgotten_because_a_clock_jumped() -> None:
    """A node that is alone takes its part, and not all of the limit."""
    spec = BucketSpec("b", 100, 100)
    mesh = in_overload(100.0, spec)
    mesh.partition("A", "BC")
    twice_the_limit(mesh, 5)
    jump(mesh, "A", 200.0)
    allowed = twice_the_limit(mesh, 20)["A"][0]
    assert allowed <= spec.capacity + 0.5 * 20 * spec.rate_per_second
    mesh.advance(100.0)
    assert mesh["A"].node.links["B"].forgotten  # they are so in time


@pytest.mark.parametrize(
    ("seconds", "rests", "asked"), [(10, 0, 0), (10, 1, 0), (60, 0, 0), (60, 0, 20), (600, 0, 20)]
)
def test_a_node_whose_clock_jumped_keeps_its_share(
    seconds: float, rests: float, asked: float
) -> None:
    """Else the jump counts as time in which nobody asked it, and in an overload it gets less than
    the others for two minutes. `rests`: for so long nobody asks before it. `asked`: of each node,
    each second until it is noticed."""
    mesh = mesh_of(3)
    drive(mesh, dict.fromkeys("ABC", 20.0), 10)
    mesh.advance(rests)
    jump(mesh, "A", seconds)
    drive(mesh, dict.fromkeys("ABC", asked), 6)
    given = {name: allowed for name, (allowed, _, _) in drive(mesh, OVERLOAD, 10).items()}
    assert min(given.values()) >= 0.9 * max(given.values()), given


@pytest.mark.parametrize("cut", [False, True], ids=["linked", "cut off"])
@pytest.mark.parametrize("part", [0.2, 0.67], ids=["light", "twice the limit"])
def test_a_machine_that_stood_still_gives_out_no_more_than_before(part: float, cut: bool) -> None:
    mesh = mesh_of(3)
    demand = dict.fromkeys("ABC", part * 100)
    drive(mesh, demand, 10)
    if cut:
        mesh.partition("A", "BC")
    stand_still(mesh, "A", 30.0)
    given = total(drive(mesh, demand, 40))
    mesh.heal()
    given += total(drive(mesh, demand, 20))
    assert given <= 1.02 * 60 * 100
    last = drive(mesh, demand, 20)
    assert max(starved for _, _, starved in last.values()) < 1.0
    if part < 0.3:
        assert sum(denied for _, denied, _ in last.values()) == 0


def test_what_is_noted_after_a_clock_jumped_is_not_noted_for_as_much_longer() -> None:
    """It is noted before the peers' frames show the jump; else the key owes for long."""
    play(1700401)
