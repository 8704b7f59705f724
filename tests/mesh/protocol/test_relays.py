"""What a node advertises of members that a peer does not see, and what that peer believes."""

from __future__ import annotations

import dataclasses

import pytest

from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.peer_state import NEVER
from crdtbucket.mesh.protocol.wire import Frame
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.mesh.protocol.test_mesh_node import frames_to

SPEC = BucketSpec("b", 1000, 100)
MS = 1_000_000
SECOND = 1000 * MS


def mesh_of(names: str = "ABC", **options: object) -> SimulatedMesh:
    settings = {"latency": 0.02, "seed": 3, **options}
    return SimulatedMesh(names, [SPEC], **settings)  # type: ignore[arg-type]


def cut(mesh: SimulatedMesh, *pairs: str) -> None:
    mesh.drop_frames(*((a, b) for a, b in pairs), *((b, a) for a, b in pairs))


def ages_in(frames: list[bytes]) -> list[tuple[tuple[int, int], ...]]:
    return [frame.ages for frame in map(wire.decode, frames) if frame.ages is not None]


def newest(mesh: SimulatedMesh, name: str, other: str) -> float:
    """How old (s) the newest update is that a node has of another one, itself or by a relay."""
    node = mesh[name].node
    link = node.links[other]
    return (mesh[name].local_ns(mesh.now_ns) - max(link.round_time, link.relayed_at)) / SECOND


def test_where_all_see_each_other_no_age_is_stated() -> None:
    mesh = mesh_of()
    frames = frames_to(mesh, "A")
    mesh.advance(5.0)
    assert frames
    assert ages_in(frames) == []


def test_a_relay_states_the_age_of_a_member_that_a_peer_does_not_see() -> None:
    mesh = mesh_of()
    mesh.advance(1.0)
    cut(mesh, "AC")
    mesh.advance(3.0)
    frames = frames_to(mesh, "A")
    mesh.advance(1.0)
    epoch = mesh["C"].table.epochs.running
    stated = ages_in(frames)
    assert len(stated) >= 9  # one with every round
    assert all(row[0] == epoch and row[1] <= 150 for (row,) in stated)
    assert newest(mesh, "A", "C") <= 0.3
    assert newest(mesh, "A", "B") <= 0.15


def test_a_peer_does_not_see_a_member_that_it_has_not_advertised() -> None:
    """What C said before goes on then, as with one of whom it is said."""
    mesh = mesh_of()
    mesh.advance(1.0)
    node, now = mesh["B"].node, mesh["B"].local_ns(mesh.now_ns)
    link, epoch = node.links["A"], mesh["C"].table.epochs.running
    assert node.members.visibility.unseen_by(link) == ()
    assert node._relays.ages(link, now) == ()
    link.advertised = dict.fromkeys("AB", mesh["B"].table.epochs.running)
    assert node.members.visibility.unseen_by(link) == ("C",)
    assert [row[0] for row in node._relays.ages(link, now)] == [epoch]
    link.unseen = ("C", "D")
    assert node.members.visibility.unseen_by(link) == ("C", "D")
    link.advertised, link.unseen = None, ()
    assert node.members.visibility.unseen_by(link) == ()


def test_updates_of_a_member_that_the_relay_does_not_see_either_are_not_stated() -> None:
    mesh = mesh_of()
    mesh.advance(1.0)
    cut(mesh, "AC", "BC")
    mesh.advance(3.0)
    frames = frames_to(mesh, "A")
    mesh.advance(2.0)
    assert ages_in(frames) == []
    assert newest(mesh, "A", "C") >= 4.5


def test_ages_go_on_over_several_relays() -> None:
    """A chain: each end knows the other by two relays in between, and how old that is."""
    mesh = mesh_of("ABCD")
    mesh.advance(1.0)
    cut(mesh, "AC", "AD", "BD")
    mesh.advance(5.0)
    assert newest(mesh, "A", "D") <= 0.5
    assert newest(mesh, "D", "A") <= 0.5


def test_what_a_member_said_before_it_was_relayed_has_come_when_its_age_is_believed() -> None:
    """C takes between the cut and the moment at which B learns of it, and never again."""
    mesh = mesh_of()
    mesh.advance(1.05)
    cut(mesh, "AC")
    mesh["C"].take("b", "k", 500)
    mesh.advance(0.3)
    assert newest(mesh, "A", "C") >= 0.3
    for _ in range(100):
        mesh.advance(0.05)
        if newest(mesh, "A", "C") < 0.3:
            break
    assert newest(mesh, "A", "C") < 0.3
    assert mesh["A"].columns("b", "k") == {"C": (500, 0)}


class TestBelief:
    """Rounds of B at A, with ages that a test makes up."""

    def state(self, mesh: SimulatedMesh, *rows: tuple[int, int], parts: int = 1) -> None:
        node, link = mesh["A"].node, mesh["B"].node.links["A"]
        link.seq += 1
        link.round_sent += 1
        now = mesh["A"].local_ns(mesh.now_ns)
        mesh["A"].table.set_time(now)
        frame = Frame(
            epoch=mesh["B"].table.epochs.running,
            to_epoch=mesh["A"].table.epochs.running,
            seq=link.seq,
            sent=mesh["B"].local_ns(mesh.now_ns),
            round=link.round_sent,
            parts=parts,
            ages=rows,
        )
        node.receive("B", wire.encode(frame), now)

    def silent(self) -> tuple[SimulatedMesh, int]:
        """C is silent for everybody for three seconds."""
        mesh = mesh_of()
        mesh.advance(1.0)
        cut(mesh, "AC", "BC")
        mesh.advance(3.0)
        return mesh, mesh["C"].table.epochs.running

    def test_an_age_is_less_half_the_round_trip(self) -> None:
        mesh, epoch = self.silent()
        self.state(mesh, (epoch, 250))
        assert 0.25 <= newest(mesh, "A", "C") <= 0.25 + 0.05

    def test_of_one_that_was_taken_for_dead(self) -> None:
        mesh, epoch = self.silent()
        node = mesh["A"].node
        dead, peer = mesh["A"].local_ns(mesh.now_ns) - 10**9, node.links["B"]
        peer.steady_since = NEVER
        node.members.pruner.advertised(peer, [epoch], set(), dead)
        assert node.roster.owner(epoch) is None
        self.state(mesh, (epoch, 250))
        assert newest(mesh, "A", "C") <= 0.25 + 0.05
        assert node.roster.owner(epoch) == "C"

    def test_an_older_one_than_is_known_does_nothing(self) -> None:
        mesh, epoch = self.silent()
        before = newest(mesh, "A", "C")
        self.state(mesh, (epoch, 20_000))
        assert newest(mesh, "A", "C") == before
        self.state(mesh, (epoch, 100))
        self.state(mesh, (epoch, 65_535))
        assert newest(mesh, "A", "C") <= 0.15

    def test_only_with_all_parts_of_a_complete_round(self) -> None:
        mesh, epoch = self.silent()
        self.state(mesh, (epoch, 100), parts=2)
        assert newest(mesh, "A", "C") >= 2.5

    def test_a_member_that_is_seen_speaks_for_itself(self) -> None:
        mesh = mesh_of()
        mesh.advance(1.0)
        before = newest(mesh, "A", "C")
        self.state(mesh, (mesh["C"].table.epochs.running, 0))
        assert newest(mesh, "A", "C") == before

    @pytest.mark.parametrize("whose", ["nobody", "A", "B"])
    def test_nobody_nor_the_two_themselves(self, whose: str) -> None:
        mesh, _ = self.silent()
        epoch = 12345 if whose == "nobody" else mesh[whose].table.epochs.running
        before = newest(mesh, "A", "B")
        self.state(mesh, (epoch, 0))
        assert newest(mesh, "A", "B") <= before
        assert newest(mesh, "A", "C") >= 2.5

    def test_of_a_process_that_was_started_again_meanwhile(self) -> None:
        """A has never seen its new epoch itself; the node is the same."""
        mesh = mesh_of()
        mesh.advance(1.0)
        cut(mesh, "AC")
        mesh.restart("C")
        mesh.advance(5.0)
        mesh["C"].take("b", "k", 500)
        mesh.advance(1.0)
        assert mesh["A"].columns("b", "k") == {"C": (500, 0)}
        assert newest(mesh, "A", "C") <= 0.3

    def test_credit_never_grows_by_what_is_claimed(self) -> None:
        mesh = mesh_of()
        for _ in range(50):
            mesh.advance(0.1)
            mesh["C"].take("b", "k", 5)
        cut(mesh, "AC", "BC")
        mesh.advance(30.0)
        credit = mesh["A"].bucket("b").credit("k")
        assert credit > 100
        epoch = mesh["C"].table.epochs.running
        for age in (65_535, 40_000, 20_000, 5_000, 0):
            self.state(mesh, (epoch, age))
            assert 0 <= mesh["A"].bucket("b").credit("k") <= credit
        assert credit > 0
        assert mesh["A"].bucket("b").credit("k") == 0


def test_more_members_than_fit_take_turns() -> None:
    mesh = mesh_of()
    mesh.advance(1.0)
    link = mesh["B"].node.links["A"]
    names = tuple(f"member {i}" for i in range(wire.MAX_AGES))
    link.unseen = (*names, "C")
    relays, now = mesh["B"].node._relays, mesh["B"].local_ns(mesh.now_ns)
    stated = [relays.ages(link, now) for _ in range(4)]
    assert [bool(rows) for rows in stated].count(True) >= 1
    assert {epoch for rows in stated for epoch, _ in rows} == {mesh["C"].table.epochs.running}


def test_who_left_has_no_age() -> None:
    mesh = mesh_of()
    mesh.advance(1.0)
    link = mesh["B"].node.links["C"]
    mesh["B"].node.links["A"].unseen = ("C",)
    now = mesh["B"].local_ns(mesh.now_ns)
    assert mesh["B"].node._relays.ages(mesh["B"].node.links["A"], now)
    for gone in (dataclasses.replace(link, left=True), dataclasses.replace(link, forgotten=True)):
        mesh["B"].node.links["C"] = gone
        assert mesh["B"].node._relays.ages(mesh["B"].node.links["A"], now) == ()


def test_no_age_is_passed_on_that_a_frame_cannot_state() -> None:
    mesh = mesh_of("AB", gossip_interval=10.0)
    node = mesh["A"].node
    mesh.advance(1.0)
    link, now = node.links["B"], mesh["A"].local_ns(mesh.now_ns)
    link.unseen = ("C",)
    for epoch, age in ((7, 0), (8, wire.MAX_AGE_MS - 1), (9, wire.MAX_AGE_MS)):
        node.members.directory.relayed(epoch, now - age * MS, "C")
    assert node._relays.ages(link, now) == ((7, 0), (8, wire.MAX_AGE_MS - 1))
