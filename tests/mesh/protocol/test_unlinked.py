"""Members that only relays see: since when, until when, and how many of them count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crdtbucket._core import Table
from crdtbucket.errors import CrdtbucketError
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol import unlinked
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS, CAUGHT_UP
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.mesh.protocol.unlinked import COUNTED, MEETS_NS, UNSURE_NS, UnlinkedMembers
from tests.mesh.protocol.lone_node import CONFIG, ME, PEER, SECOND, frame, linked, membership, named
from tests.tombstones import add_tombstone

NOW = 100 * SECOND
FAR = 77
SILENT = CAUGHT_UP * ALIVE_NS + 1
"""After so long a relay that sees the node would have advertised it."""


class Node:
    """A node `me` with a link to `peer`, which relays what `far` takes."""

    def __init__(self, config: MeshConfig = CONFIG) -> None:
        self.members, self.table = membership(config)
        (self.peer,) = linked(self.members, PEER)
        self.roster = self.members._roster
        self.number = self.meet("far", FAR)
        self.relay("far", FAR, NOW)
        self.advertised("far")

    @property
    def unlinked(self) -> UnlinkedMembers:
        return self.members.unlinked

    def meet(self, name: str, epoch: int) -> int:
        """The tables of a peer name the owner of this epoch."""
        number: int = self.roster.node(name)
        self.table.epochs.origin(number, epoch)
        return number

    def relay(self, name: str, epoch: int, at: int) -> None:
        """The peer relays this member, for longer than one that has just ended."""
        for seen in (at - self.table.nodes.near_ns, at):
            self.members.directory.relayed(epoch, seen, "peer")
            self.unlinked.seen(name, epoch, seen)

    def advertised(self, *names: str) -> None:
        """The peer has advertised these members."""
        self.members.receive(self.peer, frame(members=tuple((n, "", 1, "") for n in names)), NOW)

    def step(self, now: int) -> list[tuple[int, int, int]]:
        """The members that only relays see after a step at this time; the peer is seen then."""
        self.peer.last_seen = now if self.peer.connected else self.peer.last_seen
        self.unlinked.step(now)
        found: list[tuple[int, int, int]] = self.table.nodes.relayed_members()
        return found


def test_it_is_known_under_the_epoch_that_a_relay_saw_last() -> None:
    node = Node()
    assert node.step(NOW) == [(node.number, FAR, NOW)]
    node.relay("far", FAR, NOW - 1)
    assert node.step(NOW) == [(node.number, FAR, NOW)]
    node.table.epochs.origin(node.number, 78)
    node.relay("far", 78, NOW + 1)
    assert node.step(NOW + 1) == [(node.number, 78, NOW + 1)]


def test_one_that_has_just_ended_is_not_predicted() -> None:
    """Each relay states its age for as long as it is not silent, as the last round came there."""
    node = Node()
    number = node.meet("ended", 78)
    for seen in (NOW, NOW + 1, NOW + node.table.nodes.near_ns - 1):
        node.unlinked.seen("ended", 78, seen)
    assert [known for known, _, _ in node.step(NOW)] == [node.number]
    node.members.directory.relayed(78, NOW + node.table.nodes.near_ns, "peer")
    node.unlinked.seen("ended", 78, NOW + node.table.nodes.near_ns)
    assert [known for known, _, _ in node.step(NOW)] == [node.number]  # nobody saw it meanwhile
    node.unlinked.seen("ended", 78, NOW + 2 * node.table.nodes.near_ns)
    assert [known for known, _, _ in node.step(NOW)] == [node.number, number]


def test_a_link_takes_its_place() -> None:
    node = Node()
    linked(node.members, named("far", FAR))
    assert node.step(NOW) == []
    node.relay("far", FAR, NOW + 1)
    assert node.step(NOW) == []


def test_this_node_itself_is_none() -> None:
    node = Node()
    node.relay("me", ME.epoch, NOW)
    assert [number for number, _, _ in node.step(NOW)] == [node.number]


@pytest.mark.parametrize(
    ("silent", "advertised", "stays"),
    [
        (SILENT, ("far",), True),  # the relay says that it is silent, and no more
        (SILENT - 1, (), True),  # it may have announced it before it advertised it
        (SILENT, (), False),
        (CONFIG.forget_after_ns, ("far",), True),
        (CONFIG.forget_after_ns + 1, ("far",), False),
    ],
)
def test_who_is_no_member_for_the_relay_any_more_is_given_up(
    silent: int, advertised: tuple[str, ...], stays: bool
) -> None:
    node = Node()
    node.advertised(*advertised)
    assert bool(node.step(NOW + silent)) == stays
    assert (FAR in node.members.directory.running_elsewhere) == stays
    assert node.members.directory.given_up == (set() if stays else {"far"})


def test_an_earlier_process_runs_no_more_once_it_is_silent_and_a_later_one_is_seen() -> None:
    """It may be another process of that name: then relays bring something of both."""
    node = Node()
    node.meet("far", 78)
    node.relay("far", 78, NOW + SILENT - 1)
    node.step(NOW + SILENT - 1)
    assert {*node.members.directory.running_elsewhere} == {FAR, 78}
    node.members.directory.relayed(FAR, NOW + 1, "peer")
    node.step(NOW + SILENT)
    assert {*node.members.directory.running_elsewhere} == {FAR, 78}
    node.step(NOW + SILENT + 1)
    assert {*node.members.directory.running_elsewhere} == {78}
    node.step(NOW + 3 * SILENT)  # the later one may be cut off
    assert {*node.members.directory.running_elsewhere} == {78}


def test_which_process_is_the_later_one_does_not_depend_on_which_was_told_of_first() -> None:
    node = Node()
    node.meet("far", 78)
    node.members.directory.relayed(FAR, NOW + 2, "peer")
    node.members.directory.relayed(78, NOW + 1, "peer")
    node.step(NOW + 1 + SILENT)
    assert {*node.members.directory.running_elsewhere} == {FAR}


def test_whom_no_peer_sees_is_advertised_until_it_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unlinked, "FORGOTTEN_PLACES", 2)
    node = Node()
    for key in range(5):
        node.table.bucket.take(f"{key}", 1)
    assert node.unlinked.rows() == []  # the peer says that it sees it
    node.members.directory.forget("far")
    assert node.unlinked.rows() == [("far", "", FAR, "")]
    lost = node.meet("lost", 78)
    node.relay("lost", 78, NOW)
    assert [name for name, *_ in node.unlinked.rows()] == ["far", "lost"]
    add_tombstone(node.table, 78)
    node.table.epochs.release(78)
    assert (lost, 0, NOW) in node.table.nodes.relayed_members()
    assert node.unlinked.rows() == [("far", "", FAR, "")]
    node.advertised()
    node.members.directory.forget("far")
    assert FAR in {epoch for _, epoch, _ in node.step(NOW + SILENT)}
    assert node.unlinked.rows() == []


@pytest.mark.parametrize("ends", ["no member", "tombstone"])
def test_one_of_which_nothing_was_predicted_yet_runs_no_more(ends: str) -> None:
    node = Node()
    node.meet("brief", 78)
    node.members.directory.relayed(78, NOW, "peer")
    node.advertised("far", "brief")
    node.step(NOW + SILENT)
    assert 78 in node.members.directory.running_elsewhere
    if ends == "no member":
        node.advertised("far")
    else:
        add_tombstone(node.table.table, 78)
    node.step(NOW + SILENT - 1)
    assert 78 in node.members.directory.running_elsewhere
    node.step(NOW + SILENT)
    assert {*node.members.directory.running_elsewhere} == {FAR}


@pytest.mark.parametrize("change", ["down", "silent", "anew", "gone", "nothing said"])
def test_a_relay_that_is_not_there_gives_nobody_up(change: str) -> None:
    """The same holds for a relay that is another process: it may not have met the node yet."""
    node = Node()
    node.advertised()
    now = NOW + SILENT
    if change == "down":
        node.peer.connected = False
        node.peer.last_seen = now
    elif change == "silent":
        node.peer.last_seen = now - ALIVE_NS
        node.unlinked.step(now)
        assert node.table.nodes.relayed_members()
        return
    elif change == "anew":
        node.peer.started = NOW + 1
    elif change == "gone":
        del node.members.links["peer"]
    else:
        node.peer.advertised = None
    assert node.step(now)


@pytest.mark.parametrize("relay", ["anew", "another"])
def test_who_is_no_member_for_anybody_is_given_up(relay: str) -> None:
    """The member ended while the only relay was away; or another peer saw it last, and all have met
    those that they will meet."""
    node = Node()
    node.advertised()
    node.peer.started = NOW + 1
    if relay == "another":
        node.members.directory.relayed(FAR, NOW + 1, "third")
    assert node.step(NOW + MEETS_NS)
    (third,) = linked(node.members, named("third", 3))
    third.last_seen, third.started, third.advertised = NOW + MEETS_NS + 1, 0, {"far": FAR}
    assert node.step(NOW + MEETS_NS + 1)
    third.advertised = {"me": ME.epoch}
    third.connected = False
    assert node.step(NOW + MEETS_NS + 1)
    third.connected = True
    assert node.step(NOW + MEETS_NS + 1) == []


@pytest.mark.parametrize("lacks", ["peer", "third"])
def test_of_two_peers_the_relay_alone_gives_it_up(lacks: str) -> None:
    """The other one may never have met it."""
    node = Node()
    (third,) = linked(node.members, named("third", 3))
    third.last_seen, third.started = NOW + SILENT, NOW
    node.peer.started = NOW
    for link in (node.peer, third):
        link.advertised = {"me": ME.epoch} if link.info.name == lacks else {"far": FAR}
    assert bool(node.step(NOW + SILENT)) == (lacks == "third")


def test_a_peer_that_is_gone_is_not_asked() -> None:
    node = Node()
    node.advertised()
    node.peer.started = NOW + 1
    (third,) = linked(node.members, named("third", 3))
    third.connected, third.left = False, True
    assert node.step(NOW + 1 + MEETS_NS) == []


def test_what_was_predicted_is_given_up_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other node gets its number meanwhile, and a process that claims to be it waits until the
    end."""
    monkeypatch.setattr(unlinked, "FORGOTTEN_PLACES", 2)
    node = Node()
    for key in range(5):
        node.table.bucket.take(f"{key}", 1)
    node.advertised()
    now = NOW + SILENT
    assert node.step(now) == [(node.number, FAR, NOW)]
    add_tombstone(node.table, FAR)
    node.table.epochs.release(FAR)
    node.relay("far", FAR, now)
    node.roster.drop_strangers({"peer"})
    assert "far" in node.roster.names().values()
    assert node.step(now) == [(node.number, 0, NOW)]
    assert node.step(now) == []
    node.roster.drop_strangers({"peer"})
    assert "far" not in node.roster.names().values()


def test_who_has_lost_its_place_is_given_up() -> None:
    node = Node()
    add_tombstone(node.table, FAR)
    node.table.epochs.release(FAR)
    assert node.step(NOW) == []


def counting(node: Node) -> int:
    """How many of those that relays alone see count for what is guaranteed."""
    node.table.called("count_relayed")
    node.step(NOW)
    return sum(dict(node.table.called("count_relayed")).values())


def test_a_few_count_while_no_two_peers_see_each_other() -> None:
    """So it is for a node with a single peer, and in the middle of a chain."""
    node = Node()
    for i in range(COUNTED):
        node.meet(f"n{i}", 1000 + i)
        node.relay(f"n{i}", 1000 + i, NOW)
    assert counting(node) == COUNTED
    (third,) = linked(node.members, named("third", 3))
    third.advertised = {"third": 3, "me": ME.epoch}
    assert counting(node) == COUNTED
    third.advertised = {"peer": PEER.epoch, "third": 3}
    assert counting(node) == 0
    third.unseen = ("peer",)
    assert counting(node) == COUNTED
    third.unseen = ()
    third.left = True
    assert counting(node) == COUNTED


def test_half_of_the_peers_may_have_invented_whom_they_see() -> None:
    """A peer that has not advertised yet whom it sees is none of them."""
    node = Node()
    peers = (node.peer, *linked(node.members, named("b", 3), named("c", 4), named("d", 5)))
    for link in peers[:2]:
        link.advertised = {"c": 4, "far": FAR}
    assert counting(node) == 1
    peers[2].advertised = {"b": 3}
    assert counting(node) == 1
    peers[3].advertised = {"b": 3}
    assert counting(node) == 0
    peers[3].advertised = {"far": FAR}
    assert counting(node) == 1


def test_whom_two_peers_see_counts() -> None:
    """Both hubs of two stars see every leaf. A silent hub counts by its last advertisement."""
    node = Node()
    node.peer.advertised = {"third": 3, "far": FAR}
    (third,) = linked(node.members, named("third", 3))
    assert counting(node) == 0
    third.advertised = {"far": FAR}
    assert counting(node) == 1
    third.connected = False
    assert counting(node) == 1
    third.unseen = ("far",)
    assert counting(node) == 0


@pytest.mark.parametrize("expected", [1, 3, 4])
def test_of_members_that_do_not_count_the_log_says_once_what_to_do(
    expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless it is known how many nodes there are, or all may be newcomers that are met soon."""
    node = Node(replace(CONFIG, expected_nodes=expected))
    node.advertised("far", "third")
    (third,) = linked(node.members, named("third", 3))
    later = NOW + UNSURE_NS
    node.relay("far", FAR, later)
    node.step(NOW + UNSURE_NS - node.table.nodes.near_ns)
    assert not caplog.records
    for now in (later + 1, later + 2):
        third.last_seen = now
        node.step(now)
    said = [record.message for record in caplog.records if "mesh.expected_nodes" in record.message]
    text = (
        "me: some of 1 members without a link here are seen by half of the peers at most, which "
        "may invent them. In heavy overload each node may be given more than its part: set "
        "mesh.expected_nodes to how many nodes there are"
    )
    assert said == [text] * (expected < 4)


def test_for_the_next_process_that_leads_they_are_newcomers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has not seen how long one peer alone has seen them."""
    node = Node(replace(CONFIG, expected_nodes=3))
    node.advertised("far", "third")
    linked(node.members, named("third", 3))
    table: Any = node.table
    next_one = UnlinkedMembers(
        table, node.members.directory, Roster(table, "me"), replace(CONFIG, expected_nodes=3)
    )
    next_one.step(NOW + UNSURE_NS + 1)
    assert node.table.nodes.relayed_members() == [(node.number, FAR, NOW)]
    assert not caplog.records


def test_the_next_process_that_leads_goes_on_with_them() -> None:
    node = Node()
    node.advertised()
    next_one = UnlinkedMembers(
        node.table,  # type: ignore[arg-type]
        node.members.directory,
        Roster(node.table, "me"),  # type: ignore[arg-type]
        CONFIG,
    )
    node.members.directory.running_elsewhere.clear()
    node.peer.connected = False
    next_one.step(NOW + SILENT)
    assert node.table.nodes.relayed_members() == [(node.number, FAR, NOW)]
    next_one.step(NOW + CONFIG.forget_after_ns + 1)
    assert node.table.nodes.relayed_members() == []


def test_a_number_that_no_node_can_have_is_refused() -> None:
    table = Table(max_keys=16, hash_key=bytes(16), virtual=True)
    with pytest.raises(CrdtbucketError, match="node ids are below 1024, not 1024"):
        table.nodes.count_relayed(1024, True)
    with pytest.raises(CrdtbucketError, match="node ids are below 1024, not 1024"):
        table.nodes.set_relayed(1024, 5, 0)
    assert table.nodes.relayed_members() == []
