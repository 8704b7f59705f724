"""Rounds: everything that is dirty, in bounded frames, and the rest in the next rounds."""

from __future__ import annotations

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.acknowledgements import VersionRanges
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.mesh.protocol.rounds import ROUND_BYTES, SYNC_FRAMES, SYNC_LOOKS, Outbox
from crdtbucket.spec.bucket_spec import BucketSpec

SPEC = BucketSpec("b", 1000, 1, "1h")
STRETCH = 131_072
"""Places of the table that are looked at in one go."""


class Sender:
    def __init__(self, max_keys: int = 200_000) -> None:
        self.table = Table(max_keys=max_keys, hash_key=bytes(16), virtual=True, epoch=7)
        self.bucket = BucketCore(self.table, SPEC)
        roster = Roster(self.table, "me")
        self.link = PeerState(NodeInfo("peer", "", 9, "", 0), roster.node("peer"), 0)
        self.out = Outbox(self.table, roster, {"peer": self.link})
        self.link.start_sync(self.table.outbox.version)

    def round(self) -> list[wire.Frame]:
        self.table.outbox.collect()
        self.out.start()
        return [wire.decode(data) for data in self.out.round(self.link, 1, {})]

    def synced(self) -> Sender:
        self.link.sync_place = -1
        return self

    def acknowledge(self, *frames: wire.Frame) -> None:
        for frame in frames:
            ack = wire.Frame(epoch=9, to_epoch=7, seq=1, sent=0, ack=frame.seq)
            self.link.acknowledge(ack)


def test_an_empty_round_is_sent_and_complete() -> None:
    (frame,) = Sender().synced().round()
    assert (frame.payload, frame.parts, frame.round) == (b"", 1, 1)


def test_a_round_is_complete_only_when_the_peer_is_synced() -> None:
    """Chunks that are on their way and not in this round may be lacking."""
    sender = Sender()
    for i in range(60_000):
        sender.bucket.take(str(i))
    sender.table.outbox.collect()
    sender.link.start_sync(sender.table.outbox.version)
    frames = sender.round()
    assert {frame.parts for frame in frames} == {0}
    while not sender.link.synced:
        sender.acknowledge(*frames)
        frames = sender.round()
    assert frames[0].parts == len(frames)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_process_that_was_there_before_gets_full_keys_with_a_full_sync(fresh: bool) -> None:
    """It predicts takes of them. One that has just begun predicts nothing."""
    sender = Sender()
    sender.bucket.take("k")
    sender.table.outbox.collect()
    sender.table.set_time(4 * 3_600_000_000_000)
    assert sender.bucket.debt("k") < 0
    sender.link.start_sync(sender.table.outbox.version, full=not fresh)
    (frame,) = sender.round()
    assert (frame.payload == b"") == fresh


def test_unacknowledged_keys_are_sent_again_and_acknowledged_ones_not() -> None:
    sender = Sender().synced()
    sender.bucket.take("k")
    (first,) = sender.round()
    (again,) = sender.round()
    assert first.payload == again.payload != b""
    sender.acknowledge(first)
    assert sender.round()[0].payload == b""


def test_tables_are_sent_until_they_are_acknowledged() -> None:
    sender = Sender().synced()
    sender.bucket.take("k")
    (first,) = sender.round()
    assert first.tables is not None
    sender.bucket.take("k")
    assert sender.round()[0].tables is not None
    sender.acknowledge(first)
    sender.bucket.take("k")
    (later,) = sender.round()
    assert later.tables is None
    assert later.tables_version == first.tables.version
    sender.table.epochs.open(8)
    sender.bucket.take("k")
    assert sender.round()[0].tables is not None


def test_many_keys_go_in_bounded_frames_over_several_rounds() -> None:
    sender = Sender().synced()
    keys = 150_000
    for i in range(keys):
        sender.bucket.take(str(i))
    sent, rounds = 0, 0
    while frames := [f for f in sender.round() if f.payload]:
        rounds += 1
        assert all(len(frame.payload) <= wire.MAX_PAYLOAD for frame in frames)
        assert sum(len(frame.payload) for frame in frames) <= ROUND_BYTES + wire.MAX_PAYLOAD
        sent += sum(len(frame.payload) for frame in frames)
        complete = {frame.parts for frame in frames}
        assert complete == ({0} if rounds == 1 else {len(frames)})
        sender.acknowledge(*frames)
    assert rounds == 2
    assert sent >= keys * 24


def test_a_round_that_does_not_fit_goes_on_where_it_ended() -> None:
    """Without any acknowledgement the same keys are not sent for ever."""
    sender = Sender().synced()
    for i in range(150_000):
        sender.bucket.take(str(i))
    first = {frame.payload for frame in sender.round()}
    second = {frame.payload for frame in sender.round()}
    assert not first & second or len(first | second) > len(first)
    assert sum(map(len, first | second)) >= 150_000 * 24


def test_a_full_sync_is_chunked_and_waits_for_acknowledgements() -> None:
    sender = Sender()
    for i in range(50_000):
        sender.bucket.take(str(i))
    sender.table.outbox.collect()
    sender.link.start_sync(sender.table.outbox.version)
    chunks = sender.round()
    assert len(chunks) == SYNC_FRAMES
    assert [frame.payload for frame in sender.round()] == [b""]
    seen = len(chunks)
    while not sender.link.synced:
        sender.acknowledge(*chunks)
        chunks = [frame for frame in sender.round() if frame.payload]
        seen += len(chunks)
    assert seen >= 50_000 * 24 / wire.MAX_PAYLOAD


def test_a_full_sync_looks_at_a_part_of_the_table_in_each_round() -> None:
    """Few of the keys may owe, so that no frame is filled."""
    sender = Sender(SYNC_LOOKS * STRETCH + 100)
    keys = SYNC_LOOKS * STRETCH + 50
    sender.bucket.take_many([f"k{i}" for i in range(keys)])
    sender.table.outbox.collect()
    sender.link.sync_full = False
    sender.link.acked = VersionRanges(sender.table.outbox.version)
    sender.table.set_time(10**16)
    assert sum(frame.parts for frame in sender.round()) == 0
    assert sender.link.sync_place == SYNC_LOOKS * STRETCH
    assert [frame.parts for frame in sender.round()] == [1]


def test_lost_chunks_of_a_sync_are_sent_again() -> None:
    sender = Sender()
    sender.bucket.take("k")
    sender.table.outbox.collect()
    sender.link.start_sync(sender.table.outbox.version)
    (chunk,) = sender.round()
    assert chunk.payload
    sender.out.start()
    (soon,) = map(wire.decode, sender.out.round(sender.link, 9 * 10**8, {}))
    (late,) = map(wire.decode, sender.out.round(sender.link, 11 * 10**8, {}))
    assert (soon.payload, late.payload) == (b"", chunk.payload)
    sender.acknowledge(late)
    assert sender.link.synced


@pytest.mark.parametrize("acknowledged", [True, False])
def test_every_frame_carries_what_was_received(acknowledged: bool) -> None:
    sender = Sender().synced()
    if acknowledged:
        sender.link.received.add(4)
        sender.link.received.add(6)
        sender.link.measure(wire.Frame(epoch=9, to_epoch=7, seq=6, sent=55), 0, addressed=True)
    (frame,) = sender.round()
    assert (frame.ack, frame.ack_bits) == ((6, 0b10) if acknowledged else (0, 0))
    assert (frame.echo, frame.hold) == ((55, 1) if acknowledged else (None, 0))


def test_members_do_not_crowd_the_tables() -> None:
    """Each may fill most of a header."""
    sender = Sender().synced()
    sender.bucket.take("k")
    sender.table.outbox.collect()
    sender.out.start()
    members = tuple(("m" * 60 + str(i), "r" * 60, i + 1, "a" * 60) for i in range(wire.MAX_MEMBERS))
    first, *rest = map(wire.decode, sender.out.round(sender.link, 1, {"members": members}))
    assert (first.members, first.tables, first.payload, first.parts) == (members, None, b"", 0)
    (entries,) = rest
    assert entries.tables is not None
    assert entries.members is None
    assert (entries.part, entries.parts) == (0, 1)
    sender.acknowledge(first, entries)
    (again,) = map(wire.decode, sender.out.round(sender.link, 1, {"members": members}))
    assert again.members == members
