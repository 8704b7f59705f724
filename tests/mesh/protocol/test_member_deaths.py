"""Members that count as dead by the end of a connection, and what that needs from the others."""

from __future__ import annotations

from dataclasses import replace

from crdtbucket.mesh.protocol.member_updates import (
    GOSSIP_NS,
)
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.peer_state import PeerState
from tests.mesh.protocol.lone_node import (
    ME,
    PEER,
    frame,
    membership,
)


def died(members: Membership, now: int) -> bool:
    """Whether the peer counts as dead when every call is refused from now on."""
    for _ in range(12):
        now += GOSSIP_NS
        members.detector.dial_failed("peer", "", now, refused=True)
        members.age(now)
    return members.links["peer"].forgotten


def test_a_connection_that_this_side_gave_up_waiting_for_is_no_death() -> None:
    for ended in (True, False):
        members, _ = membership()
        members.connected(PEER, 0)
        members.disconnected(members.links["peer"], 0, ended=ended)
        assert died(members, 0) == ended


def test_calls_are_of_the_peer_by_its_name_or_its_address() -> None:
    for name, address, expected in (
        ("peer", "", True), ("", PEER.address, True), ("other", "", False), ("", "", False)
    ):  # fmt: skip
        members, _ = membership()
        members.connected(PEER, 0)
        members.disconnected(members.links["peer"], 0, ended=True)
        members.detector.dial_failed(name, address, GOSSIP_NS, refused=True)
        ending = members.links["peer"].ending
        assert ending is not None
        assert (ending.refused is not None) == expected


def test_a_member_that_is_only_advertised_counts_in_the_majority() -> None:
    """A leaf of a star that loses its hub has lost everybody."""
    members, _ = membership()
    members.connected(PEER, 0)
    row = ("third", "", 3, "h:1")
    members.receive(members.links["peer"], frame(members=(row,), unseen=()), 0)
    members.disconnected(members.links["peer"], 0, ended=True)
    assert not died(members, 0)


def test_who_died_before_a_joiner_came_is_no_member_there() -> None:
    """That its epoch was announced does not hold it up, nor does it count against a majority."""
    members, table = membership()
    members.connected(PEER, 0)
    link, row = members.links["peer"], ("third", "", 3, "h:1")
    table.table.epochs.origin(members._roster.node("third"), 3)
    members.receive(link, frame(members=(row,), unseen=()), 0)
    assert members.directory.running(ME.epoch) == {ME.epoch, PEER.epoch, 3}
    members.receive(link, frame(members=(row,), unseen=("third",)), GOSSIP_NS)
    assert members.directory.running(ME.epoch) == {ME.epoch, PEER.epoch}
    members.disconnected(link, GOSSIP_NS, ended=True)
    assert died(members, GOSSIP_NS)


def test_whoever_takes_over_counts_the_members_that_are_not_linked_again() -> None:
    members, _ = membership()
    linked = [
        PeerState(
            replace(PEER, name=name, epoch=epoch), members._roster.node(name), 0, connected=False
        )
        for name, epoch in (("peer", 9), ("third", 10))
    ]
    members.take_over(linked, 0)
    members.connected(PEER, 0)
    members.disconnected(members.links["peer"], 0, ended=True)
    assert not died(members, 0)
    members.connected(linked[1].info, 13 * GOSSIP_NS)
    members.receive(members.links["third"], frame(members=(), unseen=()), 13 * GOSSIP_NS)
    members.detector.dial_failed("peer", "", 13 * GOSSIP_NS, refused=True)
    members.age(13 * GOSSIP_NS)
    assert members.links["peer"].forgotten
