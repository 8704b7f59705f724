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
from crdtbucket.mesh.protocol.peer_state import (
    LATE_NS,
    MAX_UNACKED,
    MOST_HOLD_NS,
    PeerState,
)
from crdtbucket.mesh.protocol.travel_times import HELD_UP_NS

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


def test_a_new_epoch_forgets_what_was_agreed_but_not_the_sequence() -> None:
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
    measure(peer, 5, sent=10**9)
    peer.renumber()
    assert not peer.received.seen(3)
    assert peer.complete(frame(round=2, parts=1), 2) == 2
    measure(peer, 9, sent=7)
    assert (peer.echo, peer.echo_at) == (7, 9)
    assert peer.age == 0  # by the clock of the one before it would be a second old
    assert peer.acked.prefix == 9


# ---- round trips ----


DRIFT_NS = LATE_NS // 900
"""The part of a lateness that may be drift."""


def measure(peer: PeerState, now: int, *, addressed: bool = True, **values: int) -> bool:
    return peer.measure(frame(**values), now, addressed=addressed)


def test_round_trips_are_smoothed_and_the_hold_is_not_theirs() -> None:
    peer = link()
    assert measure(peer, 150, echo=100, hold=30)
    assert peer.round_trip == 20
    assert measure(peer, 300, echo=200)
    assert peer.round_trip == 20 + 80 // 8


def test_a_frame_that_was_held_up_moves_no_round_trip() -> None:
    peer = link()
    for trip in (40_000_000, 4_900_000_000, 3_900_000_000, 40_000_000 + HELD_UP_NS + 1):
        measure(peer, trip, echo=0)
    assert peer.round_trip == 40_000_000
    measure(peer, 40_000_000 + HELD_UP_NS, echo=0)
    assert peer.round_trip == 40_000_000 + HELD_UP_NS // 8


def test_a_round_trip_that_was_interrupted_for_long_is_none() -> None:
    """The peer is not reached any more, and its clock has drifted since."""
    peer = link()
    now = MOST_HOLD_NS + 20
    assert measure(peer, now, sent=now, echo=0, hold=MOST_HOLD_NS)
    assert measure(peer, 2 * now, sent=2 * now, echo=0, hold=MOST_HOLD_NS + 1)
    assert peer.round_trip == 20


@pytest.mark.parametrize(("age", "fresh"), [(LATE_NS, True), (LATE_NS + 2 * DRIFT_NS, False)])
@pytest.mark.parametrize("addressed", [True, False])
def test_a_frame_that_is_too_old_says_nothing(age: int, fresh: bool, addressed: bool) -> None:
    peer = link()
    measure(peer, 10, sent=10, echo=0, addressed=addressed)
    half = 5 if addressed else 0  # nobody else's round trip is this one's
    assert measure(peer, 20 + age - half, sent=20, echo=0, addressed=addressed) == fresh
    assert age - DRIFT_NS <= peer.age <= age


def test_a_frame_is_as_late_as_it_is_itself_and_not_as_the_way_there_was() -> None:
    """This node's frames were held, and the peer's were not."""
    peer = link()
    measure(peer, 40, sent=0, echo=0)
    assert measure(peer, 9 * 10**9 + 40, sent=9 * 10**9, echo=0)
    assert peer.age == 20


def test_links_that_were_slow_from_the_beginning_are_too_old() -> None:
    """The smallest round trip shows it."""
    peer = link()
    for sent in range(0, 10**10, 10**9):
        assert not measure(peer, sent + 6 * 10**9, sent=sent, echo=sent - 6 * 10**9)


def test_a_frame_that_was_held_up_says_nothing_of_clocks() -> None:
    """After a pause it comes late, and where rounds are slow no other frame shows that."""
    peer, interval = link(), 10 * 10**9
    for now in range(interval, 7 * interval, interval):
        late = 3 * 10**9 if now == 4 * interval else 0
        assert measure(peer, now + 40 + late, sent=now, echo=now)
        assert jump([peer.clock, peer.clock]) == 0
    assert peer.clock.moved == 0


def test_links_that_drain_from_the_beginning_are_no_jump() -> None:
    """Each frame is a little less late than the one before, there and back."""
    peer = link()
    for now in range(0, 20 * 10**9, 10**8):
        late = max(0, 10 * 10**9 - now)
        measure(peer, now + late + 40, sent=now, echo=now - late)
        assert jump([peer.clock, peer.clock]) == 0


def test_the_echo_is_the_newest_time_sent() -> None:
    peer = link()
    for sent, now in ((5, 10), (3, 20), (6, 30)):
        measure(peer, now, sent=sent)
    assert (peer.echo, peer.echo_at) == (6, 30)


# ---- rounds ----


def test_answers_since_is_when_the_first_frame_came_that_was_made_after_the_peer_was_seen() -> None:
    """However old the frames seem to be."""
    peer, came = link(), []
    peer.connected_again(INFO, 50, 0)
    for now, echo in ((60, None), (61, 49), (62, 50), (63, 55)):
        assert peer.measure(frame(sent=now, echo=echo), now, addressed=True)
        came.append(peer.answers_since >= peer.steady_since)
    assert came == [False, False, True, True]
    assert peer.answers_since == 62
    peer.steady_since = 70  # it was silent meanwhile
    peer.measure(frame(sent=80, echo=69), 80, addressed=True)
    assert peer.answers_since == 62
    peer.measure(frame(sent=81, echo=71), 81, addressed=True)
    assert peer.answers_since == 81


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
