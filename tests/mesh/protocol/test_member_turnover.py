"""Members that come and go under new names leave room for the next ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crdtbucket.errors import WireError
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS
from crdtbucket.mesh.protocol.member_updates import (
    GOSSIP_NS,
)
from crdtbucket.mesh.protocol.membership import DEAD_NS, GONE
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.mesh.protocol.lone_node import (
    CONFIG,
    ME,
    PEER,
    frame,
    membership,
)
from tests.tombstones import add_tombstone


def test_a_process_too_many_is_refused_and_leaves_nothing() -> None:
    members, table = membership()
    for i in range(wire.MAX_ORIGINS - 2):  # 0 is none, and one is the own
        members.connected(NodeInfo(f"n{i}", "", 100 + i, "", 0), 0)
    with pytest.raises(WireError, match="more epochs than can be told apart"):
        members.connected(PEER, 0)
    assert "peer" not in members.links
    assert "peer" not in members.directory.known
    with pytest.raises(WireError):
        members.connected(NodeInfo("n0", "", 9, "", 0), ALIVE_NS)
    assert members.links["n0"].info.epoch == 100
    add_tombstone(table.table, 101)
    table.table.epochs.release(101)
    members.connected(PEER, 0)
    assert members.links["peer"].connected


def test_a_mesh_forgets_a_dead_node_that_was_advertised_to_a_newcomer() -> None:
    mesh = SimulatedMesh(
        ["a", "b", "c", "d"], [BucketSpec("b", 10, 1)], forget_after=20.0, down=["c"]
    )
    mesh.advance(3)
    mesh.crash("d")
    mesh.advance(1)
    mesh.restart("c")
    mesh.advance(60)
    assert all("d" not in mesh[name].node.members.directory.known for name in "abc")


def test_names_may_come_and_go_for_ever() -> None:
    """Pods of a deployment have a new name each time."""
    members, table = membership()
    now = 0
    for i in range(2_000):
        members.connected(NodeInfo(f"pod-{i}", "", 100 + i, "", 0), now)
        members.disconnected(members.links[f"pod-{i}"], now)
        add_tombstone(table.table, 100 + i)
        table.table.epochs.release(100 + i)
        now += CONFIG.forget_after_ns
        members.age(now)
        members.prepare_updates(lambda: ME, now)
    assert len(members.links) < 5
    assert len(members.directory.known) < 5


@pytest.mark.parametrize("ended", [True, False])
def test_processes_under_new_names_may_die_for_ever(ended: bool) -> None:
    """One a second, by a crash or in silence: each later one still finds room."""
    members, table = membership(replace(CONFIG, forget_after=3600.0))
    members.expect(1, 0)
    for i in range(1, 1_500):
        now, peer = i * GOSSIP_NS, NodeInfo(f"pod-{i}", "", 100 + i, f"h:{i}", 0)
        table.table.set_time(now)
        members.connected(peer, now)
        members.disconnected(members.links[peer.name], now, ended=ended)
        for earlier in range(max(1, i - 12), i):
            members.detector.dial_failed(f"pod-{earlier}", "", now, refused=ended)
        members.age(now)
        members.prepare_updates(lambda: ME, now)
        assert peer.name in members.directory.known
    assert len(members.links) <= wire.MAX_ORIGINS + GONE
    assert len(table.table.epochs.origins()) < wire.MAX_ORIGINS


def test_who_is_silent_is_not_forgotten_for_want_of_room_while_a_peer_sees_it() -> None:
    members, _ = membership(replace(CONFIG, forget_after=3600.0))
    seen = NodeInfo("seen", "", 50, "", 0)
    for info in (PEER, seen):
        members.connected(info, 0)
    members.disconnected(members.links["seen"], 0)
    for i in range(wire.MAX_ORIGINS - 4):
        info = NodeInfo(f"n{i}", "", 100 + i, "", 0)
        members.connected(info, 0)
        members.disconnected(members.links[info.name], 0)
    now = DEAD_NS + 20 * GOSSIP_NS
    members.links["peer"].last_seen = now
    members.receive(members.links["peer"], frame(members=(("seen", "", 50, ""),), unseen=()), now)
    for later in range(20):
        members.prepare_updates(lambda: ME, now + later * GOSSIP_NS)
        members.links["peer"].last_seen = now + later * GOSSIP_NS
        members.age(now + later * GOSSIP_NS)
    forgotten = {name for name, link in members.links.items() if link.forgotten}
    assert forgotten
    assert "seen" not in forgotten
    assert "peer" not in forgotten
