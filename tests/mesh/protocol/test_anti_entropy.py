"""Digests find what rounds missed, leave out what is the same, and cover every hash."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import anti_entropy, wire
from crdtbucket.mesh.protocol.anti_entropy import LAST, MOST_BYTES, MOST_ITEMS, SLICE, TOLERANCE_NS
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from tests.bad_member import BadMember

SPEC = BucketSpec("b", 100, 1, "1h")
QUIET_NS = 4 * 10**9


def filled(keys: int, epoch: int = 7, cost: int = 10) -> Table:
    table = Table(max_keys=20_000, hash_key=bytes(16), virtual=True, epoch=epoch)
    bucket = BucketCore(table, SPEC)
    for i in range(keys):
        bucket.take(f"key {i}", cost)
    table.outbox.collect()
    table.outbox.trim(table.outbox.version)
    table.set_time(QUIET_NS)
    return table


def link() -> PeerState:
    return PeerState(NodeInfo("peer", "", 9, "", 0), 1, 0)


def digests(table: Table, peer: PeerState) -> list[tuple[int, int, int, int, int]]:
    """The digests of one pass over all hashes."""
    out = []
    while True:
        peer.digest_due = 0
        out.append(anti_entropy.next_digest(table, peer, QUIET_NS)["digest"])
        if not peer.digest_from:
            return out


def test_the_same_tables_have_nothing_to_say() -> None:
    one, other = filled(3000), filled(3000)
    assert not any(anti_entropy.differs(other, digest) for digest in digests(one, link()))


def test_a_period_goes_over_all_hashes_once_however_few_keys_are_quiet() -> None:
    table, peer = filled(20_000), link()
    table.set_time(QUIET_NS // 4)  # all of them were taken from just now
    looks = []
    for now in range(0, anti_entropy.PERIOD_NS, anti_entropy.PERIOD_NS // 100):
        found = anti_entropy.next_digest(table, peer, now)
        if found:
            first, last, count, _, _ = found["digest"]
            looks.append(last + 1 - first)
            assert count == 0
    assert max(looks) < 2**64 // 10
    assert 0.8 < sum(looks) / 2**64 <= 1.0 + 1e-9


def test_a_pass_covers_every_hash_once() -> None:
    table, peer = filled(5000), link()
    found = digests(table, peer)
    assert len(found) >= 5000 // (2 * SLICE)
    assert sum(count for _, _, count, _, _ in found) == 5000
    assert [first for first, *_ in found[1:]] == [last + 1 for _, last, *_ in found[:-1]]
    assert (found[0][0], found[-1][1]) == (0, LAST)
    assert peer.passes == 1


def test_a_slice_is_a_small_part_of_the_table_also_where_no_key_is_in_debt() -> None:
    """Else one digest would visit all keys, under the lock of the table, for each link and
    round."""
    table, peer = filled(20_000), link()
    full_by = 10 * 3600 * 10**9
    table.set_time(full_by)
    first, last, count, _, _ = anti_entropy.next_digest(table, peer, full_by)["digest"]
    assert count == 0
    assert last - first < 2**64 // (20_000 // SLICE)
    assert peer.digest_due - full_by <= anti_entropy.PERIOD_NS // (20_000 // SLICE)


def test_much_room_is_gone_over_in_parts_too() -> None:
    table = Table(max_keys=4 * anti_entropy.MOST_PLACES, hash_key=bytes(16), virtual=True, epoch=7)
    assert len(digests(table, link())) == 5


def test_a_digest_comes_only_when_it_is_due() -> None:
    table, peer = filled(10), link()
    assert anti_entropy.next_digest(table, peer, QUIET_NS)
    assert anti_entropy.next_digest(table, peer, QUIET_NS + 1) == {}
    assert anti_entropy.next_digest(table, peer, QUIET_NS + anti_entropy.PERIOD_NS)


@pytest.mark.parametrize("missing", [0, 1234, 2999])
def test_one_missing_key_of_many_is_found_and_sent(missing: int) -> None:
    one = filled(3000)
    other = Table(max_keys=20_000, hash_key=bytes(16), virtual=True, epoch=7)
    bucket = BucketCore(other, SPEC)
    for i in range(3000):
        bucket.take(f"key {i}", 10)
    lo, hi = bucket.hash(f"key {missing}")
    differing = []
    for digest in digests(one, link()):
        first, last = digest[:2]
        found = anti_entropy.items(one, first, last)
        rows = [found[i : i + 32] for i in range(0, len(found), 32)]
        theirs = b"".join(row for row in rows if struct.unpack("<QQ", row[:16]) != (lo, hi))
        send, want = anti_entropy.compare(one, first, last, theirs)
        differing += send
        assert want == b""
    assert differing == [one.find(lo, hi)]


def test_what_only_the_peer_has_is_asked_for() -> None:
    one, empty = filled(3), filled(0)
    send, want = anti_entropy.compare(empty, 0, LAST, anti_entropy.items(one, 0, LAST))
    assert (send, len(want)) == ([], 3 * 16)
    assert sorted(anti_entropy.wanted(one, want)) == [0, 1, 2]
    assert anti_entropy.wanted(empty, want) == []


@pytest.mark.parametrize(("apart", "sent"), [(TOLERANCE_NS, 0), (TOLERANCE_NS + 1, 1)])
def test_debts_a_moment_apart_are_the_same(apart: int, sent: int) -> None:
    table = filled(1)
    lo, hi, fingerprint, debt = struct.unpack("<QQQQ", anti_entropy.items(table, 0, LAST))
    theirs = struct.pack("<QQQQ", lo, hi, fingerprint, debt - apart)
    send, want = anti_entropy.compare(table, 0, LAST, theirs)
    assert (len(send), len(want)) == (sent, 16 * sent)


class Searched:
    """A table that holds nothing, and counts what is looked for."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int]] = []
        self.outbox = SimpleNamespace(digest_items=lambda *_: b"")

    def find(self, lo: int, hi: int) -> int:
        self.found.append((lo, hi))
        return -1


def test_of_the_items_and_hashes_of_a_frame_so_many_are_looked_at() -> None:
    numbers = range(wire.MAX_PAYLOAD // 32)
    assert len(numbers) > MOST_ITEMS
    table: Any = Searched()
    theirs = b"".join(struct.pack("<QQQQ", n, n, 1, 1) for n in numbers)
    assert len(anti_entropy.compare(table, 0, LAST, theirs)[1]) == 16 * MOST_ITEMS
    assert table.found == [(n, n) for n in range(MOST_ITEMS)]
    table = Searched()
    anti_entropy.wanted(table, b"".join(struct.pack("<QQ", n, n) for n in numbers))
    assert table.found == [(n, n) for n in range(MOST_ITEMS)]


@pytest.mark.parametrize(("most", "compared"), [(99, False), (100, True)])
def test_items_over_too_wide_a_range_are_not_compared(
    most: int, compared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anti_entropy, "MOST_COMPARED", most)
    table, asked = filled(100), []
    out: Any = SimpleNamespace(
        entries=lambda peer, entries, now: [b"entries" for _ in entries],
        frame=lambda peer, now, payload, payload_kind: asked.append(payload) or b"hashes",
    )
    items = wire.Frame(
        epoch=9,
        to_epoch=7,
        seq=1,
        sent=0,
        payload_kind=wire.ITEMS,
        items=(0, LAST),
        payload=bytes(32),
    )
    frames = anti_entropy.respond(table, out, link(), items, QUIET_NS)
    assert frames == ([b"entries"] * 100 + [b"hashes"] if compared else [])
    assert asked == ([bytes(16)] if compared else [])


@pytest.mark.parametrize(
    "asked",
    [
        {"digest": (0, LAST, 0, 0, 0)},
        {"payload_kind": wire.ITEMS, "items": (0, LAST), "payload": b""},
    ],
)
def test_a_frame_of_sixty_bytes_is_answered_by_64_kib(asked: dict[str, Any]) -> None:
    """The answer has 2,048 items, or as many entries of one column each; docs/security.md states
    that."""
    mesh = SimulatedMesh("A", [SPEC], max_keys=20_000)
    for i in range(3 * MOST_ITEMS):
        mesh["A"].take("b", f"key {i}", 10)
    mesh.advance(20.0)
    node, bad = mesh["A"].node, BadMember(mesh)
    bad.link("A")
    now, sent = bad.local("A"), node.entries_sent
    ask = wire.encode(wire.Frame(bad.epoch, node.table.epochs.running, 1, now, **asked))
    answered = sum(len(data) for _, data in node.receive("bad", ask, now))
    assert len(ask) <= 64
    assert 50_000 <= answered <= 66_000
    assert node.entries_sent - sent in (0, MOST_ITEMS)


@pytest.mark.parametrize(
    ("asked", "left_out"),
    [
        ({"digest": (0, LAST, 0, 0, 0)}, 1),
        ({"digest": (0, LAST // 2, 0, 0, 0)}, 0),
        ({"payload_kind": wire.ITEMS, "items": (0, LAST), "payload": bytes(32)}, 1),
        ({"payload_kind": wire.ITEMS, "items": (0, LAST // 2), "payload": bytes(32)}, 0),
        ({"payload_kind": wire.ITEMS, "items": (0, 1), "payload": bytes(MOST_BYTES + 32)}, 1),
        ({"payload_kind": wire.WANT, "payload": bytes(MOST_BYTES // 2)}, 0),
        ({"payload_kind": wire.WANT, "payload": bytes(MOST_BYTES // 2 + 16)}, 1),
        ({"payload": bytes(MOST_BYTES + 32)}, 0),
    ],
)
def test_what_a_frame_asks_for_beyond_what_is_looked_at_is_counted(
    asked: dict[str, Any], left_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anti_entropy, "MOST_COMPARED", 50)
    frame = wire.Frame(epoch=9, to_epoch=7, seq=1, sent=0, **asked)
    assert anti_entropy.left_out(filled(100), frame) == left_out


def test_what_a_restarted_node_lost_comes_back_without_any_take() -> None:
    mesh = SimulatedMesh("AB", [SPEC], seed=3, latency=0.01)
    for i in range(200):
        mesh["A"].take("b", f"key {i}", 10)
    mesh.advance(1.0)
    mesh.restart("B")
    mesh.advance(2.0)
    assert len(mesh["B"].table) == 200
    assert all(mesh["B"].peek("b", f"key {i}").remaining == 90 for i in range(200))


def test_what_is_not_quiet_here_is_sent_and_asked_for() -> None:
    """A third node may keep it from ever being quiet: with answers that bring nothing."""
    one, busy = filled(1), filled(1, epoch=8)
    busy.set_time(QUIET_NS // 4)
    send, want = anti_entropy.compare(busy, 0, LAST, anti_entropy.items(one, 0, LAST))
    assert len(send) == 1
    assert anti_entropy.wanted(one, want)
