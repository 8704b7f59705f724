"""Members with the secret that lie together: what takes agreement takes more than half of the peers
that are connected, so two bad ones of five members get nothing that one alone would not."""

from __future__ import annotations

import pytest

from crdtbucket.testing import SimulatedNode
from tests.bad_member import BadMember
from tests.mesh.test_bad_members import SPEC, C, R, linked, mesh_of

TENTH_NS = C // 10 * 10**9 // R
BUDGET = C // 5


class Owing:
    """A node that owes 70 tokens, and so many peers that can say what they like of that."""

    def __init__(self, peers: int) -> None:
        self.mesh = mesh_of(1)
        self.node: SimulatedNode = self.mesh["A"]
        self.node.take("api", "k", 90)
        self.key = self.node.bucket("api").hash("k")
        self.peers = [BadMember(self.mesh, f"peer {at}", 100 + at) for at in range(peers)]
        for peer in self.peers:
            peer.link("A")
        self.mesh.advance(1.0)

    @property
    def left(self) -> int:
        return self.node.peek("api", "k").remaining

    def states(self, peer: BadMember, debt_ns: int = TENTH_NS) -> None:
        """A peer shows what it has heard of the key, again and again, and that debt."""
        ((generation, taken, refunded),) = self.node.bucket("api").columns("k").values()
        for _ in range(3):
            shown = [("A", self.node.table.epoch, generation, taken, refunded)]
            peer.state("A", self.key, debt_ns, shown)


@pytest.mark.parametrize(("peers", "agreeing"), [(2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (12, 5)])
def test_a_debt_falls_when_more_than_half_of_the_peers_agree(peers: int, agreeing: int) -> None:
    """In a large mesh five are enough."""
    owing = Owing(peers)
    for peer in owing.peers[: agreeing - 1]:
        owing.states(peer)
        assert owing.left <= C - 70 + BUDGET
    owing.states(owing.peers[agreeing - 1])
    assert owing.left == C - C // 10


def test_what_was_agreed_on_is_granted_once() -> None:
    """Whoever was right before a charge agrees with nobody on what came after it."""
    owing = Owing(4)
    for peer in owing.peers[:3]:
        owing.states(peer)
    owing.node.take("api", "k", owing.left)
    for peer in owing.peers[:2]:
        owing.states(peer, 1)
    assert owing.left <= BUDGET


def test_who_is_not_connected_any_more_agrees_with_nobody() -> None:
    owing = Owing(4)
    for peer in owing.peers[:2]:
        owing.states(peer)
    owing.node.node.disconnected(owing.peers[0].name, owing.peers[0].local("A"))
    owing.states(owing.peers[2])  # of three, two agree
    assert owing.left == C - C // 10
    owing = Owing(4)
    owing.states(owing.peers[0])
    owing.node.node.disconnected(owing.peers[0].name, owing.peers[0].local("A"))
    owing.states(owing.peers[1])
    assert owing.left <= C - 70 + BUDGET


def test_two_bad_ones_of_five_members_make_no_node_open_a_new_epoch() -> None:
    mesh = mesh_of(3, SPEC)
    mesh["A"].take("api", "k", 5)
    both = linked(mesh), linked(mesh, "worse", 2**41 + 7)
    epoch, key = mesh["A"].table.epoch, mesh["A"].bucket("api").hash("k")
    for step in range(10):
        for bad in both:
            bad.state("A", key, 10**9, [("A", epoch, 2**31 + step, 100, 0)])
        mesh.advance(1.0)
    assert mesh["A"].table.epoch == epoch
