"""A bad member that claims to see others, but passes nothing on or has invented them."""

from __future__ import annotations

from itertools import pairwise

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.bad_member import BadMember
from tests.mesh.test_bad_members import SPEC, C, R, linked, mesh_of
from tests.simulated.hostile import HostileMember
from tests.simulated.network import Network

SECONDS = 25
ABSURD = (0xFFFF, 0xFFFF)


def admitted_apart(parts: list[str], honest: int) -> float:
    """The part of `C + R * t` that nodes admit which see no node of another part, each asked for
    the limit."""
    mesh = mesh_of(honest)
    bad, names = linked(mesh), "".join(parts)
    apart = [(a, b) for one in parts for other in parts if one != other for a in one for b in other]
    total = 0
    for step in range(5 * SECONDS):
        if step == 15:
            mesh.drop_frames(*apart)
        vouch(bad, names, step + 1)
        total += sum(mesh[name].take_burst("api", "k", R // 5, 1) for name in names)
        mesh.advance(0.2)
    return total / (C + R * SECONDS)


def vouch(bad: BadMember, names: str, number: int) -> None:
    """Sends a complete round to each node: it has just seen all of them, and has no entry of any
    key."""
    epochs = {name: bad.mesh[name].table.epochs.running for name in names}
    members = (("bad", "", bad.epoch, ""), *((name, "", epochs[name], "") for name in names))
    for name in names:
        ages = tuple((epoch, 0) for other, epoch in epochs.items() if other != name)
        bad.send(name, round=number, parts=1, members=members, unseen=(), ages=ages)


@pytest.mark.parametrize("parts", [["AB", "CD"], ["A", "B", "C"]])
def test_who_alone_links_parts_of_a_mesh_can_hide_each_from_the_others(parts: list[str]) -> None:
    """Nobody else could say there what the others take. Each part admits the limit, and no more."""
    honest = len("".join(parts))
    assert 0.7 * len(parts) < admitted_apart(parts, honest) < 1.03 * len(parts)


@pytest.mark.parametrize("parts", [["A", "B", "C"], ["ABC"]])
def test_where_an_honest_node_links_them_too_it_changes_nothing(parts: list[str]) -> None:
    """Nor in a full mesh. The fourth node asks for nothing itself."""
    assert admitted_apart(parts, honest=4) < 1.03


def test_members_that_the_only_peer_invents_leave_a_34th_of_the_limit() -> None:
    """They and that peer take all there is."""
    mesh = mesh_of(1, BucketSpec("api", 34, 34))
    bad, key, got = linked(mesh), mesh["A"].bucket("api").hash("k"), 0
    invented = [(f"x{i}", bad.epoch + 1 + i) for i in range(40)]
    ages = tuple((epoch, 0) for _, epoch in invented)
    for step in range(200):
        rows = [(*owner, 1, 1 + step, 0) for owner in [("bad", bad.epoch), *invented]]
        bad.state("A", key, 10**12, rows, ABSURD, ABSURD, round=step + 1, parts=1, ages=ages)
        passed = mesh["A"].take_burst("api", "k", 4, 1)
        got += passed if step >= 100 else 0
        mesh.advance(0.2)
    assert 19 <= got <= 21


# ---- takes that relays bring ----


def test_takes_that_a_relay_brings_without_their_debt_are_charged_and_given_back_once() -> None:
    """... of a member that was seen a moment ago: they cannot have refilled. One bad member that
    was linked with all nodes of a chain made them admit twice the limit."""
    mesh = mesh_of(1, BucketSpec("api", C, 1, "1h"))
    peers = [linked(mesh, f"peer{number}", 2**41 + number) for number in range(3)]
    key, epoch, bucket = mesh["A"].bucket("api").hash("k"), 2**43, mesh["A"].bucket("api")
    mesh["A"].take("api", "k", 50)

    def show(number: int, taken: int, refunded: int = 0) -> int:
        row = ("far", epoch, 1, taken, refunded)
        whole = {"round": number, "parts": 1, "ages": ((epoch, 0),)}
        peers[0].state("A", key, 1, [row], **whole)
        mesh.advance(0.1)
        return round(bucket.debt("k") / 3600e9)

    show(1, 1)
    for number in range(2, 20):
        before = show(number, 1)
    budget = C // 5 // 4
    assert before >= 50 - budget
    assert show(20, 41) >= before + 40 - budget
    assert show(21, 41, 40) <= before + 2 * budget


# ---- generations ----


def test_a_generation_that_a_relay_invents_hides_nobody_whom_an_honest_one_sees() -> None:
    """The two leaves of a star are not linked. Each admitted the whole limit, for as long as the
    entry stayed: what the hub shows of the other one is of an older generation, and left out."""
    mesh, total = Network("ABH", [SPEC], linked=[("A", "H"), ("B", "H")], latency=0.01, seed=1), 0
    mesh.advance(2.0)
    bad, key = HostileMember(mesh, ("api", "k")), mesh["A"].bucket("api").hash("k")
    bad.link("A", "B")
    for _ in range(5 * SECONDS):
        for name, other in ("AB", "BA"):
            hidden = (other, mesh[other].table.epochs.running, 2**30, 1, 0)
            bad.state(name, key, 1, [hidden])
            total += mesh[name].take_burst("api", "k", R // 5, 1)
        mesh.advance(0.2)
    assert total <= 1.1 * (C + R * SECONDS)


def test_a_generation_that_a_relay_invented_costs_nothing_once_that_relay_is_gone() -> None:
    """Of a star without its hub. The hub seemed to lack it, with each entry anew, so for good the
    leaves got no more than their guaranteed share of a light load."""
    mesh = Network("ABH", [SPEC], linked=[("A", "H"), ("B", "H")], latency=0.01, seed=1)
    mesh.advance(2.0)
    bad, key = HostileMember(mesh, ("api", "k")), mesh["A"].bucket("api").hash("k")
    bad.link("A", "B")
    for name, other in ("AB", "BA"):
        mesh[name].take("api", "k", 1)
        bad.state(name, key, 1, [(other, mesh[other].table.epochs.running, 2**20, 2**40, 0)])
    bad.end()
    passed = []
    for _ in range(120):
        passed.append([mesh[name].take_burst("api", "k", 1) for name in "AB"])
        mesh.advance(0.25)
    assert passed[-40:] == [[1, 1]] * 40


def test_generations_that_are_invented_along_a_chain_give_nothing_out() -> None:
    """No node knows by itself what all take: each has to owe what its neighbours owe and lack, also
    in columns of which they have another generation. Without that they admitted 1.4 limits."""
    names, total = "ABCDE", 0
    spec = BucketSpec("api", R, R)
    mesh = Network(names, [spec], linked=pairwise(names), latency=0.01, seed=1)
    mesh.advance(2.0)
    bad, key = HostileMember(mesh, ("api", "k")), mesh["A"].bucket("api").hash("k")
    bad.link(*names)
    epochs = {name: mesh[name].table.epochs.running for name in names}
    for _ in range(50):
        for i, name in enumerate(names):
            far = [other for j, other in enumerate(names) if abs(i - j) > 1]
            bad.state(name, key, 1, [(other, epochs[other], 2**30, 1, 0) for other in far])
            total += mesh[name].take_burst("api", "k", 2)
        mesh.advance(0.2)
    assert total <= 1.1 * 11 * R


FALSE = {"a later generation": (1000, 2000), "more takes": (1, 300)}
"""(generation, taken) of what a bad relay says of others."""


def offered_to_all(mesh: SimulatedMesh, seconds: float) -> int:
    """The tokens that five nodes admit, each asked for the limit."""
    total = 0
    for _ in range(round(seconds / 0.2)):
        total += sum(node.take_burst("api", "k", 4, 1) for node in mesh.nodes.values() if node.up)
        mesh.advance(0.2)
    return total


@pytest.mark.parametrize("said", FALSE)
def test_what_is_said_of_a_process_before_it_is_met_hides_nothing_that_it_takes(said: str) -> None:
    """One node after the other starts again. Two of the others announce its epoch before it has a
    link there; no more of them, as the process itself would believe most. Without end, the five
    admitted three times the limit."""
    mesh = mesh_of(5)
    bad, key, names = linked(mesh), mesh["A"].bucket("api").hash("k"), "ABCDE"
    offered_to_all(mesh, 3.0)
    told = {name: (names[i - 4], names[i - 3]) for i, name in enumerate(names)}
    for name in names:
        mesh.restart(name)
        bad.link(name)
        early = [(other, name) for other in told[name]]
        early += [(name, other) for other in names if name in told[other]]
        for receiver, owner in early:
            row = (owner, mesh[owner].table.epochs.running, *FALSE[said], 0)
            bad.state(receiver, key, 1, [row])
        offered_to_all(mesh, 2.0)
    assert offered_to_all(mesh, 20.0) <= 1.05 * R * 20


@pytest.mark.parametrize("sides", [("ABC", "DE"), ("AB", "CD")])
@pytest.mark.parametrize("said", FALSE)
def test_what_is_said_across_a_cut_hides_nothing_that_is_taken_after_it(
    said: str, sides: tuple[str, str]
) -> None:
    """It concerns nodes that are silent. Without end the two sides admitted the limit each."""
    mesh = mesh_of(len("".join(sides)))
    bad, key = linked(mesh), mesh["A"].bucket("api").hash("k")
    offered_to_all(mesh, 3.0)
    mesh.partition(*sides)
    for _ in range(5):
        offered_to_all(mesh, 1.0)
        for here, there in (sides, sides[::-1]):
            epochs = [(owner, mesh[owner].table.epochs.running) for owner in there]
            for receiver in here:
                bad.state(receiver, key, 1, [(*owner, *FALSE[said], 0) for owner in epochs])
    mesh.heal()
    offered_to_all(mesh, 5.0)
    assert offered_to_all(mesh, 20.0) <= 1.05 * R * 20


def test_who_shows_invented_takes_of_a_node_lacks_what_that_node_has_taken() -> None:
    """Else a debt would fall to that of a peer which ignores the true counts, as smaller ones."""
    mesh = mesh_of(3)
    bad, node = linked(mesh), mesh["A"]
    assert node.take_burst("api", "k", R) == R
    before = node.bucket("api").debt("k")
    row = ("A", node.table.epochs.running, 1, 10**6, 0)
    bad.state("A", node.bucket("api").hash("k"), 1, [row])
    assert node.bucket("api").debt("k") == before


@pytest.mark.parametrize("why_not", ["", "it was silent", "far is silent", "far is linked"])
def test_who_shows_an_older_generation_says_what_is_owed(why_not: str) -> None:
    """Unless it was silent, and lacks what was taken meanwhile and has refilled; or the owner was,
    or speaks for itself."""
    mesh = mesh_of(1)
    newer, older = linked(mesh, "newer", 2**41), linked(mesh, "older", 2**42)
    far = BadMember(mesh, "far", 2**43)
    if why_not == "far is linked":
        newer = far
        far.link("A")
    key = mesh["A"].bucket("api").hash("k")
    ages = () if why_not == "far is silent" or newer is far else ((far.epoch, 0),)
    for number in range(1, 101):
        row = ("far", far.epoch, 5, 1, 0)
        newer.state("A", key, 1, [row], round=number, parts=1, ages=ages)
        if why_not != "it was silent":
            older.send("A", round=number, parts=1)
        mesh["A"].take("api", "k", 2)
        mesh.advance(0.2)
    older.state("A", key, 10**9, [("far", far.epoch, 4, 100, 0)])
    # It owes a second's refill, and lacks 200 tokens of this node and one of the newer generation.
    assert (mesh["A"].bucket("api").debt("k") > 9 * 10**9) is not bool(why_not)


# ---- refunds that relays bring ----


@pytest.mark.parametrize("began_again", [True, False])
def test_a_relay_gives_nothing_back_of_what_others_took_and_was_refilled(
    began_again: bool,
) -> None:
    """Of a process that has ended; of one to which the link is cut, no more than a capacity."""
    mesh = mesh_of(3)
    bad, key = linked(mesh), mesh["A"].bucket("api").hash("k")
    for _ in range(60):
        mesh["A"].take_burst("api", "k", R, 1)
        mesh.advance(0.5)
    ((name, epoch, generation, taken, _),) = [one for one in bad.columns(key) if one[0] == "A"]
    if began_again:
        mesh.restart("A")
    else:
        mesh.partition("A", "BC")
    mesh.advance(1.0)
    total = 0
    for step in range(1, 51):
        for one in "BC":
            rows = [(name, epoch, generation, taken, min(taken, 12 * step))]
            bad.state(one, key, 10**12, rows)
            total += mesh[one].take_burst("api", "k", 10, 1)
        mesh.advance(0.1)
    assert taken > 600
    assert total <= (1.2 * R * 6 if began_again else 2 * C + R * 5)  # it was empty
