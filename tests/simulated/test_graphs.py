"""Meshes in which not all nodes are linked: updates get through, and then nothing more is sent."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from crdtbucket.mesh.protocol import pruning
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.simulated.meshes import drive
from tests.simulated.network import Network

SPEC = BucketSpec("b", 100, 20)
KEYS = 20


class Graph(SimulatedMesh):
    """Only the given pairs have a link, and frames of `lost` (from, to) never arrive."""

    def __init__(
        self, nodes: str, links: Iterable[str] | None, lost: Iterable[str] = (), **options: Any
    ) -> None:
        self.pairs = None if links is None else {frozenset(pair) for pair in links}
        self.lost: set[str] = set()
        super().__init__(nodes, [SPEC], latency=0.02, seed=3, **options)
        self.advance(12.0)
        self.lost = set(lost)

    def _connect(self, first: str, second: str, first_epochs: int, second_epochs: int) -> None:
        if self.pairs is None or frozenset((first, second)) in self.pairs:
            super()._connect(first, second, first_epochs, second_epochs)

    def cut(self, first: str, second: str) -> bool:
        return first + second in self.lost or super().cut(first, second)

    def sent(self) -> int:
        return sum(node.node.entries_sent for node in self.nodes.values())

    def held(self) -> list[int]:
        return [len(node.table) for node in self.nodes.values()]

    def knows(self, key: str, taken: int) -> set[str]:
        """Nodes that have all that A took of a key."""
        return {name for name, n in self.nodes.items() if n.columns("b", key) == {"A": (taken, 0)}}


GRAPHS = {
    "full": ("ABCD", None, ()),
    "chain of 3": ("ABC", ("AB", "BC"), ()),
    "chain of 4": ("ABCD", ("AB", "BC", "CD"), ()),
    "chain of 6": ("ABCDEF", ("AB", "BC", "CD", "DE", "EF"), ()),
    "ring of 4": ("ABCD", ("AB", "BC", "CD", "DA"), ()),
    "ring of 5": ("ABCDE", ("AB", "BC", "CD", "DE", "EA"), ()),
    "star": ("ABCDE", ("EA", "EB", "EC", "ED"), ()),
    "a pair cut off": ("ABCD", None, ("AD", "DA")),
    "one way lost": ("ABCD", None, ("AD",)),
    "the other way lost": ("ABCD", None, ("DA",)),
    "one way of a chain lost": ("ABC", ("AB", "BC"), ("CB",)),
    "two ways of a ring lost": ("ABCDE", ("AB", "BC", "CD", "DE", "EA"), ("AE", "DC")),
    "two pairs of six cut off": ("ABCDEF", None, ("AE", "EA", "AF", "FA")),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_updates_get_through_and_then_it_is_quiet(graph: str) -> None:
    nodes, links, lost = GRAPHS[graph]
    mesh = Graph(nodes, links, lost)
    mesh.advance(3.0)  # which nodes do not see each other is advertised
    for key in range(KEYS):
        mesh["A"].take("b", f"key {key}", 80)
    mesh.advance(1.5)
    for key in range(KEYS):
        assert mesh.knows(f"key {key}", 80) == set(nodes)
    mesh.advance(4.5)
    if lost:
        mesh.advance(65.0)  # for so long what a peer may lack is sent to it again
    before = mesh.sent()
    mesh.advance(5.0)
    assert mesh.sent() == before
    mesh.advance(20.0)
    assert mesh.sent() == before
    assert mesh.held() == [0] * len(nodes)


@pytest.mark.parametrize("graph", ["one way lost", "a pair cut off"])
def test_what_does_not_get_through_is_tried_once_a_second(graph: str) -> None:
    nodes, links, lost = GRAPHS[graph]
    mesh = Graph(nodes, links, lost)
    mesh.advance(3.0)
    for key in range(KEYS):
        mesh["A"].take("b", f"key {key}", 10)
    mesh.advance(3.0)
    before = mesh.sent()
    mesh.advance(10.0)
    assert mesh.sent() - before <= 2 * 11 * KEYS


@pytest.mark.parametrize("seed", range(5))
def test_a_peer_that_is_there_again_has_all_in_two_rounds(seed: int) -> None:
    """Though the first frames of both cross, so that neither sees yet that it is reached again."""
    latency = 0.08
    mesh = SimulatedMesh("AB", [SPEC], latency=latency, jitter=0.0, seed=seed)
    mesh.advance(1.0)
    mesh.partition("A", "B")
    mesh.advance(1.0)
    for node in "AB":
        mesh[node].take("b", "k", 10)
    mesh.advance(1.5)
    mesh.heal()
    mesh.advance(2 * (0.1 + latency))
    for node in "AB":
        assert mesh[node].columns("b", "k") == {"A": (10, 0), "B": (10, 0)}


def test_a_link_that_was_lost_one_way_has_all_again_when_it_is_back() -> None:
    mesh = Graph("AB", None, ["AB"])
    mesh["A"].settle("b", "k", 200)
    for _ in range(100):  # longer than what it lacks is kept for it
        mesh["A"].settle("b", "k", 100)
        mesh.advance(1.0)
    mesh.lost.clear()
    mesh.advance(3.0)
    assert mesh["B"].columns("b", "k") == mesh["A"].columns("b", "k")


def test_a_neighbours_neighbour_is_not_taken_for_dead() -> None:
    """Its epoch is announced as running, though there is no link to it."""
    mesh = Graph("ABC", ["AB", "BC"])
    for _ in range(90):
        mesh["A"].take("b", "k", 15)
        for _ in range(20):  # a tombstone that is withdrawn in the next round has cost its column
            mesh.advance(0.05)
            assert not any(marked for *_, marked in mesh["C"].table.epochs.origins())
    mesh["A"].take("b", "k", 15)
    mesh.advance(0.5)
    assert mesh.knows("k", 91 * 15) == {"A", "B", "C"}


@pytest.mark.parametrize("size", [4, 7])
def test_the_ends_of_a_chain_count_each_other_for_ever(size: int) -> None:
    """No node that an end sees is linked with the other end: its age comes from relay to relay."""
    nodes = "ABCDEFG"[:size]
    mesh = Graph(nodes, [a + b for a, b in pairwise(nodes)])
    ends = nodes[0], nodes[-1]
    for _ in range(90):
        for end in ends:
            mesh[end].take("b", "k", 7)
        mesh.advance(1.0)
        for node in nodes:
            assert not any(marked for *_, marked in mesh[node].table.epochs.origins())
    mesh[nodes[-1]].take("b", "k", 7)
    mesh.advance(0.15 * size)
    columns = {end: mesh[end].columns("b", "k") for end in ends}
    assert columns[ends[0]] == columns[ends[1]]
    assert columns[ends[0]][nodes[-1]][0] == 91 * 7


@pytest.mark.parametrize("seed", [9, 64])
def test_a_slow_chain_that_loses_frames_takes_nobody_for_dead(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An age ends only when every node in between knows who sees whom: a lost update about that
    must not wait until all is sent again anyway. It has half of these rounds."""
    monkeypatch.setattr(pruning, "ROUNDS", pruning.ROUNDS // 2)
    mesh = Network(
        "ABCDE",
        [BucketSpec("b", 1000, 1000)],
        linked=["AB", "BC", "CD", "DE"],
        latency=0.15,
        jitter=0.5,
        loss=0.3,
        duplication=0.2,
        gossip_interval=3.0,
        forget_after=60.0,
        seed=seed,
    )
    for _ in range(100):
        for node in mesh.nodes.values():
            node.take("b", "k", 1)
        mesh.advance(1.0)
        for node in mesh.nodes.values():
            assert not any(marked for *_, marked in node.table.epochs.origins())


def test_a_node_that_does_not_advertise_whom_it_sees_learns_that_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its greeting names only the one that it is linked with."""
    mesh = Network("ABC", [SPEC], linked=["AB", "BC"], latency=0.02, seed=1)
    monkeypatch.setattr(mesh["A"].node.members.updates, "due_for", lambda link, now: {})
    for _ in range(60):
        mesh["C"].take("b", "k", 5)
        mesh.advance(1.0)
        assert not any(
            marked and epoch == mesh["C"].table.epochs.running
            for _, _, epoch, marked in mesh["A"].table.epochs.origins()
        )
    assert mesh["C"].table.epochs.running in mesh["A"].node.members.directory.running_elsewhere


def test_the_age_of_an_end_that_died_is_not_relayed_for_ever() -> None:
    mesh = Graph("ABCD", ["AB", "BC", "CD"], forget_after=5.0)
    for _ in range(20):
        mesh["D"].take("b", "k", 15)
        mesh["A"].take("b", "k", 15)
        mesh.advance(1.0)
    epoch = mesh["D"].table.epochs.running
    assert epoch in mesh["A"].node.members.directory.running_elsewhere
    mesh["D"].up = False
    for _ in range(60):
        mesh["A"].take("b", "k", 15)
        mesh.advance(1.0)
    assert epoch not in mesh["A"].node.members.directory.running_elsewhere
    assert set(mesh["A"].columns("b", "k")) == {"A"}


def test_who_is_seen_by_relays_is_a_member_however_long_its_own_link_is_cut() -> None:
    """C has long had no link to E, and sees it by D. When D is cut off, too, C gave E up at once;
    and B, which was cut off from E a few seconds before, did as C, whose relay it was."""
    pairs = [("B", "C"), ("B", "E"), ("C", "E"), ("C", "D"), ("D", "E")]
    mesh = Network("BCDE", [SPEC], linked=pairs, forget_after=30.0, seed=1)
    demand = {"B": 6.0, "C": 2.0, "D": 2.0, "E": 20.0}
    drive(mesh, demand, 5.0)
    for pair, seconds in ((("C", "E"), 20.0), (("B", "E"), 6.0), (("C", "D"), 20.0)):
        mesh.cut_ways([pair, pair[::-1]], times_out=True)
        drive(mesh, demand, seconds)
    assert not any(mesh[name].node.links["E"].forgotten for name in "BC")
    mesh.advance(20.0)
    assert all(mesh[name].node.links["E"].forgotten for name in "BC")
