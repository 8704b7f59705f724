"""Entries as bytes: their contents, their length, and that no bytes do harm."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtbucket.errors import WireError
from crdtbucket.mesh.protocol import entries
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import NOWHERE, ORIGINS, Peer, peers, send, snapshot
from tests.core.specs import SECOND

SPEC = BucketSpec("b", 100, 100)
REFUNDS, RATES, RELAYED = 1, 2, 4
KEYS = ["k", "other", "third"]


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def entry(
    key: tuple[int, int],
    columns: Sequence[tuple[int, ...]],
    *,
    flags: int = 0,
    definition: int = 0,
    debt: int = 10**8,
    rates: bytes = b"",
    count: int | None = None,
) -> bytes:
    """An entry by the book; a column is (origin, generation, taken[, refunded])."""
    head = struct.pack("<QQB", *key, flags) + varint(definition) + varint(debt) + rates
    body = b"".join(varint(number) for column in columns for number in column)
    return head + varint(len(columns) if count is None else count) + body


class Receiver:
    """A node that holds something, and what it looks like."""

    def __init__(self) -> None:
        self.peer = Peer(1, SPEC)
        self.bucket = self.peer.bucket
        self.bucket.take("k", 20)
        self.bucket.refund(self.bucket.take("k", 10), 5)
        self.bucket.take("third", 1)
        self.ids = array("H", [self.peer.table.epochs.origin(1, 1000 + i) for i in range(4)])
        self.before = self.looks()

    def looks(self) -> Any:
        return snapshot(self.peer.table, self.bucket, KEYS)

    def merge(self, payload: bytes) -> Any:
        definitions = [(0, True, *SPEC.emission)]
        return self.peer.table.inbox.merge(payload, definitions, self.ids, node=1, epoch=1000, at=0)

    def refuses(self, payload: bytes) -> None:
        with pytest.raises(WireError):
            self.merge(payload)
        assert self.looks() == self.before

    def key(self, name: str = "k") -> tuple[int, int]:
        lo, hi = self.bucket.hash(name)
        return lo, hi


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def test_the_bytes_of_an_entry() -> None:
    a = Peer(0, SPEC)
    a.bucket.refund(a.bucket.take("k", 60), 10)
    a.table.outbox.collect()
    positions = array("H", [NOWHERE]) * ORIGINS
    positions[1] = 300
    data, covered, count = a.table.outbox.encode_log(0, a.table.outbox.version, positions, 1000)
    assert (covered, count) == (a.table.outbox.version, 1)
    assert data == entry(a.bucket.hash("k"), [(300, 1, 60, 10)], flags=REFUNDS, debt=5 * 10**8)
    data, _, _ = a.table.outbox.encode_log(
        0, a.table.outbox.version, array("H", [NOWHERE]) * ORIGINS, 1000
    )
    assert data == entry(a.bucket.hash("k"), [], debt=5 * 10**8)  # nothing that was announced


@pytest.mark.parametrize("count", [2, 15, 16, 17, 64, 65, 500])
def test_columns_stand_in_the_order_of_their_places(count: int) -> None:
    """However they came to lie here: the newest first, or by chance."""
    a = Peer(0, SPEC)
    ids = array("H", [a.table.epochs.origin(1, 1000 + i) for i in range(count)])
    columns = [(place, 1, 7 + place) for place in range(count)]
    payload = entry(a.bucket.hash("k"), columns)
    a.table.inbox.merge(
        payload, [(0, True, *SPEC.emission)], ids, node=1, epoch=1000, at=0, newer=False
    )
    held = array("I", [a.table.find(*a.bucket.hash("k"))])
    places = list(range(ORIGINS - count, ORIGINS))
    for shuffled in (places, places[::-1], sorted(places, key=lambda place: place * 37 % 101)):
        positions = array("H", [NOWHERE]) * ORIGINS
        for place, origin in zip(shuffled, ids, strict=True):
            positions[origin] = place
        data, _, _ = a.table.outbox.encode_entries(held, 0, positions, 100_000)
        (read,) = entries.read(data, 1, ORIGINS)
        taken = {place: 7 + i for i, place in enumerate(shuffled)}
        assert read.columns == tuple((place, 1, taken[place], 0) for place in places)


def test_what_was_written_by_hand_is_read(receiver: Receiver) -> None:
    columns = [(0, 1, 30, 0), (2, 7, 8, 3)]
    merged = receiver.merge(entry(receiver.key("other"), columns, flags=REFUNDS, debt=35 * 10**7))
    assert (merged.merged, merged.gained) == (1, 35)
    found = {epoch: c for (_, epoch), c in receiver.bucket.columns("other").items()}
    assert found == {1000: (1, 30, 0), 1002: (7, 8, 3)}
    assert receiver.bucket.peek("other").remaining == 65


def test_each_half_of_a_column_only_grows(receiver: Receiver) -> None:
    for taken, back, known in ((30, 10, (30, 10)), (50, 5, (50, 10)), (40, 20, (50, 20))):
        receiver.merge(entry(receiver.key("other"), [(0, 1, taken, back)], flags=REFUNDS))
        assert receiver.bucket.columns("other") == {(1, 1000): (1, *known)}


@pytest.mark.parametrize(("columns", "most"), [(1, 29), (5, 55), (40, 300)])
def test_entries_are_short(columns: int, most: int) -> None:
    nodes = peers(columns, BucketSpec("b", 10_000, 1_000))
    for node in nodes:
        node.bucket.take("k", 100)
        if node is not nodes[-1]:
            send(node, nodes[-1])
    nodes[-1].table.outbox.collect()
    assert len(nodes[-1].payload()) <= most


def payload_of_three() -> tuple[Peer, bytes]:
    a, b = peers(2, SPEC)
    b.bucket.take("k", 5)
    send(b, a)
    for node in (a, b):
        node.table.set_time(SECOND // 10)
    a.bucket.refund(a.bucket.take("k", 60), 10)
    a.bucket.take("other", 3)
    a.bucket.settle("third", 150)
    a.table.outbox.collect()
    return a, a.payload()


class TestDamage:
    def setup_method(self) -> None:
        self.sender, self.payload = payload_of_three()

    def merged(self, payload: bytes) -> tuple[Receiver, Any, bool]:
        receiver = Receiver()
        try:
            return receiver, receiver.merge(payload), True
        except WireError:
            assert receiver.looks() == receiver.before
            return receiver, None, False

    def ends(self) -> set[int]:
        positions, _ = self.sender.announced()
        lengths, version = [0], 1
        while version < self.sender.table.outbox.version:
            one, version, _ = self.sender.table.outbox.encode_log(
                version, version + 1, positions, 1000
            )
            lengths.append(lengths[-1] + len(one))
        assert lengths[-1] == len(self.payload)
        return set(lengths)

    def test_every_prefix_is_refused_but_between_entries(self) -> None:
        accepted = {n for n in range(len(self.payload) + 1) if self.merged(self.payload[:n])[2]}
        assert accepted == self.ends()

    def test_every_bit_flip_is_refused_or_an_entry(self) -> None:
        """A change that no authentication stops still moves nothing out of its range."""
        refused = 0
        for bit in range(8 * len(self.payload)):
            damaged = bytearray(self.payload)
            damaged[bit // 8] ^= 1 << bit % 8
            receiver, merged, accepted = self.merged(bytes(damaged))
            refused += not accepted
            if not accepted:
                continue
            assert merged.merged + merged.ignored + merged.unknown_bucket <= 4
            for key in KEYS:
                assert -1 <= (receiver.bucket.debt(key) or 0) <= 2 * SECOND
                for _, taken, back in receiver.bucket.columns(key).values():
                    assert 0 <= back <= taken < 2**55
        assert refused > len(self.payload)  # more than one bit of eight

    @settings(max_examples=200)
    @given(data=st.binary(max_size=200), at=st.integers(0, 100))
    def test_bytes_of_noise_merge_nothing_that_breaks_the_table(self, data: bytes, at: int) -> None:
        _, payload = payload_of_three()
        self.merged(data)
        self.merged(payload[:at] + data)
        self.merged(payload[:at] + data + payload[at:])


class TestLies:
    def test_more_columns_than_there_are(self, receiver: Receiver) -> None:
        for count in (2, 127, 512, 513, 2**32, 2**63):
            receiver.refuses(entry(receiver.key(), [(0, 1, 5)], count=count))

    def test_fewer_columns_than_there_are(self, receiver: Receiver) -> None:
        receiver.refuses(entry(receiver.key(), [(0, 1, 5), (1, 1, 5)], count=1))

    def test_places_beyond_the_tables(self, receiver: Receiver) -> None:
        receiver.refuses(entry(receiver.key(), [(4, 1, 5)]))
        receiver.refuses(entry(receiver.key(), [(2**40, 1, 5)]))
        receiver.refuses(entry(receiver.key(), [(0, 1, 5)], definition=1))

    def test_one_origin_twice_or_out_of_order(self, receiver: Receiver) -> None:
        receiver.refuses(entry(receiver.key(), [(1, 1, 5), (1, 1, 5)]))
        receiver.refuses(entry(receiver.key(), [(2, 1, 5), (1, 1, 5)]))

    def test_numbers_beyond_their_range(self, receiver: Receiver) -> None:
        key = receiver.key()
        receiver.refuses(entry(key, [(0, 2**32, 5)]))
        receiver.refuses(entry(key, [(0, 1, 2**55)]))
        receiver.refuses(entry(key, [(0, 1, 2**64 - 1)]))
        receiver.refuses(entry(key, [(0, 1, 5, 6)], flags=REFUNDS))
        receiver.refuses(entry(key, [(0, 1, 5)], debt=2**62))
        receiver.refuses(entry(key, [(0, 1, 5)], debt=2**64 - 1))

    def test_the_ends_of_the_ranges_are_read(self, receiver: Receiver) -> None:
        columns = [(0, 2**32 - 1, 2**55 - 1, 0), (1, 0, 2**55 - 1, 2**55 - 1)]
        receiver.merge(entry(receiver.key("other"), columns, flags=REFUNDS, debt=2**62 - 1))
        assert receiver.bucket.debt("other") == 2 * SECOND
        found = {epoch: c for (_, epoch), c in receiver.bucket.columns("other").items()}
        assert found == {1000: (2**32 - 1, 2**55 - 1, 0), 1001: (0, 2**55 - 1, 2**55 - 1)}
        for _ in range(3):  # and said on
            receiver.peer.table.outbox.touch([receiver.peer.table.find(*receiver.key("other"))])
            other = Peer(2, SPEC)
            send(receiver.peer, other)
            receiver.merge(entry(receiver.key("other"), columns, flags=REFUNDS, debt=2**62 - 1))
        assert other.bucket.debt("other") == 2 * SECOND

    def test_varints_that_are_longer_than_they_need_or_than_64_bits(
        self, receiver: Receiver
    ) -> None:
        head = struct.pack("<QQB", *receiver.key(), 0)
        plain = head + b"\x00\x05\x01\x00\x01\x05"
        receiver.merge(plain)
        receiver = Receiver()
        head = struct.pack("<QQB", *receiver.key(), 0)
        for tail in (
            b"\x80\x00\x05\x01\x00\x01\x05",
            b"\x00\x85\x00\x01\x00\x01\x05",
            b"\x00\x05\x81\x00\x00\x01\x05",
            b"\x00\x05\x01\x80\x00\x01\x05",
            b"\x00\x05\x01\x00\x81\x00\x05",
            b"\x00\x05\x01\x00\x01\x85\x00",
            b"\x00\x05\x01\x00\x01" + b"\xff" * 9 + b"\x02",
            b"\x00\x05\x01\x00\x01" + b"\x80" * 10 + b"\x01",
            b"\x00\x05\x01\x00\x01" + b"\xff" * 30,
        ):
            receiver.refuses(head + tail)

    @pytest.mark.parametrize("bit", range(3, 8))
    def test_flags_that_are_unknown(self, receiver: Receiver, bit: int) -> None:
        receiver.refuses(entry(receiver.key(), [(0, 1, 5)], flags=1 << bit))

    @pytest.mark.parametrize(
        "tail",
        [
            b"",
            b"\x00",
            b"\x01",
            b"\x01\x01\x05\x00\x40\x00",
            b"\x02\x01\x05\x00\x40\x00\x40",
            b"\x01\x04\x05\x00\x40\x00\x40",
            b"\x02\x01\x05\x00\x40\x00\x40\x01\x05\x00\x40\x00\x40",
            b"\x02\x02\x05\x00\x40\x00\x40\x01\x05\x00\x40\x00\x40",
            b"\x01\x01\x80\x80\x04\x00\x40\x00\x40",
            b"\x81\x04" + b"\x01\x05\x00\x40\x00\x40" * 513,
        ],
        ids=[
            "missing",
            "none",
            "cut-off",
            "short",
            "fewer",
            "beyond",
            "twice",
            "order",
            "age",
            "many",
        ],
    )
    def test_relayed_rates_that_are_none(self, receiver: Receiver, tail: bytes) -> None:
        receiver.refuses(entry(receiver.key(), [(0, 1, 5)], flags=RELAYED) + tail)

    def test_any_relayed_rates_are_read_and_never_move_a_level(self, receiver: Receiver) -> None:
        for age in (b"\x00", b"\xff\xff\x03"):
            for rates in (b"\x00\x00\xff\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"):
                tail = b"\x02\x00" + age + rates + b"\x01" + age + rates
                receiver.merge(entry(receiver.key("other"), [(0, 1, 30)], flags=RELAYED) + tail)
                assert receiver.bucket.debt("other") == 10**8

    def test_a_good_entry_before_a_bad_one_is_not_merged(self, receiver: Receiver) -> None:
        good = entry(receiver.key("other"), [(0, 1, 30)])
        receiver.refuses(good + good[:-1])
        assert receiver.merge(good).merged == 1

    def test_any_rates_are_read_and_never_move_a_level(self, receiver: Receiver) -> None:
        for rates in (b"\x00\x00\xff\xff", b"\xff\xff\xff\xff", b"\x01\x00\x01\x00"):
            receiver.merge(entry(receiver.key("other"), [(0, 1, 30)], flags=RATES, rates=rates))
        assert receiver.bucket.debt("other") == 10**8


def test_a_size_limit_cuts_between_entries_and_goes_on() -> None:
    a, b = peers(2, SPEC, max_keys=500)
    for i in range(300):
        a.bucket.take(f"key {i}", 1 + i % 100)
    a.table.outbox.collect()
    positions, _ = a.announced()
    after, frames, entries = 0, 0, 0
    while after < a.table.outbox.version:
        data, reached, count = a.table.outbox.encode_log(
            after, a.table.outbox.version, positions, 1_000
        )
        assert len(data) <= 1_000
        assert reached > after
        b.merge(a, bytes(data))
        after, frames, entries = reached, frames + 1, entries + count
    assert entries == 300
    assert frames > 5
    assert all(b.bucket.debt(f"key {i}") == a.bucket.debt(f"key {i}") for i in range(300))


def test_a_frame_too_small_for_an_entry_covers_nothing() -> None:
    a = Peer(0, SPEC)
    a.bucket.take("k")
    a.table.outbox.collect()
    positions, _ = a.announced()
    for size in (0, 1, 20):
        data, reached, count = a.table.outbox.encode_log(1, a.table.outbox.version, positions, size)
        assert (bytes(data), reached, count) == (b"", 1, 0)


def test_a_generation_that_a_relay_brought_first_is_the_owners_once_it_sends_it() -> None:
    """Else the owner's next keys, of generations just above it, would never count here."""
    peer = Peer(1, SPEC)
    table, nodes = peer.table, peer.table.nodes
    ids = array("H", [nodes.set_node(number, 1000 * number, True) for number in (1, 2)])

    def ahead(sender: int, key: str, generation: int) -> int:
        payload = entry(peer.bucket.hash(key), [(0, generation, 50)], debt=SECOND // 2)
        slots = [(0, 1, *SPEC.emission)]
        now, epoch = table.now(), 1000 * sender
        merged = table.inbox.merge(payload, slots, ids, node=sender, epoch=epoch, at=now)
        nodes.set_last_seen(sender, now)
        return int(merged.ahead)

    assert not ahead(1, "early", 10)
    nodes.set_disconnected(1)
    table.set_time(100 * SECOND)
    assert not ahead(2, "k", 20_000_000)  # it made a million entries in five seconds
    nodes.set_node(1, 1000, True)
    assert not ahead(1, "k", 20_000_000)
    table.set_time(101 * SECOND)
    assert not ahead(1, "new", 20_000_001)
    assert peer.bucket.peek("new").remaining == 50
