"""Epochs, generations, restored snapshots and clocks that jump."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.errors import CrdtbucketError, WireError
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import Peer, peers, send
from tests.core.specs import SECOND
from tests.tombstones import add_tombstone

WHOLE = BucketSpec("b", 100, 100)


class TestOwnEpoch:
    def test_larger_counts_of_it_open_a_new_one(self) -> None:
        a, b = peers(2, WHOLE)
        epoch = a.epoch
        a.bucket.take("k", 40)
        send(a, b)
        image = Peer(0, WHOLE)  # the same process, reverted to before the take
        image.table.epochs.open(epoch)
        image.bucket.take("k", 10)
        b.bucket.take("k", 5)
        merged = send(b, image)
        assert merged.duplicate_epoch
        assert image.epoch != epoch
        mine = {e: p for (_, e), (_, p, _) in image.bucket.columns("k").items()}
        assert mine == {epoch: 40, b.epoch: 5}
        assert image.bucket.peek("k").remaining == 55
        assert image.bucket.take("k", 7)
        send(image, b)
        assert b.bucket.peek("k").remaining == 48

    def test_larger_counts_of_a_key_that_is_not_held(self) -> None:
        a, b = peers(2, WHOLE)
        epoch = a.epoch
        a.bucket.take("other")
        a.bucket.take("k", 40)
        send(a, b)
        image = Peer(0, WHOLE)
        image.table.epochs.open(epoch)
        assert send(b, image) is None  # b has nothing of its own to say
        b.table.outbox.touch(range(len(b.table)))
        assert send(b, image).duplicate_epoch
        assert image.epoch != epoch
        assert image.bucket.peek("k").remaining == 60
        assert sum(p for _, p, _ in image.bucket.columns("k").values()) == 40

    def test_equal_counts_leave_it(self) -> None:
        a, b = peers(2, WHOLE)
        epoch = a.epoch
        a.bucket.take("k", 40)
        send(a, b)
        b.bucket.take("k", 5)
        assert not send(b, a).duplicate_epoch
        assert a.epoch == epoch

    def test_an_entry_made_anew_starts_a_higher_generation(self) -> None:
        a, b = peers(2, WHOLE)
        a.bucket.take("k", 40)
        send(a, b)
        a.table.set_time(60 * SECOND)
        b.table.set_time(60 * SECOND)
        a.table.outbox.trim(a.table.outbox.version)
        assert a.table.sweep() == 1
        a.bucket.take("k", 3)
        send(a, b)
        assert list(b.bucket.columns("k").values()) == [(2, 3, 0)]
        assert b.bucket.peek("k").remaining == 97


class TestRestore:
    def saved(self, peer: Peer) -> tuple[bytes, list[tuple[int, int]]]:
        positions, places = peer.announced()
        payload, end, _ = peer.table.outbox.encode_table(0, positions, 1 << 16)
        assert end == -1
        return bytes(payload), places

    def test_a_restored_level_is_not_aged_and_adopts_the_first_peer(self) -> None:
        a, b = peers(2, WHOLE)
        b.bucket.take("k", 60)
        send(b, a)
        payload, places = self.saved(a)
        again = Peer(0, WHOLE)
        for peer in (b, again):
            peer.table.set_time(SECOND // 10)
        ids = again.understood(places)
        assert again.table.inbox.restore(payload, a.definitions_for(again), ids) == 1
        assert again.bucket.peek("k").remaining == 40
        assert again.bucket.columns("k") == {(2, b.epoch): (1, 60, 0)}
        b.table.outbox.touch([0])
        send(b, again)
        assert again.bucket.peek("k").remaining == 50

    def test_a_key_that_is_held_stays_as_it_is(self) -> None:
        a, b = peers(2, WHOLE)
        a.bucket.take("k", 60)
        payload, places = self.saved(a)
        b.bucket.take("k", 5)
        assert b.table.inbox.restore(payload, a.definitions_for(b), b.understood(places)) == 0
        assert b.bucket.peek("k").remaining == 95

    def test_refunds_are_kept(self) -> None:
        a, b = peers(2, WHOLE)
        a.bucket.refund(a.bucket.take("k", 60), 20)
        payload, places = self.saved(a)
        b.table.inbox.restore(payload, a.definitions_for(b), b.understood(places))
        assert list(b.bucket.columns("k").values()) == [(1, 60, 20)]
        assert b.bucket.peek("k").remaining == 60

    def test_columns_of_an_epoch_with_a_tombstone_are_left_out(self) -> None:
        """Its id means another epoch once it is released, so the column would count for that
        one."""
        a, b = peers(2, WHOLE)
        a.bucket.take("k", 60)
        payload, places = self.saved(a)
        ids = b.understood(places)
        assert add_tombstone(b.table, a.epoch)
        assert b.table.inbox.restore(payload, a.definitions_for(b), ids) == 1
        assert b.bucket.peek("k").remaining == 40
        b.table.epochs.release(a.epoch)
        b.table.verify()
        b.table.epochs.origin(5, 12345)
        assert b.bucket.columns("k") == {}

    def test_a_snapshot_of_the_running_epoch_is_refused(self) -> None:
        a = Peer(0, WHOLE)
        a.bucket.take("k", 60)
        payload, places = self.saved(a)
        again = Peer(0, WHOLE)
        again.table.epochs.open(a.epoch)
        with pytest.raises(CrdtbucketError, match="running epoch"):
            again.table.inbox.restore(payload, a.definitions_for(again), again.understood(places))
        assert len(again.table) == 0

    @given(cut=st.integers(0, 60), flip=st.integers(0, 7))
    def test_a_damaged_snapshot_changes_nothing_or_is_an_entry(self, cut: int, flip: int) -> None:
        a = Peer(0, WHOLE)
        a.bucket.take("k", 60)
        payload, places = self.saved(a)
        damaged = bytearray(payload)
        damaged[cut % len(damaged)] ^= 1 << flip
        again = Peer(1, WHOLE)
        try:
            ids = again.understood(places)
            done = again.table.inbox.restore(bytes(damaged), a.definitions_for(again), ids)
        except WireError:
            done = 0
        assert len(again.table) == done


def test_shifts_in_a_row_turn_no_debt_around() -> None:
    bucket = peers(1, WHOLE)[0].bucket
    bucket.take("k", 100)
    for _ in range(64):
        bucket.table.shift(2**58)
    assert bucket.peek("k").debt == 2 * SECOND


def test_a_shifted_clock_leaves_levels_where_they_were() -> None:
    bucket = peers(1, WHOLE)[0].bucket
    bucket.take("k", 60)
    bucket.table.set_time(3600 * SECOND)
    bucket.table.shift(3600 * SECOND)
    assert bucket.peek("k").remaining == 40
    bucket.define(BucketSpec("b", 100, 50))
    bucket.table.set_time(0)
    bucket.table.shift(-3600 * SECOND)
    assert bucket.peek("k").remaining == 40
