"""The members that a node has learned of: their addresses, and which of them run."""

from __future__ import annotations

from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_updates import (
    GOSSIP_NS,
)
from crdtbucket.mesh.protocol.membership import DEAD_NS
from tests.mesh.protocol.lone_node import (
    CONFIG,
    ME,
    PEER,
    frame,
    membership,
)


def test_who_a_silent_peer_sees_is_not_taken_for_dead() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    members.receive(members.links["peer"], frame(members=(("third", "", 3, ""),), unseen=()), 0)
    members.age(DEAD_NS)
    assert 3 in members.directory.running(ME.epoch)
    members.forget(members.links["peer"])
    assert 3 not in members.directory.running(ME.epoch)


def test_what_peers_say_of_others_is_known_within_bounds() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    members.receive(link, frame(members=(("third", "", 3, "h:1"), ("me", "", 4, "h:2"))), 0)
    assert set(members.directory.known) == {"peer", "third"}
    members.receive(link, frame(members=(("third", "ap", 5, ""),)), 0)
    assert members.directory.known["third"] == (
        "third",
        "ap",
        5,
        "h:1",
    )  # its address is not taken back
    many = tuple((f"n{i}", "", 1, "") for i in range(wire.MAX_MEMBERS))
    members.receive(link, frame(members=many), 0)
    assert len(members.directory.known) == wire.MAX_MEMBERS - 1


def test_what_others_tell_ends_when_nobody_sees_the_member_any_more() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    row = ("third", "", 3, "h:1")
    members.receive(link, frame(members=(row,), unseen=()), 0)
    members.receive(link, frame(members=(row,), unseen=("third",)), GOSSIP_NS)
    members.prepare_updates(lambda: ME, CONFIG.forget_after_ns)
    assert "third" in members.directory.known
    members.prepare_updates(lambda: ME, CONFIG.forget_after_ns + GOSSIP_NS)
    assert set(members.directory.known) == {"peer"}  # a link's own silence decides for its member


def test_a_goodbye_is_not_undone_by_updates_that_were_on_their_way() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    third = NodeInfo("third", "", 3, "h:1", 0)
    members.connected(third, 0)
    members.receive(members.links["third"], frame(flags=wire.LEAVING), 1)
    update = frame(members=(("third", "", 3, "h:1"),), unseen=())
    members.receive(members.links["peer"], update, 2)
    assert members.directory.addresses(0) == [PEER.address]
    again = frame(members=(("third", "", 4, "h:1"),), unseen=())
    members.receive(members.links["peer"], again, 3)
    assert members.directory.addresses(0) == [PEER.address, "h:1"]  # it was started again
