"""Members with the secret that lie together."""

from __future__ import annotations

import pytest

from crdtbucket._core import REMEMBERED_BYTES
from crdtbucket.mesh.protocol import wire
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.bad_member import BadMember
from tests.mesh.test_bad_members import SPEC, C, R, admitted, linked, mesh_of, stating
from tests.several_bad import watch

ABSURD = (0xFFFF, 0xFFFF)
MEMBERS = 5
CEILING, EACH = 2 * C, C / 5 / MEMBERS
"""Tokens that a node owes at most, and those by which a single peer lowers that."""


def test_two_bad_ones_of_five_members_make_no_node_open_a_new_epoch() -> None:
    mesh = mesh_of(3, SPEC)
    mesh["A"].take("api", "k", 5)
    both = linked(mesh), linked(mesh, "worse", 2**41 + 7)
    epoch, key = mesh["A"].table.epochs.running, mesh["A"].bucket("api").hash("k")
    for step in range(10):
        for bad in both:
            bad.state("A", key, 10**9, [("A", epoch, 2**31 + step, 100, 0)])
        mesh.advance(1.0)
    assert mesh["A"].table.epochs.running == epoch


# ---- debts ----


def test_debts_that_two_state_lower_add_two_fifths_and_a_ceiling_for_each_node() -> None:
    """Without the bound it is all that is asked for: sixty times the limit."""
    mesh = mesh_of(3)
    key = mesh["A"].bucket("api").hash("k")
    both = [stating(mesh, linked(mesh, f"bad{at}", 2**40 + at), "ABC", key) for at in range(2)]
    total = admitted(mesh, "ABC", 20.0, lambda step: [evil(step) for evil in both])
    assert total <= 1.4 * (C + R * 20) + 3 * CEILING


class Owing:
    """A node without honest peers that has emptied a bucket."""

    def __init__(self) -> None:
        self.mesh = mesh_of(1)
        self.node = self.mesh["A"]
        self.key = self.node.bucket("api").hash("k")
        self.peers = [BadMember(self.mesh, f"peer{at}", 100 + at) for at in range(MEMBERS - 1)]
        for peer in self.peers:
            peer.link("A")
        self.mesh.advance(1.0)
        self.node.take("api", "k", C)

    def agree(self) -> None:
        """Two peers show what the node has taken, and say that nothing is owed."""
        epoch = self.node.table.epochs.running
        own = ("A", epoch, *self.node.bucket("api").columns("k")[0, epoch])
        for peer in self.peers[:2]:
            peer.state("A", self.key, 1, [own])

    def take_all(self, seconds: float = 0.0) -> int:
        """The tokens that the node admits of any number of calls, while the two agree again and
        again."""
        total = 0
        for _ in range(max(1, round(seconds * 10))):
            for _ in range(10):
                self.agree()
                total += self.node.take_burst("api", "k", 2 * C, 1)
            self.mesh.advance(0.1 if seconds else 0.0)
        return total


def test_two_peers_that_agree_lower_debts_by_one_ceiling_and_by_a_fifth_of_the_refill() -> None:
    owing = Owing()
    at_once = owing.take_all()
    assert CEILING <= at_once <= CEILING + EACH
    more = owing.take_all(50.0) - R * 50
    assert 0.9 * 50 * 2 * R / 5 / MEMBERS <= more <= 1.1 * 50 * 2 * R / 5 / MEMBERS + EACH


def give_up(owing: Owing, refilled: float = 0.0) -> None:
    """A peer takes and asks for everything, and when its takes have refilled for so long it is
    silent for four seconds, and says goodbye: what was predicted of it becomes debt."""
    peer = owing.peers[-1]
    row = (peer.name, peer.epoch, 1, 2 * R, 0)
    peer.state("A", owing.key, 1, [row], ABSURD, round=1, parts=1)
    owing.mesh.advance(refilled)
    peer.state("A", owing.key, 1, [row], ABSURD, round=2, parts=1)
    owing.mesh.advance(4.0)
    peer.send("A", flags=wire.LEAVING)
    owing.mesh.advance(0.2)


def lowered(owing: Owing) -> int:
    """Tokens by which the debt falls when two peers agree that nothing is owed."""
    bucket = owing.node.bucket("api")
    before = bucket.debt("k")
    owing.agree()
    return round((before - bucket.debt("k")) * R / 10**9)


def test_two_peers_that_agree_lower_without_a_budget_what_was_only_predicted_and_that_once() -> (
    None
):
    owing = Owing()
    owing.take_all()
    owing.node.settle("api", "k", C)
    give_up(owing)
    assert lowered(owing) >= R
    owing.node.settle("api", "k", C)
    assert lowered(owing) <= 1


def test_of_what_was_predicted_while_the_bucket_was_full_nothing_is_lowered() -> None:
    owing = Owing()
    owing.take_all()
    owing.mesh.advance(5.0)
    give_up(owing, 3.0)
    budget = (C + R * (5 + 3 + 4)) / 5 / (MEMBERS - 1)
    owing.node.settle("api", "k", C)
    assert lowered(owing) <= budget + 1


def test_what_is_remembered_of_a_key_is_memory_of_the_table() -> None:
    """Without it the metric showed half of what the process took."""
    owing = Owing()
    before = owing.node.table.stats()["bytes"]
    owing.agree()
    assert owing.node.table.stats()["bytes"] - before >= REMEMBERED_BYTES
    after = owing.node.table.stats()["bytes"]
    owing.agree()
    assert owing.node.table.stats()["bytes"] - after < REMEMBERED_BYTES  # one record for each key


# ---- members ----


def test_members_that_two_of_five_vouch_for_take_nothing_from_what_is_guaranteed() -> None:
    """Both say that they are linked with forty, and these take all there is. What is left is half
    of an equal part of five."""
    mesh, got = mesh_of(3, BucketSpec("api", 10, 10)), 0
    key = mesh["A"].bucket("api").hash("k")
    both = linked(mesh), linked(mesh, "worse", 2**41 + 7)
    invented = [(f"x{i:02}", 2**42 + i) for i in range(40)]
    honest = [(name, mesh[name].table.epochs.running) for name in "ABC"]
    listed = [*((bad.name, bad.epoch) for bad in both), *honest, *invented]
    members = tuple((name, "", epoch, "") for name, epoch in listed)
    ages = tuple((epoch, 0) for _, epoch in invented)
    for step in range(160):
        for bad in both:
            rows = [(*owner, 1, 1 + step // 5, 0) for owner in [(bad.name, bad.epoch), *invented]]
            whole = {"round": step + 1, "parts": 1, "ages": ages, "members": members, "unseen": ()}
            for name in "ABC":
                bad.state(name, key, 10**12, rows, ABSURD, ABSURD, **whole)
        passed = sum(mesh[name].take_burst("api", "k", 4, 1) for name in "ABC")
        got += passed if step >= 80 else 0
        mesh.advance(0.2)
    assert len(mesh["A"].table.nodes.relayed_members()) == 40
    assert got >= 0.9 * 3 * 16 * 10 / 5 / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        "state no debts",
        "refund what was never charged",
        "vouch for members that ask for everything",
        "all of it in turns",
    ],
)
def test_two_bad_members_of_five_leave_the_shares_and_add_what_is_stated(attack: str) -> None:
    seen = watch(attack, 3, 2, seconds=40.0)
    assert seen.of_limit <= 1.2
    assert seen.least >= 0.48
