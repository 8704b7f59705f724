"""Which links there are, who is seen, who is forgotten, and what the table is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.errors import NodeConflict
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS
from crdtbucket.mesh.protocol.member_updates import (
    GOSSIP_NS,
)
from crdtbucket.mesh.protocol.membership import DEAD_NS, HOLD_NS, Membership
from tests.mesh.protocol.lone_node import (
    CONFIG,
    ME,
    PEER,
    frame,
    membership,
)


def relayed(members: Membership, name: str) -> bool:
    """Whether a connected peer says that it does not see this member."""
    return any(link.connected and name in link.unseen for link in members.links.values())


def test_status_by_silence() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    assert members.status(members.links["peer"], ALIVE_NS - 1) == "alive"
    assert members.status(members.links["peer"], ALIVE_NS) == "suspect"
    assert members.status(members.links["peer"], DEAD_NS - 1) == "suspect"
    assert members.status(members.links["peer"], DEAD_NS) == "dead"
    members.disconnected(members.links["peer"], 1)
    assert members.status(members.links["peer"], 1) == "suspect"


def test_members_that_must_exist_are_counted_until_the_memory_is_there() -> None:
    members, table = membership()
    members.connected(PEER, 0)
    assert table.told("configure")[-1] == (3,)
    members.expect(1, 0)
    members.count(0)
    assert table.told("configure")[-1] == (2,)
    members.count(DEAD_NS)
    assert table.told("configure")[-1] == (1,)


def test_a_second_process_of_a_name_is_refused_while_the_first_is_seen() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    twin = NodeInfo("peer", "us", 10, "", 0)
    with pytest.raises(NodeConflict, match="two running processes are called 'peer'"):
        members.connected(twin, ALIVE_NS - 1)
    assert members.links["peer"].info == PEER
    members.connected(twin, ALIVE_NS)
    assert members.links["peer"].info == twin


def test_the_log_is_kept_for_a_silent_peer_for_a_while() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    members.age(HOLD_NS)
    assert link.log_kept
    members.age(HOLD_NS + 1)
    assert not link.log_kept
    link.last_seen = HOLD_NS + 1
    members.age(HOLD_NS + 1)
    assert link.log_kept
    assert not link.synced


def test_a_peer_is_forgotten_once(caplog: pytest.LogCaptureFixture) -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    members.age(CONFIG.forget_after_ns)
    assert not link.forgotten
    assert members.directory.addresses(0) == [PEER.address]
    members.age(CONFIG.forget_after_ns + 1)
    assert link.forgotten
    assert members.directory.addresses(0) == []
    members.age(CONFIG.forget_after_ns + 2)
    assert caplog.text.count("is forgotten") == 1
    members.connected(PEER, CONFIG.forget_after_ns + 2)
    assert not link.forgotten
    assert members.directory.addresses(0) == [PEER.address]


def test_a_peer_is_not_silent_between_two_slow_rounds() -> None:
    interval = 10 * GOSSIP_NS
    members, table = membership(replace(CONFIG, gossip_interval=interval / 1e9))
    members.connected(PEER, 0)
    members.age(3 * interval - 1)
    assert table.told("set_disconnected") == []
    members.age(3 * interval)
    assert table.told("set_disconnected") == [(members.links["peer"].node,)]


def test_a_peer_with_slow_rounds_counts_again_after_it_was_forgotten() -> None:
    """Its newest frame, and the newest of this node that it has got, are as old as a round."""
    interval = 10 * GOSSIP_NS
    members, _ = membership(replace(CONFIG, gossip_interval=interval / 1e9))
    members.connected(PEER, 0)
    link, now = members.links["peer"], CONFIG.forget_after_ns + 1
    members.age(now)
    assert link.forgotten
    link.last_seen = now
    link.reached = now - interval
    members.age(now + interval - 1)
    assert not link.forgotten
    assert link.log_kept


def test_a_link_that_is_down_needs_no_room() -> None:
    """The epoch of a peer may have been given up while the link stood, and the table be full."""
    members, table = membership()
    members.connected(PEER, 0)
    table.table.add_tombstone(PEER.epoch)
    table.table.release(PEER.epoch)
    for i in range(wire.MAX_ORIGINS - 2):
        table.table.origin(1, 1000 + i)
    members.age(ALIVE_NS)
    members.disconnected(members.links["peer"], ALIVE_NS)
    assert table.told("configure")[-1] == (1 + len(CONFIG.peers),)
    assert members.links["peer"].ending is None


def test_a_goodbye_takes_the_peer_from_the_known() -> None:
    members, table = membership()
    members.expect(1, 0)
    members.connected(PEER, 0)
    members.receive(members.links["peer"], frame(flags=wire.LEAVING), 1)
    assert members.status(members.links["peer"], 1) == "left"
    assert table.told("configure")[-1] == (1,)
    assert members.directory.known == {}
    assert members.reachable() == []


def test_unseen_members_are_told_and_relayed_for() -> None:
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
    assert not members.visibility.relay_mask()[number]  # nothing told yet
    members.receive(link, frame(members=(("me", "", 4, ""), ("peer", "", 5, "")), unseen=()), 0)
    assert members.visibility.relay_mask()[number]
    assert not members.visibility.relay_mask()[link.node]
    members.receive(link, frame(members=(("third", "", 3, ""),), unseen=()), 1)
    assert not members.visibility.relay_mask()[number]
    assert members.visibility.relay_mask()[members._roster.node("fourth")]
