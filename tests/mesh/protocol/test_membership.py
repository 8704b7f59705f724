"""Which peers are seen, silent or forgotten, and what the table learns of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from crdtbucket.mesh.protocol import membership as module
from crdtbucket.mesh.protocol import peer_state, pruning, wire
from crdtbucket.mesh.protocol.handoff import member_rows
from crdtbucket.mesh.protocol.member_directory import ALIVE_NS
from crdtbucket.mesh.protocol.member_updates import (
    GOSSIP_NS,
    FleetRow,
)
from crdtbucket.mesh.protocol.membership import DEAD_NS, HOLD_NS, REACHED_NS, Membership
from crdtbucket.mesh.protocol.peer_state import FORGOTTEN_PLACES
from crdtbucket.mesh.protocol.pruning import CROWDED
from crdtbucket.spec.mode import MODES
from tests.interrupted import interrupted
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
    assert table.called("configure")[-1] == (3,)
    members.expect(1, 0)
    members.count(0)
    assert table.called("configure")[-1] == (2,)
    members.count(DEAD_NS)
    assert table.called("configure")[-1] == (1,)


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
    assert table.called("set_disconnected") == []
    members.age(3 * interval)
    assert table.called("set_disconnected") == [(members.links["peer"].node,)]


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
    add_tombstone(table.table, PEER.epoch)
    table.table.epochs.release(PEER.epoch)
    for i in range(wire.MAX_ORIGINS - 2):
        table.table.epochs.origin(1, 1000 + i)
    members.age(ALIVE_NS)
    members.disconnected(members.links["peer"], ALIVE_NS)
    assert table.called("configure")[-1] == (1 + len(CONFIG.peers),)
    assert members.links["peer"].ending is None


def test_a_goodbye_takes_the_peer_from_the_known(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    members, table = membership()
    members.expect(1, 0)
    (link,) = linked(members, PEER)
    members.receive(link, frame(flags=wire.JOINING), 1)
    assert members.status(link, 1) == "alive"
    for now in (2, 3):
        members.receive(link, frame(flags=wire.LEAVING | wire.JOINING), now)
    assert members.status(link, 1) == "left"
    assert table.called("configure")[-1] == (1,)
    assert table.called("forget") == [(link.node, 0, FORGOTTEN_PLACES)]
    assert members.directory.known == {}
    assert members.reachable() == []
    assert not link.log_kept
    assert caplog.messages == ["me: peer left"]


def with_twenty_keys() -> tuple[Membership, RecordingTable]:
    members, table = membership()
    for number in range(20):
        table.bucket.take(f"k{number}")
    return members, table


def test_a_node_is_given_up_on_a_part_of_a_large_table_in_each_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On one part for all that are given up, or many that end at once would hold up the loop. Who
    is back meanwhile is given up no more."""
    monkeypatch.setattr(peer_state, "FORGOTTEN_PLACES", 8)
    members, table = with_twenty_keys()
    one, two, back = linked(members, PEER, named("two", 3), named("back", 5))
    for link in (one, two, back):
        members.receive(link, frame(epoch=link.info.epoch, flags=wire.LEAVING), 1)
    assert table.called("forget") == []
    members.connected(back.info, 2)
    for now in range(2, 10):
        members.age(now)
    expected = [(link.node, start, 8) for link in (one, two) for start in (0, 8, 16)]
    assert table.called("forget") == expected
    assert [row[0] for row in member_rows([one, two])] == []
    one.to_forget = 8  # the next leader goes on with it
    assert [row[0] for row in member_rows([one, two])] == ["peer"]


def test_a_peer_that_was_forgotten_and_is_seen_on_its_link_is_given_up_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_state, "FORGOTTEN_PLACES", 8)
    members, table = with_twenty_keys()
    (link,) = linked(members, PEER)
    link.forgotten, link.log_kept, link.to_forget = True, False, 8
    members.age(1)
    assert (link.forgotten, link.to_forget) == (False, -1)
    assert table.called("forget") == []


def test_columns_of_the_dead_go_from_a_part_of_a_large_table_in_each_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "PRUNED_PLACES", 8)
    members, table = with_twenty_keys()
    (link,) = linked(members, PEER)
    table.epochs.origin(members._roster.node("far"), 50)
    members.receive(link, frame(tombstones=(50,)), 5)
    assert table.called("prune") == []
    for now in range(6, 11):
        members.age(now)
    assert table.called("prune") == [(start, 8) for start in (0, 8, 16)]


def test_a_tombstone_of_a_peer_is_kept_from_when_it_came() -> None:
    members, table = membership()
    (link,) = linked(members, PEER)
    table.epochs.origin(members._roster.node("far"), 50)
    members.receive(link, frame(tombstones=(50,)), 5)
    assert members.pruner.tombstones == {50: 5}


def test_lags_are_of_the_newest_round_now_and_of_the_last_minutes() -> None:
    members, _ = membership()
    peer, third, left, forgotten = linked(
        members, PEER, named("third", 3), named("left", 4), named("forgotten", 5)
    )
    left.left = forgotten.forgotten = True
    peer.round_time, third.round_time = 5, 10
    peer.round_gaps.add(7, 0)
    assert members.lags(8) == {"peer": (3, 7), "third": (0, 0)}
    assert members.lags(20) == {"peer": (15, 15), "third": (10, 10)}
    late = 200 * SECOND
    assert members.lags(late)["peer"] == (late - 5, late - 5)


def test_frames_are_sent_to_who_is_connected_and_has_not_left() -> None:
    members, _ = membership()
    peer, third, left, down = linked(members, *(named(name, ord(name)) for name in "abcd"))
    left.left, down.connected = True, False
    assert members.reachable() == [peer, third]
    assert members.reachable(["stranger", "d", "b"]) == [third]


def test_the_fleet_is_this_node_and_all_peers_by_name_and_what_each_runs() -> None:
    members, _ = membership()
    members.updates.advertise((1, 2, 3), (1, 2, 3, 4, 5))
    silent, peer = linked(members, named("z", 3), PEER)
    peer.config, peer.rollout, peer.mode = (6, 7, 8), (6, 7, 8, 9, 10), 1
    peer.last_seen = ALIVE_NS
    members.updates.advertise_mode(MODES[2])
    for link in (peer, silent):
        members.visibility.update(link, frame(unseen=("a",)))
    assert members.fleet(ME, ALIVE_NS) == [
        FleetRow("me", "eu", "alive", (1, 2, 3), (1, 2, 3, 4, 5), mode=2),
        FleetRow("peer", "us", "alive", (6, 7, 8), (6, 7, 8, 9, 10), ("a",), mode=1),
        FleetRow("z", "", "suspect", None, None),
    ]


def test_members_are_advertised_within_the_bound_with_those_that_are_silent_here() -> None:
    members, _ = membership()
    peer, _third = linked(members, PEER, named("third", 3))
    for member in (("seen by peer", "", 5, ""), ("me", "", 6, "")):
        members.directory.learn(member, 0, "peer")
    peer.last_seen = 5 * SECOND
    rows = [("me", "eu", 7, "10.0.0.1:1"), *members.directory.known.values()]
    expected = {"members": tuple(rows), "unseen": ("third", "seen by peer")}
    assert members.advertised(ME, 5 * SECOND) == expected
    members.prepare_updates(lambda: ME, 5 * SECOND)
    assert members.updates.due_for(peer, 5 * SECOND) == expected
    for i in range(wire.MAX_MEMBERS):
        members.directory.known[f"n{i}"] = (f"n{i}", "", i, "")
    assert len(members.advertised(ME, 0)["members"]) == wire.MAX_MEMBERS


def test_more_members_than_a_frame_has_room_for_are_not_advertised() -> None:
    """A peer has invented hundreds, and others are known by relays alone. A list that is too long
    would be an error of this node."""
    members, _ = membership()
    for number in range(wire.MAX_MEMBERS - 1):
        members.directory.learn((f"n{number}", "", number, ""), 0, "peer")
    members.unlinked.rows = lambda: [("far", "", 1, "")] * 9  # type: ignore[method-assign]
    fields = members.advertised(ME, 0)
    assert len(fields["members"]) == wire.MAX_MEMBERS
    assert len(fields["unseen"]) == wire.MAX_MEMBERS - 1


def test_members_that_share_the_limits_are_those_not_gone_or_those_that_must_exist() -> None:
    members, table = membership()
    links = linked(members, *(named(name, ord(name)) for name in "abcde"))
    links[0].left = links[1].forgotten = True
    links[2].connected = False  # suspect, and soon dead
    links[3].last_seen = DEAD_NS
    assert members.known() == 4
    members.count(DEAD_NS - 1)
    members.count(DEAD_NS)
    assert table.called("configure")[-2:] == [(4,), (3,)]
    members.expect(9, 0)
    assert members.known() == 9
    assert table.called("configure") == [(9,)]


def test_a_silent_peer_is_forgotten_and_at_last_its_link(caplog: pytest.LogCaptureFixture) -> None:
    members, table = membership()
    after = CONFIG.forget_after_ns
    infos = (named("kept", 3), named("next", 5), PEER, named("last", 4))
    kept, following, peer, last = linked(members, *infos)
    for link in (following, peer, last):
        link.connected = False
    last.last_seen = 1
    members.age(after + 1)
    assert [link.forgotten for link in (kept, following, peer, last)] == [True, True, True, False]
    assert [args[0] for args in table.called("forget")] == [
        link.node for link in (kept, following, peer)
    ]
    members.age(after + 2)
    said = "me: {} was silent for 200 s and is forgotten"
    assert caplog.messages == [said.format(name) for name in ("kept", "next", "peer", "last")]
    members.age(2 * after)
    assert set(members.links) == {"kept", "next", "peer", "last"}
    members.age(2 * after + 1)
    assert set(members.links) == {"kept", "last"}
    members.age(2 * after + 2)
    assert set(members.links) == {"kept"}


@pytest.mark.parametrize(
    ("silent", "unreached", "kept", "keeps"),
    [
        (HOLD_NS, HOLD_NS, True, True),
        (0, HOLD_NS + 1, True, False),
        (HOLD_NS + 1, None, True, False),
        (HOLD_NS + 1, 0, True, False),
        (ALIVE_NS - 1, None, False, True),
        (ALIVE_NS, None, False, False),
        (0, REACHED_NS + 299, False, True),
        (0, REACHED_NS + 300, False, False),
    ],
)
def test_the_log_is_kept_for_who_is_seen_and_reached(
    silent: int, unreached: int | None, kept: bool, keeps: bool
) -> None:
    """One that is reached again gets a full sync and is a member again."""
    members, table = membership()
    (link,) = linked(members, PEER)
    synced = link.acked.prefix
    table.bucket.take("k", 1)
    table.outbox.collect()
    link.log_kept, link.forgotten, link.sync_place, link.round_trip = kept, not kept, -1, 300
    members.pruner.tombstones = {9: 0}
    now = 2 * HOLD_NS
    link.last_seen = now - silent
    link.reached = None if unreached is None else now - unreached
    members._keep_log(link, silent, now)
    assert link.log_kept == keeps
    begins = keeps and not kept
    assert link.forgotten == (not kept and not begins)
    syncs = begins or kept != keeps  # it may see this node without being seen
    assert (link.synced, link.acked.prefix) == ((False, synced + 1) if syncs else (True, synced))
    assert members.pruner.tombstones == ({} if begins else {9: 0})


def test_of_peers_that_are_gone_the_last_ones_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GONE", 2)
    members, _ = membership()
    links = dict(
        zip("abcdef", linked(members, *(named(name, ord(name)) for name in "abcdef")), strict=True)
    )
    for place, name in enumerate("fedcb"):
        link = links[name]
        link.left, link.forgotten = name in "ce", name not in "ce"
        link.connected, link.last_seen = name == "f", place
    links["a"].connected = False
    members.age(0)
    assert "".join(members.links) == "abcf"  # a is no more than silent, and f connected
    members.age(0)
    assert "".join(members.links) == "abcf"


def test_where_epochs_run_out_the_one_that_is_silent_for_longest_is_forgotten_if_nobody_sees_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    members, _ = membership()
    names = {name: 30 + i for i, name in enumerate("abcdefg")}
    a, b, c, d, e, f, g = linked(members, *(named(name, names[name]) for name in names))
    now = 2 * DEAD_NS
    b.left = c.forgotten = True
    for link, seen in ((a, 3), (b, 0), (c, 1), (d, now - DEAD_NS), (e, 2), (f, now - DEAD_NS + 1)):
        link.last_seen, link.connected = seen, False
    g.last_seen = now
    members.receive(g, frame(members=(("e", "", names["e"], ""),), unseen=()), now)
    members.age(now)
    assert not any(link.forgotten for link in (a, d, e, f, g))
    members.pruner._running = CROWDED + 1
    for gone in ("a", "d"):
        members.age(now)
        said = f"me: {gone} was silent for {(now - members.links[gone].last_seen) / 1e9:.0f} s and "
        assert caplog.messages[-1] == said + "is forgotten: other nodes need its place"
    members.age(now)
    assert [link.forgotten for link in (a, d, e, f, g)] == [True, True, False, False, False]


def test_there_are_as_many_nodes_as_the_configuration_says_at_least() -> None:
    members, table = membership(replace(CONFIG, expected_nodes=9))
    members.expect(1, 0)
    assert (members.known(), table.called("configure")[-1]) == (9, (9,))
    members.expect(12, 0)
    assert (members.known(), table.called("configure")[-1]) == (12, (12,))


@pytest.mark.parametrize("ask", [Membership.known, lambda members: members.fleet(ME, 0)])
def test_any_thread_may_ask_who_is_there_while_links_are_made_and_forgotten(
    ask: Callable[[Membership], object],
) -> None:
    members, _ = membership()
    linked(members, *(named(name, ord(name)) for name in "abc"))
    numbers = itertools.count()

    def change() -> None:
        number = next(numbers)
        if number % 3:
            members.connected(named(f"n{number}", 1000 + number), 0)
        else:
            members.links.pop(f"n{number - 1}", None)

    assert interrupted(lambda: ask(members), change)
