"""What a link remembers: acknowledged versions, received frames, round trips, complete rounds."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.acknowledgements import Received, Sent, VersionRanges
from crdtbucket.mesh.protocol.clock_watch import jump
from crdtbucket.mesh.protocol.peer_state import MAX_UNACKED, PAUSED_NS, STALE_NS, PeerState

INFO = NodeInfo("peer", "region", 7, "", 0)
FRAME = wire.Frame(epoch=7, to_epoch=1, seq=1, sent=0)


def link() -> PeerState:
    return PeerState(INFO, 1, 0)


def frame(**values: object) -> wire.Frame:
    return dataclasses.replace(FRAME, **values)  # type: ignore[arg-type]


# ---- ranges ----


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=20), st.integers(0, 10))
def test_ranges_are_the_set_of_versions(added: list[tuple[int, int]], prefix: int) -> None:
    ranges, known = VersionRanges(prefix), set(range(1, prefix + 1))
    for after, upto in added:
        ranges.add(after, upto)
        known |= set(range(after + 1, upto + 1))
        missing = set(range(1, 41)) - known
        gaps = ranges.gaps(40)
        assert {v for a, u in gaps for v in range(a + 1, u + 1)} == missing
        assert all(a < u for a, u in gaps)
        assert gaps == sorted(gaps)
        assert ranges.prefix == min(missing) - 1


# ---- received ----


@given(st.lists(st.integers(1, 600), max_size=80))
def test_received_frames_are_seen_within_the_window(numbers: list[int]) -> None:
    received, added = Received(), set()
    for seq in numbers:
        if received.highest - seq <= wire.ACK_BITS:
            assert received.seen(seq) == (seq in added)
        if not received.seen(seq):
            received.add(seq)
            added.add(seq)
    assert received.highest == max(added, default=0)
    assert received.bits < 2**wire.ACK_BITS
    window = {s for s in added if 0 < received.highest - s <= wire.ACK_BITS}
    assert {
        received.highest - i - 1 for i in range(wire.ACK_BITS) if received.bits >> i & 1
    } == window


def test_a_leap_of_the_sequence_costs_nothing() -> None:
    received = Received()
    for seq in (1, 2, 2**62, 2**63 - 1):
        received.add(seq)
        assert (received.highest, received.seen(seq), received.bits) == (seq, True, int(seq == 2))


# ---- acknowledgements ----


def test_only_what_was_acknowledged_is_settled() -> None:
    peer = link()
    for upto in range(1, 6):
        peer.expect(Sent(upto - 1, upto))
    peer.acknowledge(frame(ack=4, ack_bits=0b101))
    assert peer.acked.gaps(5) == [(1, 2), (4, 5)]
    assert sorted(peer.sent) == [2, 5]
    peer.acknowledge(frame(ack=4, ack_bits=0b010))
    assert sorted(peer.sent) == [5]
    assert peer.acked.gaps(5) == [(4, 5)]


def test_frames_below_the_window_are_lost_and_stay_dirty() -> None:
    peer = link()
    peer.expect(Sent(0, 1))
    for _ in range(wire.ACK_BITS + 1):
        peer.seq += 1
    peer.expect(Sent(1, 2))
    peer.acknowledge(frame(ack=peer.seq, ack_bits=2**wire.ACK_BITS - 1))
    assert not peer.sent
    assert peer.acked.gaps(2) == [(0, 1)]


def test_empty_frames_are_not_remembered_and_the_others_up_to_a_limit() -> None:
    peer = link()
    assert peer.expect(Sent()) == 1
    assert not peer.sent
    for upto in range(MAX_UNACKED + 10):
        peer.expect(Sent(upto, upto + 1))
    assert len(peer.sent) == MAX_UNACKED


def test_tables_and_chunks_of_a_sync_are_settled_too() -> None:
    peer = link()
    peer.start_sync(5)
    peer.sync_waiting = {0: 1, 40: 2}
    peer.sync_place = -1
    peer.expect(Sent(tables_version=3, sync_from=0))
    peer.expect(Sent(tables_version=2, sync_from=40))
    peer.acknowledge(frame(ack=2))
    assert (peer.tables_acked, peer.synced) == (2, False)
    peer.acknowledge(frame(ack=2, ack_bits=1))
    assert (peer.tables_acked, peer.synced) == (3, True)


def test_a_new_life_forgets_what_was_agreed_but_not_the_sequence() -> None:
    peer = link()
    peer.expect(Sent(0, 9, tables_version=4))
    peer.acknowledge(frame(ack=1))
    peer.received.add(12)
    peer.complete(frame(round=5, parts=1), 1)
    peer.restarted(NodeInfo("peer", "", 8, "", 0))
    assert (peer.acked.prefix, peer.tables_acked, peer.received.highest, peer.completed) == (
        0,
        0,
        0,
        0,
    )
    assert (peer.info.epoch, peer.seq) == (8, 1)


def test_a_link_made_again_takes_the_peers_numbers_from_anywhere() -> None:
    peer = link()
    peer.expect(Sent(0, 9))
    peer.acknowledge(frame(ack=1))
    peer.received.add(100)
    assert peer.complete(frame(round=50, parts=1), 1) == 1
    peer.measure(frame(sent=10**9), 5)
    peer.renumber()
    assert not peer.received.seen(3)
    assert peer.complete(frame(round=2, parts=1), 2) == 2
    peer.measure(frame(sent=7), 9)
    assert (peer.echo, peer.echo_at) == (7, 9)
    assert peer.acked.prefix == 9


# ---- round trips ----


def test_round_trips_are_smoothed_and_the_hold_is_not_theirs() -> None:
    peer = link()
    assert peer.measure(frame(echo=100, hold=30), 150)
    assert peer.round_trip == 20
    assert peer.measure(frame(echo=200, hold=0), 300)
    assert peer.round_trip == 20 + 80 // 8


def test_a_pause_hardly_moves_the_round_trip() -> None:
    peer = link()
    for trip in (40_000_000, 4_900_000_000, 3_900_000_000, 2_900_000_000, 1_900_000_000):
        peer.measure(frame(echo=0, hold=0), trip)
    assert peer.round_trip <= 40_000_000 + 4 * PAUSED_NS // 8


@pytest.mark.parametrize(("trip", "fresh"), [(STALE_NS, True), (STALE_NS + 1, False)])
def test_a_frame_that_took_too_long_says_nothing(trip: int, fresh: bool) -> None:
    peer = link()
    assert peer.measure(frame(echo=0, hold=77), trip + 77) == fresh
    assert peer.round_trip == (trip if fresh else 0)


def test_a_frame_that_was_held_up_says_nothing_of_clocks() -> None:
    """After a pause it comes late, and where rounds are slow no other one shows that."""
    peer, interval = link(), 10 * 10**9
    for now in range(interval, 7 * interval, interval):
        late = 3 * 10**9 if now == 4 * interval else 0
        assert peer.measure(frame(sent=now, echo=now, hold=0), now + 40 + late)
        assert jump([peer.clock, peer.clock]) == 0
    assert peer.clock.moved == 0


def test_the_echo_is_the_newest_time_sent() -> None:
    peer = link()
    for sent, now in ((5, 10), (3, 20), (6, 30)):
        peer.measure(frame(sent=sent), now)
    assert (peer.echo, peer.echo_at) == (6, 30)


# ---- rounds ----


def test_a_round_is_complete_with_its_last_part_and_stands_for_its_first() -> None:
    peer = link()
    parts = [frame(round=1, part=i, parts=3) for i in range(3)]
    assert peer.complete(parts[2], 20) is None
    assert peer.complete(parts[0], 10) is None
    assert peer.complete(parts[0], 11) is None
    assert peer.complete(parts[1], 30) == 10
    assert peer.complete(parts[1], 40) is None


def test_a_newer_round_ends_waiting_for_an_older_one() -> None:
    peer = link()
    assert peer.complete(frame(round=1, part=0, parts=2), 10) is None
    assert peer.complete(frame(round=2, part=0, parts=1), 20) == 20
    assert peer.complete(frame(round=1, part=1, parts=2), 30) is None


def test_a_frame_outside_a_complete_round_completes_none() -> None:
    assert link().complete(frame(round=3), 10) is None
