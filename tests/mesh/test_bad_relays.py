"""A bad member that says it sees others: it passes nothing on of them, or has invented them."""

from __future__ import annotations

import pytest

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.bad_member import BadMember
from tests.mesh.test_bad_members import C, R, linked, mesh_of

SECONDS = 25
ABSURD = (0xFFFF, 0xFFFF)


def admitted_apart(parts: list[str], honest: int) -> float:
    """What nodes of which no part sees another admit of `C + R * t`, each asked for the limit."""
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
    """A complete round to each node: it has just seen all of them, and has no news of any key."""
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
