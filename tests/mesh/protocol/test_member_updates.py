"""What nodes tell each other of the members, and when they tell it again."""

from __future__ import annotations

from crdtbucket._core import Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_updates import (
    GOSSIP_NS,
    PATIENCE_NS,
    REPEAT_NS,
    REPEATED_MEMBERS,
)
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from tests.mesh.protocol.lone_node import (
    ME,
    PEER,
    frame,
    membership,
)


def test_only_who_sees_a_member_is_believed() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    row = ("third", "", 3, "h:1")
    members.receive(link, frame(members=(row,), unseen=("third",)), 0)
    assert "third" not in members.directory.known
    members.receive(link, frame(members=(row,), unseen=()), 1)
    assert members.directory.known["third"] == row


def test_updates_are_told_when_they_change_and_again_after_a_while() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    members.prepare_updates(lambda: ME, 0)
    told = members.updates.due_for(link, 0)
    assert told["members"][0] == ("me", "eu", 7, "10.0.0.1:1")
    link.updates_acked = link.updates_sent
    assert members.updates.due_for(link, REPEAT_NS - 1) == {}
    assert members.updates.due_for(link, REPEAT_NS) == told
    link.updates_acked = link.updates_sent
    members.receive(link, frame(members=(("third", "", 3, ""),)), REPEAT_NS)
    members.prepare_updates(lambda: ME, GOSSIP_NS - 1)
    assert members.updates.due_for(link, REPEAT_NS) == {}  # looked at once a second
    members.prepare_updates(lambda: ME, GOSSIP_NS)
    assert members.updates.due_for(link, REPEAT_NS)["members"][-1][0] == "third"


def test_updates_that_are_lost_are_told_again_soon() -> None:
    """Until they are acknowledged, or nothing comes from the peer for long."""
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    link.round_trip = GOSSIP_NS
    members.prepare_updates(lambda: ME, 0)
    told = members.updates.due_for(link, 0)
    again = PATIENCE_NS + 2 * GOSSIP_NS
    assert members.updates.due_for(link, again - 1) == {}
    assert members.updates.due_for(link, again) == told
    link.log_kept = False
    assert members.updates.due_for(link, 2 * again) == {}
    link.log_kept = True
    assert members.updates.due_for(link, 2 * again) == told
    link.updates_acked = link.updates_sent
    assert members.updates.due_for(link, 3 * again) == {}
    assert members.updates.due_for(link, REPEAT_NS) == told
    assert members.updates.due_for(link, REPEAT_NS + again) == told


def test_what_a_link_carries_of_many_members_does_not_grow() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    rows = tuple((f"n{i}", "", 1, "") for i in range(2 * REPEATED_MEMBERS))
    members.receive(link, frame(members=rows), 0)
    members.prepare_updates(lambda: ME, 0)
    assert len(members.updates.due_for(link, 0)["members"]) == 2 + 2 * REPEATED_MEMBERS
    link.updates_acked = link.updates_sent
    assert members.updates.due_for(link, 3 * REPEAT_NS - 1) == {}
    assert members.updates.due_for(link, 3 * REPEAT_NS)


def test_an_address_that_is_known_only_later_is_told() -> None:
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=ME.epoch)
    node = MeshNode(table, MeshConfig(), name="me", seed=1)
    node.connected(PEER, table.now())
    node.address = "10.0.0.1:7946"  # a node that listens on any port learns it when it listens
    frames = node.tick(node.next_tick(table.now()))
    frames += node.tick(table.now() + 2 * GOSSIP_NS)
    told = [wire.decode(data).members for name, data in frames if name == "peer"]
    assert ("me", "", ME.epoch, "10.0.0.1:7946") in {own[0] for own in told if own}
