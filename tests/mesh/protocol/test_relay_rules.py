"""What a node relays, advertises and believes of ages, rule by rule; test_relays.py has whole
meshes."""

from __future__ import annotations

from array import array

import pytest

from crdtbucket.mesh.protocol import relays, wire
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS, CAUGHT_UP
from crdtbucket.mesh.protocol.peer_state import NEVER, PeerState
from crdtbucket.mesh.protocol.relays import MS, Relays
from tests.mesh.protocol.lone_node import ME, PEER, SECOND, frame, linked, membership, named

NOW = 100 * SECOND
NEAR_NS = SECOND
FAR = 77


class Node:
    """A node `me` with links to `peer`, `third` and `fourth`, all seen at `NOW`."""

    def __init__(self) -> None:
        self.members, self.table = membership()
        self.table.nodes.configure(near_ns=NEAR_NS)
        self.peer, self.third, self.fourth = linked(
            self.members, PEER, named("third", 3), named("fourth", 4)
        )
        for link in self.links:
            link.last_seen = NOW
        self.relays = self.relay()

    def relay(self) -> Relays:
        return Relays(self.table, self.members, self.members._roster)  # type: ignore[arg-type]

    def entries(self, count: int) -> array[int]:
        """So many merged entries, all of one from which tokens are taken again and again."""
        self.table.bucket.take("k", 1)
        return array("I", [self.table.find(*self.table.bucket.hash("k"))] * count)

    @property
    def links(self) -> tuple[PeerState, ...]:
        return self.peer, self.third, self.fourth

    @property
    def elsewhere(self) -> dict[int, tuple[int, str]]:
        return self.members.directory.running_elsewhere

    def round(self, *ages: tuple[int, int], of: PeerState | None = None) -> None:
        """A complete round of `peer`, or `of` another, with these ages has come."""
        link = of or self.peer
        link.round_ages = ages
        self.relays.round_completed(link, NOW, NOW)


def test_the_table_learns_whose_rates_are_relayed_when_that_changes() -> None:
    node = Node()
    third = node.third.node
    node.peer.unseen = ("stranger", "third")
    node.table.called("relay")
    node.relays.step()
    assert node.table.called("relay") == [(third, True)]
    node.relays.step()
    assert node.table.called("relay") == []
    node.peer.connected = False
    node.relays.step()
    assert node.table.called("relay") == [(third, False)]
    node.peer.connected = True
    node.relays.step()
    node.table.called("relay")
    node.relay()  # of the next process that leads
    assert node.table.called("relay") == [
        (number, False) for number in (0, *(link.node for link in node.links))
    ]


@pytest.mark.parametrize("owner", ["far", "third", "me", ""])
def test_the_rates_of_who_is_seen_by_a_relay_alone_are_relayed_to_who_does_not_see_that(
    owner: str,
) -> None:
    """In a chain the next node knows the member only from here. No node relays this node itself,
    nor an epoch that no node has any more."""
    node = Node()
    number = node.members._roster.node(owner) if owner else 0
    if owner:
        node.table.epochs.origin(number, FAR)
    node.elsewhere[FAR] = NOW, "fourth"
    node.elsewhere[78] = NOW, "peer"
    node.table.called("relay")
    node.peer.unseen = ("third",)
    node.relays.step()
    assert node.table.called("relay") == [(node.third.node, True)]
    node.peer.unseen = ("fourth",)
    node.relays.step()
    wanted = {node.fourth.node, number} - {0}
    changes = {(one, True) for one in wanted - {node.third.node}}
    gone = set() if node.third.node in wanted else {(node.third.node, False)}
    assert set(node.table.called("relay")) == changes | gone


@pytest.mark.parametrize(
    ("ago", "touched", "relayed", "begins"),
    [
        (CAUGHT_UP * ALIVE_NS, True, False, True),
        (CAUGHT_UP * ALIVE_NS + 1, True, False, False),
        (0, False, False, False),
        (0, True, True, False),  # they are dirty already
    ],
)
def test_what_came_lately_is_relayed_as_well_when_a_peer_does_not_see_its_sender(
    ago: int, touched: bool, relayed: bool, begins: bool
) -> None:
    node = Node()
    entries = node.entries(touched)
    if relayed:
        node.members.receive(node.peer, frame(members=(), unseen=("third",)), NOW)
    node.relays.merged(node.third, entries, NOW - ago)
    node.relays.begin(["stranger", "third"], NOW)
    assert node.table.called("touch") == ([(entries,)] if begins else [])
    node.relays.begin(["third"], NOW)
    assert node.table.called("touch") == []


def test_what_came_lately_begins_to_be_relayed_a_part_in_each_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No age is advertised before all of it has been sent: a node that gets the age keeps no credit
    for what it lacks."""
    monkeypatch.setattr(relays, "CAUGHT_UP_ENTRIES", 2)
    node = Node()
    entries = node.entries(2)
    node.third.completed, node.third.round_time = 1, NOW
    node.peer.unseen = ("third",)
    for _ in range(3):
        node.relays.merged(node.fourth, entries, NOW)
        node.relays.merged(node.third, entries, NOW)
    node.relays.begin(["third"], NOW)
    for left in (2, 1, 0):
        assert node.table.called("touch") == [(entries,)]
        assert node.relays.ages(node.peer, NOW) == (() if left else ((3, 0),))
        node.relays.step()
    assert node.table.called("touch") == []
    assert len(node.fourth.recent_entries) == 3


def test_of_several_whom_a_peer_does_not_see_all_are_caught_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relays, "CAUGHT_UP_ENTRIES", 2)
    node = Node()
    entries = node.entries(2)
    for link in (node.third, node.third, node.fourth):
        node.relays.merged(link, entries, NOW)
    node.relays.begin(["third"], NOW)
    node.relays.begin(["fourth"], NOW)
    assert len(node.table.called("touch")) == 2
    node.relays.step()
    assert len(node.table.called("touch")) == 1


@pytest.mark.parametrize(
    ("age", "stated"),
    [(-1, None), (0, 0), (1, 1), (MS, 1), (NEAR_NS - 1, 1000), (NEAR_NS, None)],
)
def test_an_age_is_stated_in_milliseconds_rounded_up_while_it_is_near(
    age: int, stated: int | None
) -> None:
    node = Node()
    node.peer.unseen = ("third",)
    node.third.completed, node.third.round_time = 1, NOW - age
    rows = () if stated is None else ((3, stated),)
    assert node.relays.ages(node.peer, NOW) == rows


def test_only_who_is_connected_and_has_completed_a_round_has_an_age_of_its_own() -> None:
    node = Node()
    node.peer.unseen = ("third",)
    node.third.round_time = NOW
    assert node.relays.ages(node.peer, NOW) == ()
    node.third.completed, node.third.connected = 1, False
    assert node.relays.ages(node.peer, NOW) == ()


def test_an_age_by_a_relay_is_stated_to_who_does_not_see_that_relay_either() -> None:
    node = Node()
    node.third.relayed_at, node.third.relay = NOW - MS, "fourth"
    node.peer.unseen = ("third",)
    assert node.relays.ages(node.peer, NOW) == ()
    node.peer.unseen = ("third", "fourth")
    assert node.relays.ages(node.peer, NOW) == ((3, 1),)
    node.third.completed, node.third.round_time = 1, NOW
    assert node.relays.ages(node.peer, NOW) == ((3, 0),)


@pytest.mark.parametrize("gone", ["left", "forgotten"])
def test_who_has_no_age_does_not_hide_the_next(gone: str) -> None:
    node = Node()
    node.peer.unseen = ("stranger", "peer", "fourth", "third")
    for link in node.links:
        link.completed, link.round_time = 1, NOW
    setattr(node.fourth, gone, True)
    assert node.relays.ages(node.peer, NOW) == ((3, 0),)


def test_more_ages_than_a_round_carries_take_turns() -> None:
    node = Node()
    many = [f"n{i}" for i in range(wire.MAX_AGES)]
    for number, link in enumerate(
        linked(node.members, *(named(name, 1000 + i) for i, name in enumerate(many)))
    ):
        link.completed, link.round_time = 1, NOW - number * MS
    for link in (node.third, node.fourth):
        link.completed, link.round_time = 1, NOW
    node.peer.unseen = (*many, "third", "fourth")
    epochs = [*range(1000, 1000 + wire.MAX_AGES), 3, 4]
    stated = [[epoch for epoch, _ in node.relays.ages(node.peer, NOW)] for _ in range(3)]
    assert stated == [(epochs[first:] + epochs[:first])[: wire.MAX_AGES] for first in (0, 64, 62)]


def test_processes_without_a_link_are_passed_on_as_far_as_their_relay_does_not_state_them() -> None:
    node = Node()
    node.peer.unseen = ("third",)
    ages = {FAR: 1, 78: -1, 79: CAUGHT_UP * ALIVE_NS - 1, 80: CAUGHT_UP * ALIVE_NS, PEER.epoch: 0}
    for epoch, age in ages.items():
        node.members.directory.relayed(epoch, NOW - age, "third")
    node.members.directory.relayed(81, NOW, "fourth")
    assert node.relays.ages(node.peer, NOW) == ((FAR, 1), (78, 0), (79, 4000))
    node.members.directory.relayed(81, NOW + 1, "third")
    node.third.completed, node.third.round_time = 1, NOW
    for epoch in range(100, 100 + wire.MAX_AGES):
        node.members.directory.relayed(epoch, NOW, "third")
    assert len(node.relays.ages(node.peer, NOW)) == wire.MAX_AGES


def test_an_age_is_believed_of_who_is_silent_here_and_makes_nobody_older() -> None:
    node = Node()
    for link in (node.third, node.fourth):
        link.connected = False
    node.round((12345, 0), (3, 20), (4, 30))  # nobody here knows the first
    assert (node.third.relayed_at, node.third.relay) == (NOW - 20 * MS, "peer")
    ages = [(node.third.node, NOW - 20 * MS), (node.fourth.node, NOW - 30 * MS)]
    assert node.table.called("set_last_seen") == ages
    assert node.peer.round_ages == ()
    node.round((3, 20), (3, 21), of=node.fourth)
    assert (node.third.relayed_at, node.third.relay) == (NOW - 20 * MS, "peer")
    node.round((3, 19), of=node.fourth)
    assert (node.third.relayed_at, node.third.relay) == (NOW - 19 * MS, "fourth")
    assert node.table.called("set_last_seen") == [(node.third.node, NOW - 19 * MS)]


def test_who_is_seen_speaks_for_itself_until_it_is_silent() -> None:
    node = Node()
    node.third.last_seen = NOW - ALIVE_NS + 1
    node.round((3, 0))
    assert node.third.relayed_at == NEVER
    node.third.last_seen = NOW - ALIVE_NS
    node.round((3, 0))
    assert node.third.relayed_at == NOW


@pytest.mark.parametrize("change", ["left", "forgotten", "the peer itself"])
def test_no_age_is_believed_of_who_is_gone_or_of_the_peer_by_itself(change: str) -> None:
    node = Node()
    link = node.peer if change == "the peer itself" else node.third
    link.connected = link is node.peer
    link.last_seen = 0
    if link is not node.peer:
        setattr(link, change, True)
    node.fourth.connected = False
    node.round((link.info.epoch, 0), (4, 0))
    assert link.relayed_at == NEVER
    assert node.fourth.relayed_at == NOW  # the row after it


def test_a_process_that_was_taken_for_dead_and_is_seen_since_counts_again() -> None:
    node = Node()
    node.members.pruner.tombstones = {3: NOW - 20 * MS, 4: NOW}
    node.round((4, 20), (3, 20))
    assert set(node.members.pruner.tombstones) == {3, 4}
    node.round((3, 19))
    assert set(node.members.pruner.tombstones) == {4}


@pytest.mark.parametrize(
    ("change", "epoch", "age", "noted"),
    [
        ("", 3, 0, False),  # the link shows it
        ("connected", 3, 0, False),
        ("", FAR, 5, True),  # of another process of the same node
        ("left", 3, 0, False),  # it said so itself
        ("left", FAR, 5, True),
        ("forgotten", 3, 10, False),  # no newer than what was seen here
        ("forgotten", 3, 9, True),
        ("forgotten left", 3, 9, False),
        ("", ME.epoch, 0, False),
    ],
)
def test_a_process_is_noted_as_running_elsewhere_when_no_link_shows_more(
    change: str, epoch: int, age: int, noted: bool
) -> None:
    node = Node()
    node.table.epochs.origin(node.third.node, FAR)
    node.third.last_seen = NOW - 10 * MS
    for one in change.split():
        setattr(node.third, one, one != "connected")
    node.round((epoch, age))
    assert node.elsewhere == ({epoch: (NOW - age * MS, "peer")} if noted else {})
    without_link = noted and change in ("left", "forgotten")
    assert node.members.unlinked._first == ({epoch: NOW - age * MS} if without_link else {})


def test_a_process_of_a_node_that_has_no_link_is_noted() -> None:
    node = Node()
    node.table.epochs.origin(node.members._roster.node("far"), FAR)
    node.round((FAR, 5), (3, 0))
    assert node.elsewhere == {FAR: (NOW - 5 * MS, "peer")}
    assert node.members.unlinked._first == {FAR: NOW - 5 * MS}


def test_a_process_that_is_known_is_introduced_by_nobody() -> None:
    """It would use up a part of this peer's places."""
    node = Node()
    node.table.epochs.origin(node.members._roster.node("far"), FAR)
    node.members.receive(node.peer, frame(members=(("far", "ap", FAR, "h:1"),)), NOW)
    node.round((FAR, 5))
    assert node.elsewhere == {FAR: (NOW - 5 * MS, "peer")}
    assert node.members.introductions._by == {}


def test_a_process_that_has_taken_nothing_is_known_by_its_age_as_the_member_that_runs() -> None:
    """This holds as far as the peer has places for epochs, and only for the epoch of a member that
    a peer advertised."""
    node = Node()
    rows = (("far", "ap", FAR, "h:1"), ("other", "", 78, ""))
    node.members.receive(node.peer, frame(members=rows), NOW)
    node.round((FAR, 5), (79, 5))
    owner = node.members._roster.owner
    assert (owner(FAR), owner(78), owner(79)) == ("far", None, None)
    assert node.elsewhere == {FAR: (NOW - 5 * MS, "peer")}
    assert node.members.introductions._by == {FAR: "peer"}
    node.members.introductions.by = lambda peer: lambda *row: False  # type: ignore[method-assign]
    node.round((78, 5))
    assert owner(78) is None
