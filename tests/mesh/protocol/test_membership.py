"""Who is known, who is seen, who is forgotten, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import NodeConflict, WireError
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS
from crdtbucket.mesh.protocol.member_updates import (
    GOSSIP_NS,
    PATIENCE_NS,
    REPEAT_NS,
    REPEATED_MEMBERS,
)
from crdtbucket.mesh.protocol.membership import DEAD_NS, GONE, HOLD_NS, Membership
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh

FORGET_S = 100.0
CONFIG = MeshConfig(peers=["127.0.0.1:1", "127.0.0.1:2"], forget_after=FORGET_S)
ME = NodeInfo("me", "eu", 7, "10.0.0.1:1", 0)
PEER = NodeInfo("peer", "us", 9, "10.0.0.2:1", 0)


class Counted:
    """A table that says how many members it was told of, and who is silent."""

    def __init__(self) -> None:
        self.table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=ME.epoch)
        BucketCore(self.table, BucketSpec("b", 100, 100))
        self.members: list[int] = []
        self.silent: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)

    def set_disconnected(self, node: int) -> None:
        self.silent.append(node)
        self.table.set_disconnected(node)

    def configure(self, *, members: int) -> None:
        self.members.append(members)
        self.table.configure(members=members)


def membership(config: MeshConfig = CONFIG) -> tuple[Membership, Counted]:
    table = Counted()
    roster = Roster(table.table, "me")
    return Membership(table, config, roster, "me", 0), table  # type: ignore[arg-type]


def frame(**values: Any) -> wire.Frame:
    return wire.Frame(epoch=PEER.epoch, to_epoch=ME.epoch, seq=1, sent=0, **values)


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
    assert table.members[-1] == 3
    members.expect(1, 0)
    members.count(0)
    assert table.members[-1] == 2
    members.count(DEAD_NS)
    assert table.members[-1] == 1


def test_a_second_process_of_a_name_is_refused_while_the_first_is_seen() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    twin = NodeInfo("peer", "us", 10, "", 0)
    with pytest.raises(NodeConflict, match="two running processes are called 'peer'"):
        members.connected(twin, ALIVE_NS - 1)
    assert members.links["peer"].info == PEER
    members.connected(twin, ALIVE_NS)
    assert members.links["peer"].info == twin


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
    table.table.add_tombstone(101)
    table.table.release(101)
    members.connected(PEER, 0)
    assert members.links["peer"].connected


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
    assert table.silent == []
    members.age(3 * interval)
    assert table.silent == [members.links["peer"].node]


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


def test_another_node_at_its_address_says_that_a_peer_is_not_there() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    members.disconnected(members.links["peer"], 0, ended=True)
    members.connected(NodeInfo("other", "", 11, PEER.address, 0), GOSSIP_NS)
    ending = members.links["peer"].ending
    assert ending is not None
    assert ending.refused == GOSSIP_NS


def test_a_member_that_is_only_told_of_counts_in_the_majority() -> None:
    """A leaf of a star that loses its hub has lost everybody."""
    members, _ = membership()
    members.connected(PEER, 0)
    row = ("third", "", 3, "h:1")
    members.receive(members.links["peer"], frame(members=(row,), unseen=()), 0)
    members.disconnected(members.links["peer"], 0, ended=True)
    assert not died(members, 0)


def test_who_died_before_a_joiner_came_is_no_member_there() -> None:
    """Its epoch is not held up by having been told of, nor does it count against a majority."""
    members, table = membership()
    members.connected(PEER, 0)
    link, row = members.links["peer"], ("third", "", 3, "h:1")
    table.table.origin(members._roster.node("third"), 3)
    members.receive(link, frame(members=(row,), unseen=()), 0)
    assert members.directory.running(ME.epoch) == {ME.epoch, PEER.epoch, 3}
    members.receive(link, frame(members=(row,), unseen=("third",)), GOSSIP_NS)
    assert members.directory.running(ME.epoch) == {ME.epoch, PEER.epoch}
    members.disconnected(link, GOSSIP_NS, ended=True)
    assert died(members, GOSSIP_NS)


def test_who_a_silent_peer_sees_is_not_taken_for_dead() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    members.receive(members.links["peer"], frame(members=(("third", "", 3, ""),), unseen=()), 0)
    members.age(DEAD_NS)
    assert 3 in members.directory.running(ME.epoch)
    members.forget(members.links["peer"])
    assert 3 not in members.directory.running(ME.epoch)


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
    assert table.members[-1] == 1 + len(CONFIG.peers)
    assert members.links["peer"].ending is None


def test_a_goodbye_takes_the_peer_from_the_known() -> None:
    members, table = membership()
    members.expect(1, 0)
    members.connected(PEER, 0)
    members.receive(members.links["peer"], frame(flags=wire.LEAVING), 1)
    assert members.status(members.links["peer"], 1) == "left"
    assert table.members[-1] == 1
    assert members.directory.known == {}
    assert members.reachable() == []


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


def test_only_who_sees_a_member_is_believed() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    row = ("third", "", 3, "h:1")
    members.receive(link, frame(members=(row,), unseen=("third",)), 0)
    assert "third" not in members.directory.known
    members.receive(link, frame(members=(row,), unseen=()), 1)
    assert members.directory.known["third"] == row


def test_what_others_tell_ends_when_nobody_sees_the_member_any_more() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    row = ("third", "", 3, "h:1")
    members.receive(link, frame(members=(row,), unseen=()), 0)
    members.receive(link, frame(members=(row,), unseen=("third",)), GOSSIP_NS)
    members.prepare_updates(ME, CONFIG.forget_after_ns)
    assert "third" in members.directory.known
    members.prepare_updates(ME, CONFIG.forget_after_ns + GOSSIP_NS)
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


def test_a_mesh_forgets_a_dead_node_that_a_newcomer_was_told_of() -> None:
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
        table.table.add_tombstone(100 + i)
        table.table.release(100 + i)
        now += CONFIG.forget_after_ns
        members.age(now)
        members.prepare_updates(ME, now)
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
        members.prepare_updates(ME, now)
        assert peer.name in members.directory.known
    assert len(members.links) <= wire.MAX_ORIGINS + GONE
    assert len(table.table.origins()) < wire.MAX_ORIGINS


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
        members.prepare_updates(ME, now + later * GOSSIP_NS)
        members.links["peer"].last_seen = now + later * GOSSIP_NS
        members.age(now + later * GOSSIP_NS)
    forgotten = {name for name, link in members.links.items() if link.forgotten}
    assert forgotten
    assert "seen" not in forgotten
    assert "peer" not in forgotten


def test_updates_are_told_when_they_change_and_again_after_a_while() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    members.prepare_updates(ME, 0)
    told = members.updates.due_for(link, 0)
    assert told["members"][0] == ("me", "eu", 7, "10.0.0.1:1")
    link.updates_acked = link.updates_sent
    assert members.updates.due_for(link, REPEAT_NS - 1) == {}
    assert members.updates.due_for(link, REPEAT_NS) == told
    link.updates_acked = link.updates_sent
    members.receive(link, frame(members=(("third", "", 3, ""),)), REPEAT_NS)
    members.prepare_updates(ME, GOSSIP_NS - 1)
    assert members.updates.due_for(link, REPEAT_NS) == {}  # looked at once a second
    members.prepare_updates(ME, GOSSIP_NS)
    assert members.updates.due_for(link, REPEAT_NS)["members"][-1][0] == "third"


def test_updates_that_are_lost_are_told_again_soon() -> None:
    """Until they are acknowledged, or nothing comes from the peer for long."""
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    link.round_trip = GOSSIP_NS
    members.prepare_updates(ME, 0)
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
    members.prepare_updates(ME, 0)
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
