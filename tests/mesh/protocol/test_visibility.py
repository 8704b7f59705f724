"""Which members do not see each other, as peers advertise it, and what a node must relay because of
that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from crdtbucket._core import Table
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import MAX_NODES, Roster
from crdtbucket.mesh.protocol.visibility import Visibility
from tests.interrupted import interrupted
from tests.mesh.protocol.lone_node import ME, PEER, frame, membership


class Node:
    """A node `me` with connected links to `a`, `b` and `c`, that have advertised nothing yet."""

    def __init__(self) -> None:
        self.roster = Roster(Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=7), "me")
        self.links = {name: self.link(name) for name in "abc"}
        directory: Any = SimpleNamespace(links=self.links)
        self.visibility = Visibility(directory, self.roster)

    def link(self, name: str) -> PeerState:
        link = PeerState(NodeInfo(name, "", 9, "", 0), self.roster.node(name), 0)
        link.connected = True
        return link

    def says(
        self,
        name: str,
        members: Iterable[str] | None = None,
        unseen: str | None = None,
        epoch: int = 9,
    ) -> None:
        """A peer advertises the members under this epoch; None: nothing about it."""
        rows = None if members is None else tuple((one, "", epoch, "") for one in members)
        names = None if unseen is None else tuple(unseen)
        frame = wire.Frame(epoch=9, to_epoch=7, seq=1, sent=0, members=rows, unseen=names)
        self.visibility.update(self.links[name], frame)

    def unseen_by(self, name: str) -> str:
        return "".join(self.visibility.unseen_by(self.links[name]))

    @property
    def relayed(self) -> str:
        """The names of all that are relayed; "?" when numbers without a name are not."""
        mask, names = self.visibility.relay_mask(), self.roster.names()
        assert len(mask) == MAX_NODES
        nobody = all(mask[number] for number in range(MAX_NODES) if number not in names)
        return "".join(sorted(names[n] for n in names if mask[n])) if nobody else "?"


def test_a_peer_does_not_see_whom_it_says_and_whom_it_does_not_know() -> None:
    node = Node()
    assert [node.unseen_by(name) for name in "ab"] == ["", ""]  # it has advertised nothing
    node.says("b", unseen="c")
    node.says("a", "ab")
    assert [node.unseen_by(name) for name in "ab"] == ["c", "c"]
    node.says("a", "abc", "xb")
    assert node.unseen_by("a") == "xb"
    node.says("a", "b", "b")
    assert node.unseen_by("a") == "bc"  # said ones first; never itself
    node.says("a", unseen="")
    assert node.unseen_by("a") == "c"
    node.links["d"] = node.link("d")
    assert node.unseen_by("a") == "c"  # the answer is kept
    node.visibility.changed()
    assert node.unseen_by("a") == "cd"


def test_whoever_sees_another_process_of_a_name_does_not_see_the_one_that_is_linked_here() -> None:
    node = Node()
    for name in "abc":
        node.says(name, ("me", *"abcx"))
    assert node.relayed == ""
    node.says("a", "bx", epoch=8)  # nobody is linked with x here
    assert node.unseen_by("a") == "bc"
    node.says("a", "abcx", epoch=8)
    assert node.unseen_by("a") == "bc"
    assert node.relayed == "bcme"
    node.links["c"].connected = False
    node.visibility.changed()
    assert node.unseen_by("a") == "b"  # nothing comes of c here, either
    node.links["b"].info = replace(node.links["b"].info, epoch=8)
    node.visibility.changed()
    assert node.unseen_by("a") == ""


def test_whom_some_connected_peer_does_not_see_is_relayed() -> None:
    node = Node()
    assert node.relayed == ""
    for name in "abc":
        node.says(name, "abc")
    assert node.relayed == "me"  # which nobody has advertised
    for name in "abc":
        node.says(name, ("me", *"abc"))
    assert node.relayed == ""
    node.says("a", unseen="b")
    assert node.relayed == "b"
    node.says("a")
    assert node.relayed == "b"
    node.links["a"].connected = False
    assert node.relayed == "b"  # it is kept until somebody says that a link is down
    node.visibility.changed()
    assert node.relayed == ""
    node.links["d"] = node.link("d")
    assert node.relayed == "d"  # a new name
    node.links["d"].connected = False
    node.roster.drop_strangers("abc")
    assert node.relayed == ""


def relayed(members: Membership, name: str) -> bool:
    """Whether a connected peer advertises that it does not see this member."""
    return any(link.connected and name in link.unseen for link in members.links.values())


def test_unseen_members_are_advertised_and_relayed_for() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    members.receive(link, frame(members=(("third", "", 3, ""),), unseen=("fourth",)), 0)
    assert members.advertised(ME, 0)["unseen"] == ("third",)
    assert relayed(members, "fourth")
    assert not relayed(members, "third")
    members.receive(link, frame(unseen=("fifth",)), 1)
    assert (relayed(members, "fourth"), relayed(members, "fifth")) == (False, True)
    members.receive(link, frame(), 2)  # says nothing of it
    assert relayed(members, "fifth")
    members.disconnected(link, 3)
    assert not relayed(members, "fifth")
    members.connected(PEER, 4)
    assert relayed(members, "fifth")
    members.connected(replace(PEER, epoch=10), 4 + ALIVE_NS)
    assert not relayed(members, "fifth")  # another process, which has said nothing yet


def test_what_a_peer_has_not_seen_is_relayed_to_it() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    number = members._roster.node("third")
    link = members.links["peer"]
    assert not members.visibility.relay_mask()[number]  # nothing is advertised yet
    members.receive(link, frame(members=(("me", "", 4, ""), ("peer", "", 5, "")), unseen=()), 0)
    assert members.visibility.relay_mask()[number]
    assert not members.visibility.relay_mask()[link.node]
    members.receive(link, frame(members=(("third", "", 3, ""),), unseen=()), 1)
    assert not members.visibility.relay_mask()[number]
    assert members.visibility.relay_mask()[members._roster.node("fourth")]


def test_what_another_thread_asks_while_a_link_changes_is_not_kept() -> None:
    members, _ = membership()
    for number, name in enumerate("ab", 2):
        members.connected(NodeInfo(name, "", number, "", 0), 0)
    link = members.links["a"]
    rows = (("a", "", 2, ""), ("b", "", 9, ""))  # another process of this name
    members.visibility.update(link, frame(members=rows, unseen=()))

    def change() -> None:
        if members.links["b"].connected:
            members.disconnected(members.links["b"], 0)

    for lines in range(1, 40):
        members.connected(members.links["b"].info, 0)
        left = iter(range(lines))
        interrupted(
            lambda: members.visibility.unseen_by(link),
            lambda left=left: next(left, None) == lines - 1 and change(),  # noqa: B023
        )
        change()
        assert members.visibility.unseen_by(link) == ()
