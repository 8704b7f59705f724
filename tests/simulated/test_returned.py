"""A node whose takes come only by relays counts: when it is back after a death, or was silent for
long."""

from __future__ import annotations

from itertools import combinations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.bad_member import BadMember
from tests.simulated.meshes import drive
from tests.simulated.network import Network

QUICK = BucketSpec("quick", 10, 10)
SPEC = BucketSpec("b", 500, 50)
HOUR = BucketSpec("b", 1000, 1000, "1h")


def test_who_is_not_linked_with_it_counts_it_again() -> None:
    """A device cuts A off from B and C. D comes, linked with A alone, and A takes both others for
    dead: D gets their tombstones, and so it must get that they are back."""
    mesh = Network("ABC", [QUICK, HOUR], linked=["AB", "AC", "BC"], latency=0.02, seed=1)
    mesh.advance(2.0)
    for name in "BC":
        mesh[name].take("quick", "k", 5)
    mesh.advance(2.0)
    pairs = [("A", "B"), ("A", "C")]
    mesh.reset_pairs(pairs)
    mesh.advance(14.0)
    mesh.come("D", ["A"], 0.0, 0.0)
    mesh.advance(2.0)
    mesh["A"].take("quick", "k", 5)
    mesh.advance(60.0)
    assert marked(mesh, "A") >= {mesh[name].table.epochs.running for name in "BC"}
    mesh.mend(pairs, resets=True)
    mesh.advance(15.0)
    mesh["B"].take("b", "k", 400)
    mesh.advance(5.0)
    assert [mesh[name].peek("b", "k").remaining for name in "ABCD"] == [601] * 4
    assert mesh["D"].columns("b", "k") == {"B": (400, 0)}


def marked(mesh: Network, name: str) -> set[int]:
    """The epochs that have a tombstone at this node."""
    return {epoch for _, _, epoch, dead in mesh[name].table.epochs.origins() if dead}


TRIANGLE = "AB", "BC", "AC"
SQUARE = "AB", "BD", "DC", "AC"
"""From A to C there are two relays where the pair AC is cut."""


def counted(mesh: Network, seconds: int) -> None:
    """C is never taken for dead by a running node, and what it takes is known to all in the end."""
    epoch = mesh["C"].table.epochs.running
    for _ in range(seconds):
        mesh["C"].take("quick", "k", 6)
        mesh["B"].take("quick", "k", 6)
        for _ in range(20):  # a tombstone that is withdrawn in the next round has cost its column
            mesh.advance(0.05)
            assert not any(epoch in marked(mesh, name) for name in mesh.nodes)
    assert mesh["C"].take("b", "k", 300).allowed
    mesh.advance(3.0)
    assert all(mesh[name].columns("b", "k") == {"C": (300, 0)} for name in mesh.nodes)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("linked", [TRIANGLE, SQUARE])
def test_a_later_epoch_behind_a_cut_way_is_counted(linked: tuple[str, ...], ends: bool) -> None:
    """C returns while A can reach it over relays only: the link of A is to the epoch before, which
    A has taken for dead where its end was relayed."""
    mesh = Network("ABCD"[: len(linked)], [QUICK, HOUR], linked=linked, latency=0.02, seed=1)
    mesh.advance(2.0)
    mesh["C"].take("quick", "k", 5)
    mesh.advance(1.0)
    mesh.die("C", ends=ends)
    mesh.advance(15.0)
    assert mesh["A"].node.links["C"].forgotten == ends
    mesh.cut_ways([("A", "C"), ("C", "A")], times_out=True)
    mesh.back("C", None)
    mesh.advance(2.0)
    counted(mesh, 90)


@pytest.mark.parametrize("linked", [TRIANGLE, SQUARE])
def test_a_node_that_relays_see_is_counted_however_long_a_way_is_cut(
    linked: tuple[str, ...],
) -> None:
    """A has forgotten it for its silence."""
    nodes = "ABCD"[: len(linked)]
    mesh = Network(nodes, [QUICK, HOUR], linked=linked, latency=0.02, seed=1, forget_after=90.0)
    mesh.advance(2.0)
    mesh.cut_ways([("A", "C"), ("C", "A")], times_out=True)
    counted(mesh, 190)


def cut_off(mesh: Network, beside: str) -> list[tuple[str, str]]:
    """C takes, and is then cut off from this node for longer than it is remembered. Returns the
    ways that were cut."""
    mesh.advance(2.0)
    mesh["C"].take("quick", "k", 5)
    mesh.advance(1.0)
    ways = [("C", beside), (beside, "C")]
    mesh.cut_ways(ways, times_out=True)
    for _ in range(90):
        mesh["B"].take("quick", "k", 6)
        mesh.advance(1.0)
    return ways


def test_a_node_that_is_back_is_counted_at_the_far_end_of_a_chain() -> None:
    """A has no link to C, nor to any node that sees it: that it runs again comes from relay to
    relay, like its age."""
    mesh = Network(
        "ABCD", [QUICK, HOUR], linked=["AB", "BD", "DC"], latency=0.02, seed=1, forget_after=10.0
    )
    ways = cut_off(mesh, "D")
    assert mesh["C"].table.epochs.running in marked(mesh, "A")
    mesh.mend(ways, resets=False)
    mesh.advance(5.0)
    counted(mesh, 60)


def test_a_node_that_is_back_behind_a_bridge_is_counted_for_ever() -> None:
    """A sees C through B alone. All have taken C for dead, and announced their epochs without it
    when D came."""
    mesh = Network("ABC", [QUICK, HOUR], linked=["AB", "BC"], latency=0.02, seed=1, forget_after=10)
    ways = cut_off(mesh, "B")
    assert all(mesh["C"].table.epochs.running in marked(mesh, name) for name in "AB")
    mesh.come("D", ["B"], 0.0, 0.0)
    mesh.advance(2.0)
    mesh.mend(ways, resets=False)
    mesh.advance(5.0)
    counted(mesh, 60)


def test_peers_that_forget_a_node_one_after_the_other_say_nothing_of_each_other() -> None:
    """What is predicted of it becomes debt at each in its own moment, and no column stands behind
    it: who is first holds debts that no peer knows of, and who is last knows them of nobody."""
    pairs = list(combinations("ABCDE", 2))
    mesh = Network(
        "ABCDE", [SPEC], linked=pairs, latency=0.02, seed=1, forget_after=40.0, gossip_interval=1.0
    )
    demand = dict.fromkeys("ABCDE", 0.3 * SPEC.refill_rate)
    drive(mesh, demand, 10)
    ways = [way for other in "BCDE" for way in ((other, "A"), ("A", other))]
    mesh.cut_ways(ways, times_out=True)
    drive(mesh, demand, 60)
    assert mesh["B"].node.links["A"].forgotten
    mesh.mend_all()
    drive(mesh, demand, 10)
    assert [node.node.members.bounded.counts() for node in mesh.nodes.values()] == [{}] * 5


def test_once_that_is_refilled_who_states_lower_debts_is_counted_again() -> None:
    mesh = SimulatedMesh("ABC", [SPEC], latency=0.02, seed=1, forget_after=20.0)
    drive(mesh, dict.fromkeys("ABC", 0.5 * SPEC.refill_rate), 10)
    mesh.partition("A", "BC")
    mesh.advance(30)
    assert mesh["B"].node.links["A"].forgotten
    mesh.advance(20)
    bad, key = BadMember(mesh), mesh["B"].bucket("b").hash("k")
    bad.link("B")
    mesh["B"].take("b", "k", 500)
    mesh.advance(1)
    bad.state("B", key, 1, bad.columns(key))
    assert mesh["B"].node.members.bounded.counts() == {"bad": {"debt": 1}}


def test_what_is_given_back_counts_on_processes_that_began_beside_a_key_with_a_history() -> None:
    """Refunds give back the last 400 tokens of a column at most. Of these few had refilled when A
    and B began, and they charged the rest; what C took before that they never charged."""
    mesh = SimulatedMesh("ABC", [BucketSpec("b", 400, 20)], latency=0.02, seed=1)
    mesh.advance(1.0)
    assert mesh["C"].take("b", "k", 395)
    for _ in range(24):
        mesh.advance(3.0)
        assert mesh["C"].take("b", "k", 60)
    for name in "AB":
        mesh.restart(name)
    mesh.advance(4.0)
    for _ in range(2):
        taken = mesh["C"].take("b", "k", 80)
        mesh.advance(0.5)
        assert mesh["C"].refund(taken) == 80
        mesh.advance(0.5)
    assert [mesh[name].columns("b", "k")["C"] for name in "AB"] == [(1995, 160)] * 2
    left = [mesh[name].peek("b", "k").remaining for name in "ABC"]
    assert max(left) - min(left) <= 1, left
