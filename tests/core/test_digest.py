"""Digests of ranges of hashes, compared with a plain list of the entries."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import Peer, peers, send, send_all
from tests.core.specs import SECOND

SPEC = BucketSpec("b", 100, 1)
LAST = 2**64 - 1

Row = tuple[int, int, int, int]


def rows(peer: Peer, first: int = 0, last: int = LAST, most: int = 10_000) -> list[Row]:
    """(low, high, fingerprint, debt) of each entry of a range."""
    data = peer.table.outbox.digest_items(first, last, most)
    return list(struct.iter_unpack("<QQQQ", data))


def filled(keys: int, max_keys: int, seed: int = 0) -> Peer:
    peer = Peer(0, SPEC, max_keys=max_keys)
    for i in range(keys):
        peer.bucket.take(f"{seed} {i}", 1 + i % 90)
    peer.table.outbox.collect()
    peer.table.outbox.trim(peer.table.outbox.version)
    peer.table.set_time(10 * SECOND)  # the first ten of each ninety are full by then
    return peer


def owing(peer: Peer, keys: int, seed: int = 0) -> dict[tuple[int, int], int]:
    """Hash to debt of every key that owes."""
    names = [f"{seed} {i}" for i in range(keys)]
    return {peer.bucket.hash(k): d for k in names if (d := peer.bucket.debt(k) or 0) > 0}


@given(
    keys=st.integers(0, 60),
    seed=st.integers(0, 10**6),
    bounds=st.tuples(st.integers(0, LAST), st.integers(0, LAST)),
    most=st.integers(1, 20),
)
def test_any_range_has_its_entries(
    keys: int, seed: int, bounds: tuple[int, int], most: int
) -> None:
    """The table has few slots, so that runs of entries cross its end."""
    peer = filled(keys, max(16, keys), seed)
    first, last = sorted(bounds)
    expected = owing(peer, keys, seed)
    inside = {h: d for h, d in expected.items() if first <= h[1] <= last}
    found = rows(peer, first, last)
    assert {(lo, hi): d for lo, hi, _, d in found} == inside
    assert len(found) == len(inside)
    count, total, debt, following = peer.table.outbox.digest(first, last)
    assert (count, debt, following) == (len(inside), sum(inside.values()), 0)
    assert total == sum(f for _, _, f, _ in found) % 2**64
    # in parts: each part is exactly the entries below where the next one begins
    start, parts, seen = first, 0, 0
    while True:
        count, _, debt, following = peer.table.outbox.digest(start, last, most)
        end = following - 1 if following else last
        part = [d for h, d in expected.items() if start <= h[1] <= end]
        assert (count, debt) == (len(part), sum(part))
        seen, parts = seen + count, parts + 1
        if not following:
            break
        assert start < following
        start = following
        if start > last:
            break
    assert seen == len(inside)
    assert parts <= keys + 2


@pytest.mark.parametrize("seed", range(10))
def test_a_run_over_the_end_of_the_index_counts_once(seed: int) -> None:
    peer = filled(400, 400, seed)
    expected = owing(peer, 400, seed)
    start, seen = 0, 0
    while True:
        count, _, _, following = peer.table.outbox.digest(start, LAST, 10)
        end = following - 1 if following else LAST
        assert count == sum(start <= h[1] <= end for h in expected)
        seen += count
        if not following:
            break
        start = following
    assert seen == len(expected)


def test_equal_columns_have_equal_prints_whatever_the_order() -> None:
    a, b, c, d = peers(4, SPEC)
    a.bucket.take("k", 30)
    b.bucket.refund(b.bucket.take("k", 20), 5)
    for first, second, receiver in ((a, b, c), (b, a, d)):
        send(first, receiver)
        send(second, receiver)
    for node in (c, d):
        node.table.set_time(10 * SECOND)
    assert [r[:3] for r in rows(c)] == [r[:3] for r in rows(d)]
    assert len(rows(c)) == 1
    a.bucket.take("k", 1)
    send(a, c)
    for node in (c, d):
        node.table.set_time(20 * SECOND)
    assert rows(c)[0][2] != rows(d)[0][2]


@pytest.mark.parametrize("change", ["taken", "refunded", "epoch", "key"])
def test_any_difference_changes_the_print(change: str) -> None:
    a, b = Peer(0, SPEC), Peer(1, SPEC)
    epoch = 5
    for peer in (a, b):
        peer.table.epochs.open(epoch)
    a.bucket.take("k", 30)
    if change == "epoch":
        b.table.epochs.open(6)
    decision = b.bucket.take("other" if change == "key" else "k", 31 if change == "taken" else 30)
    if change == "refunded":
        b.bucket.refund(decision, 1)
    for peer in (a, b):
        peer.table.outbox.collect()
        peer.table.outbox.trim(peer.table.outbox.version)
        peer.table.set_time(10 * SECOND)
    assert len(rows(a)) == len(rows(b)) == 1
    assert rows(a)[0][2] != rows(b)[0][2]


def test_what_is_in_flight_is_left_out_unless_asked_for() -> None:
    peer = Peer(0, SPEC)
    peer.bucket.take("k", 50)
    assert peer.table.outbox.digest(0, LAST)[0] == 0
    peer.table.outbox.collect()
    peer.table.set_time(10 * SECOND)
    assert peer.table.outbox.digest(0, LAST)[0] == 0  # in the log
    assert peer.table.outbox.digest(0, LAST, all_entries=True)[0] == 1
    peer.table.outbox.trim(peer.table.outbox.version)
    assert peer.table.outbox.digest(0, LAST)[0] == 1
    peer.table.set_time(50 * SECOND)
    assert peer.table.outbox.digest(0, LAST, all_entries=True)[0] == 0  # full


def test_an_empty_or_backward_range_is_empty() -> None:
    peer = filled(50, 50)
    assert peer.table.outbox.digest(5, 4) == (0, 0, 0, 0)
    assert rows(peer, LAST, 0) == []
    assert Peer(1, SPEC).table.outbox.digest(0, LAST) == (0, 0, 0, 0)


@pytest.mark.parametrize("asked", [True, False])
def test_what_an_idle_peer_repeats_is_quiet(asked: bool) -> None:
    """Two that repair each other again and again would keep the key out of each other's digests,
    and out of those of a third, which alone has what one of them lacks."""
    idle, busy = peers(2, SPEC)
    for node in (idle, busy):
        node.table.set_time(SECOND)
    busy.bucket.take("k", 90)
    send(busy, idle)
    for at in (12, 24) if not asked else (2,):
        for node in (idle, busy):
            node.table.set_time(at * SECOND)
        if asked:
            busy.bucket.take("k", 1)
            busy.table.outbox.collect()
        send_all(busy, idle)
    assert len(rows(idle)) == (0 if asked else 1)
