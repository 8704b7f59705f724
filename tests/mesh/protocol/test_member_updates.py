"""What nodes advertise of the members, and when they send it again."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket._core import Table
from crdtbucket.limiter.stats import fleet_row
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.introductions import PLACES
from crdtbucket.mesh.protocol.member_directory import DIALS
from crdtbucket.mesh.protocol.member_updates import (
    GOSSIP_NS,
    PATIENCE_NS,
    REPEAT_NS,
    REPEATED_MEMBERS,
)
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.pruning import PASSES
from crdtbucket.spec.mode import MODES
from tests.mesh.protocol.lone_node import (
    CONFIG,
    ME,
    PEER,
    SECOND,
    frame,
    linked,
    membership,
    named,
)

CONFIGURATION: wire.Config = (1, 77, 100)
ROLLOUT: wire.Rollout = (1, 77, 3, 0, 100)


def test_only_who_sees_a_member_is_believed() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    row = ("third", "", 3, "h:1")
    members.receive(link, frame(members=(row,), unseen=("third",)), 0)
    assert "third" not in members.directory.known
    members.receive(link, frame(members=(row,), unseen=()), 1)
    assert members.directory.known["third"] == row


def test_updates_are_sent_when_they_change_and_again_after_a_while() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    members.prepare_updates(lambda: ME, 0)
    sent = members.updates.due_for(link, 0)
    assert sent["members"][0] == ("me", "eu", 7, "10.0.0.1:1")
    link.updates_acked = link.updates_sent
    assert members.updates.due_for(link, REPEAT_NS - 1) == {}
    assert members.updates.due_for(link, REPEAT_NS) == sent
    link.updates_acked = link.updates_sent
    members.receive(link, frame(members=(("third", "", 3, ""),)), REPEAT_NS)
    members.prepare_updates(lambda: ME, GOSSIP_NS - 1)
    assert members.updates.due_for(link, REPEAT_NS) == {}  # looked at once a second
    members.prepare_updates(lambda: ME, GOSSIP_NS)
    assert members.updates.due_for(link, REPEAT_NS)["members"][-1][0] == "third"


def test_updates_that_are_lost_are_sent_again_soon() -> None:
    """Until they are acknowledged, or nothing comes from the peer for long."""
    members, _ = membership()
    members.connected(PEER, 0)
    link = members.links["peer"]
    link.round_trip = GOSSIP_NS
    members.prepare_updates(lambda: ME, 0)
    sent = members.updates.due_for(link, 0)
    again = PATIENCE_NS + 2 * GOSSIP_NS
    assert members.updates.due_for(link, again - 1) == {}
    assert members.updates.due_for(link, again) == sent
    link.log_kept = False
    assert members.updates.due_for(link, 2 * again) == {}
    link.log_kept = True
    assert members.updates.due_for(link, 2 * again) == sent
    link.updates_acked = link.updates_sent
    assert members.updates.due_for(link, 3 * again) == {}
    assert members.updates.due_for(link, REPEAT_NS) == sent
    assert members.updates.due_for(link, REPEAT_NS + again) == sent


def test_an_address_that_is_known_only_later_is_sent() -> None:
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=ME.epoch)
    node = MeshNode(table, MeshConfig(), name="me", seed=1)
    node.connected(PEER, table.now())
    node.listens("10.0.0.1:7946")  # a node that listens on any port learns it when it listens
    frames = node.tick(node.next_tick(table.now()))
    frames += node.tick(table.now() + 2 * GOSSIP_NS)
    sent = [wire.decode(data).members for name, data in frames if name == "peer"]
    assert ("me", "", ME.epoch, "10.0.0.1:7946") in {own[0] for own in sent if own}


def test_a_goodbye_is_not_undone_by_updates_that_were_on_their_way() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    third = named("third", 3, "h:1")
    members.connected(third, 0)
    members.receive(members.links["third"], frame(flags=wire.LEAVING), 1)
    update = frame(members=(("third", "", 3, "h:1"),), unseen=())
    members.receive(members.links["peer"], update, 2)
    assert members.directory.addresses(0) == [PEER.address]
    again = frame(members=(("third", "", 4, "h:1"),), unseen=())
    members.receive(members.links["peer"], again, 3)
    assert members.directory.addresses(0) == [PEER.address, "h:1"]  # it was started again


def due(members: Membership, link: PeerState, now: int) -> dict[str, Any]:
    """The updates that are due for a link, after a look at them; they are acknowledged."""
    members.prepare_updates(lambda: ME, now)
    sent = members.updates.due_for(link, now)
    link.updates_acked = link.updates_sent
    return sent


def test_a_member_is_believed_of_a_peer_that_says_nothing_of_whom_it_does_not_see() -> None:
    members, _ = membership()
    (link,) = linked(members, PEER)
    members.updates.receive(link, frame(members=(("a", "", 1, ""), ("b", "", 2, ""))), 5)
    assert set(members.directory.known) == {"peer", "a", "b"}
    members.directory.expire(CONFIG.forget_after_ns + 5)
    assert "a" in members.directory.known
    members.directory.expire(CONFIG.forget_after_ns + 6)
    assert "a" not in members.directory.known


def test_members_beyond_the_room_are_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    members, _ = membership()
    (link,) = linked(members, PEER)
    many = tuple((f"n{i}", "", 1, "") for i in range(wire.MAX_MEMBERS))
    for now in (0, 600 * SECOND):
        members.updates.receive(link, frame(members=many), now)
    assert members.bounded.counts() == {"peer": {"members": 4}}
    said = "me: peer advertises more members than there is room for; those beyond are left out"
    assert caplog.messages == [said, said]


def test_what_a_node_runs_is_sent_as_soon_as_it_changes() -> None:
    members, _ = membership()
    (link,) = linked(members, PEER)
    assert {"config", "rollout", "mode", "tombstones", "wall"}.isdisjoint(due(members, link, 0))
    members.updates.advertise(CONFIGURATION, ROLLOUT)
    assert due(members, link, SECOND - 1) == {}
    sent = due(members, link, SECOND)
    assert (sent["config"], sent["rollout"]) == (CONFIGURATION, ROLLOUT)
    members.updates.advertise(None, None)
    assert {"config", "rollout"}.isdisjoint(due(members, link, 2 * SECOND))
    assert due(members, link, 3 * SECOND) == {}
    for now, mode in ((4, 0), (5, 2)):
        members.updates.advertise_mode(MODES[mode])
        assert due(members, link, now * SECOND)["mode"] == mode


def test_the_newest_that_a_peer_says_of_its_configuration_is_kept() -> None:
    members, _ = membership()
    (link,) = linked(members, PEER)
    later, rollout = (2, *CONFIGURATION[1:]), (2, *ROLLOUT[1:])
    for seq, config, state in (
        (3, CONFIGURATION, ROLLOUT),
        (3, later, rollout),
        (4, None, rollout),
    ):
        members.updates.receive(link, frame(seq=seq, config=config, rollout=state), 0)
        assert (link.config, link.rollout) == (CONFIGURATION, ROLLOUT)
    members.updates.receive(link, frame(seq=4, config=later), 0)
    assert (link.config, link.rollout) == (later, None)


def test_the_newest_that_a_peer_says_of_its_mode_is_shown() -> None:
    members, _ = membership()
    (link,) = linked(members, PEER)

    def shown() -> list[str | None]:
        return [fleet_row(*row)["mode"] for row in members.fleet(ME, 0)]

    assert shown() == [None, None]
    members.updates.advertise_mode(MODES[1])
    for seq, mode in ((3, 2), (2, 0)):
        members.updates.receive(link, frame(seq=seq, mode=mode), 0)
        assert shown() == ["eventual", "fallback"]
    members.updates.receive(link, frame(seq=4), 0)  # no update
    assert shown() == ["eventual", "fallback"]
    members.updates.receive(link, frame(seq=5, config=CONFIGURATION), 0)  # of an earlier version
    assert shown() == ["eventual", None]
    members.updates.receive(link, frame(seq=6, mode=3), 0)  # of a later one
    assert shown() == ["eventual", None]


def test_wall_clocks_are_compared_at_the_time_at_which_a_frame_was_sent() -> None:
    members, _ = membership()
    link, third = linked(members, PEER, named("third", 3))
    link.age = 30
    members.updates.receive(link, frame(wall=5_000), 1_000)
    assert link.wall_ahead is None  # this node does not know its own
    members.updates.follow_wall(4_000)
    members.updates.receive(link, frame(wall=5_000), 1_000)
    assert link.wall_ahead == 5_000 + 30 - (1_000 + 4_000)
    members.updates.receive(link, frame(), 2_000)
    members.updates.follow_wall(4_500)
    assert [one.wall_ahead for one in (link, third)] == [30 - 500, None]
    assert due(members, link, 1_000)["wall"] == 1_000 + 4_500


def test_a_tombstone_is_sent_and_not_believed_of_a_process_that_runs() -> None:
    members, table = membership()
    (link,) = linked(members, PEER)
    for epoch in (50, 51):
        table.epochs.origin(members._roster.node("far"), epoch)
    members.updates.receive(link, frame(tombstones=(ME.epoch, PEER.epoch, 50)), 5)
    assert members.pruner.tombstones == {50: 5}
    assert table.called("add_tombstones") == [([50],)]
    assert due(members, link, 10)["tombstones"] == (50,)


def test_all_tombstones_of_a_frame_take_one_walk_over_the_table() -> None:
    """A walk for each held up the event loop for a second and a half, of a million keys."""
    members, table = membership()
    (link,) = linked(members, PEER)
    epochs = tuple(range(50, 50 + wire.MAX_TOMBSTONES))
    for epoch in epochs:
        table.epochs.origin(members._roster.node("far"), epoch)
    members.updates.receive(link, frame(tombstones=epochs), 5)
    assert table.called("add_tombstones") == [([*epochs],)]
    assert len(members.pruner.tombstones) == wire.MAX_TOMBSTONES


def test_once_a_second_it_is_looked_at_who_is_gone() -> None:
    members, table = membership()
    (link,) = linked(members, PEER)
    members.updates.receive(link, frame(members=(("sent", "", 60, ""),)), 0)
    for name in ("sent", "stranger"):
        members._roster.node(name)
    table.epochs.origin(members._roster.node("has an epoch"), 61)
    due(members, link, 0)
    assert {*members._roster.names().values()} == {"me", "peer", "sent", "has an epoch"}
    link.passes = PASSES
    due(members, link, CONFIG.forget_after_ns + 1)
    assert set(members.directory.known) == {"peer"}
    assert ([61],) in table.called("add_tombstones")  # nobody runs under it


def test_a_peer_that_found_no_place_for_an_epoch_finds_one_a_second_later() -> None:
    members, table = membership()
    (link,) = linked(members, PEER)
    epochs = range(1000, 1000 + PLACES)
    for epoch in epochs:
        assert members.introductions.by("peer")("far", epoch)
        table.epochs.origin(members._roster.node("far"), epoch)
    linked(members, named("third", 3))
    *_, retries = members._roster.key
    members.directory.relayed(epochs[-1], 0, "peer")
    for now, later in ((0, 5_000), (SECOND, 5_001)):
        assert not members.introductions.by("third")("other", later)
        due(members, link, now)
        assert members.introductions.by("third")("other", later)
        table.epochs.origin(members._roster.node("other"), later)
    gone = {*epochs} - {epoch for _, _, epoch, _ in table.epochs.origins()}
    assert gone == {epochs[-2], epochs[-3]}  # the newest of the peer with most that do not run
    due(members, link, 2 * SECOND)  # nobody was refused since
    assert members._roster.key[-1] == retries + 2  # tables of peers are read again
    assert members.bounded.counts() == {"third": {"epochs": 2}}


def test_of_the_members_that_one_peer_has_advertised_some_are_dialed_at_a_time() -> None:
    members, _ = membership()
    (link,) = linked(members, PEER)
    many = tuple((f"n{i}", "", 1, f"h:{i}") for i in range(DIALS + 1))
    members.updates.receive(link, frame(members=many), 0)
    assert len(members.directory.addresses(0)) == 1 + DIALS


@pytest.mark.parametrize(
    ("known", "periods"), [(0, 1), (REPEATED_MEMBERS - 2, 1), (REPEATED_MEMBERS - 1, 2)]
)
def test_updates_of_more_members_are_repeated_more_seldom(known: int, periods: int) -> None:
    """`known`: beside this node and its peer."""
    members, _ = membership()
    (link,) = linked(members, PEER)
    members.updates.receive(
        link, frame(members=tuple((f"n{i}", "", 1, "") for i in range(known))), 0
    )
    assert len(due(members, link, 5)["members"]) == 2 + known
    assert members.updates.due_for(link, 5 + periods * REPEAT_NS - 1) == {}
    assert members.updates.due_for(link, 5 + periods * REPEAT_NS)


def test_before_the_first_look_nothing_is_sent() -> None:
    members, _ = membership()
    (link,) = linked(members, PEER)
    assert members.updates.due_for(link, 0) == {}
    assert link.updates_sent == 1
