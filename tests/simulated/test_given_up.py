"""A member that was given up is seen again: its prediction has become debt, and its real takes
arrive now."""

from __future__ import annotations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.meshes import drive, levels, mesh_of, total

SPEC = BucketSpec("b", 500, 100)
FORGET_AFTER = 30.0


def even(names: str, load: float) -> dict[str, float]:
    return dict.fromkeys(names, load * SPEC.rate_per_second / len(names))


@pytest.mark.parametrize(("load", "after"), [(0.9, 0.0), (0.9, 1.0), (2.0, 0.0), (2.0, 1.0)])
def test_what_a_member_took_before_it_was_given_up_is_charged_once(
    load: float, after: float
) -> None:
    """Charged twice, it denied every call for five seconds, also within the limit."""
    mesh, demand = mesh_of(2, SPEC, forget_after=FORGET_AFTER), even("AB", load)
    drive(mesh, demand, 30.0)
    mesh.partition("A", "B")
    given = total(drive(mesh, demand, FORGET_AFTER + after))
    mesh.heal()
    given += total(drive(mesh, demand, 15.0))
    assert any(node.table.stats()["forgotten"] for node in mesh.nodes.values())
    refilled = min(load, 1.0) * SPEC.rate_per_second * (FORGET_AFTER + after + 15.0)
    assert 0.97 * refilled <= given <= SPEC.capacity + refilled


@pytest.mark.parametrize("members", ["AB", "ABC"])
@pytest.mark.parametrize("after", [2.0, 60.0])
def test_a_light_load_is_not_denied_when_who_was_given_up_is_heard_again_on_the_same_link(
    members: str, after: float
) -> None:
    """What it took meanwhile was refilled meanwhile: charged as of now, all nodes owed as much as
    they can, and denied every call for five seconds."""
    mesh = mesh_of(len(members), SPEC, forget_after=FORGET_AFTER)
    demand = even(members, 0.6)
    drive(mesh, demand, 30.0)
    mesh.partition("A", members[1:])
    drive(mesh, demand, FORGET_AFTER + after)
    mesh.heal()
    assert [denied for _, denied, _ in drive(mesh, demand, 10.0).values()] == [0] * len(members)


def test_what_a_member_took_before_it_seemed_to_be_dead_is_charged_once() -> None:
    """A device resets its connections for so long that two of three give it up."""
    mesh, demand = mesh_of(3, SPEC), even("ABC", 2.0)
    drive(mesh, demand, 30.0)
    mesh.sever("A", "BC")
    drive(mesh, demand, 10.5)
    assert [node.table.stats()["forgotten"] for node in mesh.nodes.values()] == [0, 1, 1]
    mesh.heal()
    starved = [seconds for _, _, seconds in drive(mesh, demand, 10.0).values()]
    assert max(starved) < 1.0  # charged twice, two got nothing for three seconds


def test_a_burst_of_a_member_that_was_given_up_is_not_hidden_by_what_was_kept_for_it() -> None:
    """A asks for nothing while it is cut off, and for all that was kept for it at the end."""
    mesh = mesh_of(2, SPEC, forget_after=FORGET_AFTER)
    drive(mesh, even("AB", 0.4), 30.0)
    mesh.partition("A", "B")
    mesh.advance(FORGET_AFTER + 0.5)
    assert mesh["A"].take_burst("b", "k", 500, 1) == 500
    mesh.heal()
    mesh.advance(1.0)
    assert max(levels(mesh).values()) <= 1.5 * SPEC.rate_per_second
