"""What a link to a peer begins, and how another process or epoch behind it is noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crdtbucket.errors import NodeConflict, WireError
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.clock_watch import OwnClock
from crdtbucket.mesh.protocol.introductions import PLACES
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.pruning import PASSES, ROUNDS
from crdtbucket.mesh.protocol.roster import Roster
from tests.mesh.protocol.lone_node import (
    CONFIG,
    ME,
    PEER,
    SECOND,
    RecordingTable,
    frame,
    linked,
    membership,
    named,
)
from tests.tombstones import add_tombstone


@pytest.mark.parametrize("interval", [SECOND // 10, 10 * SECOND])
def test_a_second_process_of_a_name_is_refused_while_the_first_is_seen(interval: int) -> None:
    members, _ = membership(replace(CONFIG, gossip_interval=interval / SECOND))
    (link,) = linked(members, PEER)
    link.last_seen, namesake = 5, replace(PEER, epoch=10)
    gone = 5 + max(ALIVE_NS, 3 * interval)
    with pytest.raises(NodeConflict) as conflict:
        members.connected(namesake, gone - 1)
    said = (
        "two running processes are called 'peer', one of them at 10.0.0.2:1: "
        "give each node its own name"
    )
    assert str(conflict.value) == said
    assert members.links["peer"].info == PEER
    members.connected(namesake, gone)
    assert members.links["peer"].info == namesake


def test_a_process_that_follows_one_that_said_goodbye_is_welcome_at_once() -> None:
    """The end of the earlier connection may be noticed later."""
    members, _ = membership()
    (link,) = linked(members, PEER)
    members.receive(link, frame(flags=wire.LEAVING), 1)
    members.connected(replace(PEER, epoch=10), 2)
    assert members.status(members.links["peer"], 2) == "alive"


def test_a_link_that_is_made_begins_with_a_sync_and_a_digest_two_rounds_later() -> None:
    members, table = membership()
    table.bucket.take("k", 1)
    table.outbox.collect()
    (link,) = linked(members, PEER)
    version, round_ns = table.outbox.version, CONFIG.gossip_interval_ns
    assert (link.acked.prefix, link.synced, link.digest_due) == (version, False, 2 * round_ns)


def test_another_process_of_a_peer_and_who_is_not_in_the_log_begin_anew() -> None:
    members, _ = membership()
    for log_kept, epoch, synced in ((True, 9, True), (False, 9, False), (True, 10, False)):
        (link,) = linked(members, PEER)
        link.sync_place, link.log_kept, link.connected = -1, log_kept, False
        members.connected(replace(PEER, epoch=epoch), SECOND)
        assert link.synced == synced


def test_a_link_shows_that_its_process_runs_whatever_was_said_of_it() -> None:
    members, table = membership()
    node = members._roster.node("peer")
    table.epochs.origin(node, 9)
    add_tombstone(table, 9)
    members.pruner.tombstones = {9: 0}
    members.directory.relayed(9, 0, "third")
    linked(members, PEER)
    assert table.called("remove_tombstone") == [(9,)]
    assert table.called("set_node") == [(node, 9, True, (0, 0))]
    assert members.directory.running_elsewhere == {}
    assert members.directory.known["peer"] == ("peer", "us", 9, "10.0.0.2:1")
    members.directory.expire(SECOND)


@pytest.mark.parametrize(("age", "began"), [(4 * SECOND, -SECOND), (SECOND, 2 * SECOND)])
def test_who_is_met_has_taken_unseen_since_both_have_run(age: int, began: int) -> None:
    members, table = membership()  # since the time 0
    (link,) = linked(members, PEER)
    link.connected, link.forgotten = False, True
    members.connected(replace(PEER, epoch=10, age_ns=age), 3 * SECOND)
    assert table.called("set_node")[-1] == (link.node, 10, True, (began, 0))


def test_a_process_has_begun_when_it_had_at_first_however_its_clock_runs() -> None:
    """Else a process that began together with this node seems to have begun after another one fell
    silent."""
    members, table = membership()
    (link,) = linked(members, PEER)
    members.disconnected(link, SECOND)
    members.connected(replace(PEER, age_ns=999 * SECOND), 1000 * SECOND)
    assert table.called("set_node")[-1] == (link.node, 9, True, (0, 0))


@pytest.mark.parametrize(("owner", "dropped"), [("peer", []), ("far", [([9],)])])
def test_an_epoch_that_a_third_has_introduced_is_its_owners_when_it_is_linked(
    owner: str, dropped: list[tuple[list[int]]]
) -> None:
    members, table = membership()
    linked(members, named("third", 3))
    assert members.introductions.by("third")(owner, 9)
    table.epochs.origin(members._roster.node(owner), 9)
    (link,) = linked(members, PEER)
    assert table.called("add_tombstones") == dropped
    assert (link.node, 9) in {(node, epoch) for _, node, epoch, _ in table.epochs.origins()}


def test_a_new_peer_is_unseen_by_those_that_have_not_advertised_it() -> None:
    members, _ = membership()
    (third,) = linked(members, named("third", 3))
    members.receive(third, frame(members=(("third", "", 3, ""),), unseen=()), 0)
    assert members.visibility.unseen_by(third) == ()
    linked(members, PEER)
    assert members.visibility.unseen_by(third) == ("peer",)
    assert members.visibility.relay_mask()[members.links["peer"].node]


def test_another_node_at_its_address_says_that_a_peer_is_not_there() -> None:
    members, _ = membership()
    members.connected(PEER, 0)
    members.disconnected(members.links["peer"], 0, ended=True)
    members.connected(named("other", 11, PEER.address), SECOND)
    ending = members.links["peer"].ending
    assert ending is not None
    assert ending.refused == SECOND


def dies(members: Membership, begun: int) -> bool:
    """Whether `peer` is dead when each dial is refused from now on; the connected ones are seen,
    and do not see it."""
    for now in range(begun, begun + 12 * SECOND, SECOND):
        members.detector.dial_failed("peer", "", now, refused=True)
        for link in members.reachable():
            link.last_seen, link.advertised = now, {}
        members.age(now)
    return members.links["peer"].forgotten


def test_a_link_that_is_made_again_fills_no_place_that_another_left() -> None:
    """Two of four are missing: so neither may be declared dead."""
    members, _ = membership()
    (peer, third, fourth) = linked(members, PEER, named("third", 3), named("fourth", 4))
    members.disconnected(peer, 0, ended=True)
    members.disconnected(fourth, 0)
    members.connected(third.info, SECOND)
    assert not dies(members, SECOND)
    members.connected(named("new", 5), 13 * SECOND)  # it fills the place of one of them
    assert dies(members, 13 * SECOND)


def test_of_processes_that_only_relays_see_those_of_other_nodes_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two of four are missing, and one of them runs where this node has no link to it."""
    members, table = membership()
    (peer, _, fourth) = linked(members, PEER, named("third", 3), named("fourth", 4))
    members.disconnected(peer, 0, ended=True)
    members.disconnected(fourth, 0)
    for begun, name, epoch in ((SECOND, "me", 70), (13 * SECOND, "fourth", 40)):
        table.epochs.origin(members._roster.node(name), epoch)
        members.directory.relayed(epoch, begun + 11 * SECOND, "third")
        assert dies(members, begun) == (name == "fourth")
    text = (
        "me: peer is dead, and its share is free for others: its connection ended, and calls to "
        "its address are refused"
    )
    assert caplog.messages == [text]


def test_members_of_another_process_are_taken_over_as_silent_ones() -> None:
    members, table = membership()
    link = PeerState(PEER, members._roster.node("peer"), 5)
    link.connected = False
    members.take_over([link], 5)
    assert members.links == {"peer": link}
    assert table.called("set_node") == [(link.node, 9, False)]
    assert members.directory.known["peer"] == ("peer", "us", 9, "10.0.0.2:1")
    assert link.ending is None
    assert [*members.detector._places.empty(5)] == ["peer"]
    members.directory.expire(SECOND)


def test_tombstones_that_stand_in_the_table_are_kept_from_now_on() -> None:
    table: Any = RecordingTable()
    roster = Roster(table, "me")
    table.epochs.origin(roster.node("far"), 50)
    add_tombstone(table, 50)
    members = Membership(table, CONFIG, roster, "me", OwnClock(SECOND), 5)
    assert members.pruner.tombstones == {50: 5}
    assert not members.updates.are_due(4)
    assert members.updates.are_due(5)


@pytest.mark.parametrize(
    ("now", "age", "full"),
    [
        (SECOND, SECOND, False),
        (SECOND, 2 * SECOND, True),  # this process is the younger one
        (9 * SECOND, SECOND, False),
        (9 * SECOND, 2 * SECOND, True),
    ],
)
def test_who_may_have_taken_before_they_met_sends_full_keys_too(
    now: int, age: int, full: bool
) -> None:
    """Its takes have refilled by then. Others that hold the key would have its column, and this
    peer would not; and when the column comes later, it would look like takes of just now."""
    members, _ = membership()  # since the time 0
    members.connected(replace(PEER, age_ns=age), now)
    assert members.links["peer"].sync_full == full


def test_a_newcomer_gets_full_keys_too_where_it_may_bring_takes_of_a_silent_peer() -> None:
    members, table = membership()
    table.nodes = nodes = table.nodes
    nodes.silent_before = lambda *_: [(5, SECOND)]
    members.connected(PEER, 0)
    assert members.links["peer"].sync_full


def test_an_epoch_gets_its_tombstone_when_relays_have_had_time_to_say_that_it_runs() -> None:
    members, table = membership(replace(CONFIG, gossip_interval=10.0))
    (link,) = linked(members, PEER)
    table.epochs.origin(members._roster.node("far"), 50)
    for now, marked in ((0, []), ((10 * ROUNDS - 1) * SECOND, []), (10 * ROUNDS * SECOND, [50])):
        link.passes += PASSES
        members.prepare_updates(lambda: ME, now)
        assert [epoch for (epochs,) in table.called("add_tombstones") for epoch in epochs] == marked


def test_a_new_epoch_of_a_peer_is_its_own_whatever_a_third_said_of_it() -> None:
    members, table = membership()
    link, _ = linked(members, PEER, named("third", 3))
    assert members.introductions.by("third")("far", 40)
    table.epochs.origin(members._roster.node("far"), 40)
    members.introductions.check_epoch(link, 40)
    assert table.called("add_tombstones") == [([40],)]
    members.follow_epoch(link, frame(epoch=40))
    assert members._roster.owner(40) == "peer"


def test_a_new_epoch_of_the_same_process_takes_a_place_of_its_peers_part(
    caplog: pytest.LogCaptureFixture,
) -> None:
    members, table = membership()
    (link,) = linked(members, PEER, named("third", 3))[:1]
    for epoch in range(9, 10 + PLACES // 2):
        members.introductions.check_epoch(link, epoch)
        members.follow_epoch(link, frame(epoch=epoch, seq=epoch))
        members.introductions.check_epoch(link, epoch)  # which is known
        assert link.info == replace(PEER, epoch=epoch)
    opened = [(link.node, epoch, True) for epoch in range(10, 10 + PLACES // 2)]
    assert table.called("set_node")[2:] == opened
    with pytest.raises(WireError) as refused:
        members.introductions.check_epoch(link, 1_000)
    assert str(refused.value) == "it has gone on under more epochs than there are places for"
    members.introductions.step((), 0)
    assert members.bounded.counts() == {"peer": {"epochs": 1}}
    assert caplog.messages[0].startswith("me: peer advertises more epochs than its part")


def test_an_older_frame_does_not_bring_an_epoch_back() -> None:
    members, table = membership()
    (link,) = linked(members, PEER)
    table.called("set_node")
    link.received.highest = link.last_word = 4
    members.follow_epoch(link, frame(epoch=10, seq=4))
    members.follow_epoch(link, frame(epoch=9, seq=5))
    assert (link.info, link.last_word, table.called("set_node")) == (PEER, 4, [])
    link.connected = False
    members.follow_epoch(link, frame(epoch=10, seq=5))
    assert (link.info.epoch, link.last_word) == (10, 0)
    assert table.called("set_node") == [(link.node, 10, False)]
