"""Columns of an entry: widening, overflow, tombstones, and memory at its limit."""

from __future__ import annotations

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import Peer, peers, send
from tests.core.specs import SECOND
from tests.tombstones import add_tombstone

WHOLE = BucketSpec("b", 100, 100)


class TestColumns:
    def test_a_refund_widens_a_column_and_keeps_it(self) -> None:
        a, b = peers(2, WHOLE)
        decision = a.bucket.take("k", 40)
        send(a, b)
        a.bucket.refund(decision, 15)
        send(a, b)
        assert list(b.bucket.columns("k").values()) == [(1, 40, 15)]
        assert b.bucket.peek("k").remaining == 75

    def test_forty_origins_in_one_entry(self) -> None:
        nodes = peers(40, BucketSpec("b", 10_000, 1))
        last = nodes[-1]
        for number, node in enumerate(nodes):
            decision = node.bucket.take("k", 10 + number)
            if number % 3 == 0:
                node.bucket.refund(decision, 3)
            if node is not last:
                send(node, last)
        expected = {node.epoch: (10 + i, 3 if i % 3 == 0 else 0) for i, node in enumerate(nodes)}
        found = {e: (p, n) for (_, e), (_, p, n) in last.bucket.columns("k").items()}
        assert found == expected
        net = sum(p - n for p, n in expected.values())
        assert last.bucket.peek("k").remaining == 10_000 - net
        last.table.outbox.touch([0])
        first = nodes[0]
        send(last, first)
        assert {e: (p, n) for (_, e), (_, p, n) in first.bucket.columns("k").items()} == expected
        assert first.bucket.peek("k").remaining == 10_000 - net

    def test_blocks_are_given_back_on_eviction(self) -> None:
        """A table of few blocks lives through many entries that need them."""
        nodes = peers(8, BucketSpec("b", 100, 100), max_keys=16)
        sink = nodes[-1]
        for life in range(30):
            for node in nodes[:-1]:
                node.table.set_time(life * 60 * SECOND)
            sink.table.set_time(life * 60 * SECOND)
            for node in nodes[:-1]:
                node.bucket.take("k", 5)
                assert send(node, sink).dropped == 0
            assert sink.bucket.peek("k").remaining <= 65
            sink.table.set_time(life * 60 * SECOND + 30 * SECOND)
            assert sink.table.sweep() == 1

    def test_without_room_for_columns_nothing_breaks(self) -> None:
        nodes = peers(100, BucketSpec("b", 100_000, 1), max_keys=16)
        sink, keys = nodes[-1], [f"k{i}" for i in range(12)]
        dropped = 0
        for node in nodes[:-1]:
            for key in keys:
                node.bucket.take(key, 5)
                node.bucket.refund(node.bucket.take(key, 2))
            dropped += send(node, sink).dropped
        assert dropped > 0
        for key in keys:
            kept = sink.bucket.columns(key)
            assert len(kept) >= 16
            assert sink.bucket.peek(key).remaining <= 100_000 - 5 * len(kept)

    def test_columns_with_a_tombstone_vanish_and_the_level_stays(self) -> None:
        a, b, c = peers(3, WHOLE)
        a.bucket.take("k", 30)
        send(a, b)
        send(a, c)
        b.bucket.take("k", 10)
        assert add_tombstone(b.table, a.epoch)
        assert b.bucket.peek("k").remaining == 60
        assert {e for _, e in b.bucket.columns("k")} == {b.epoch}
        send(a, b)
        assert b.bucket.peek("k").remaining == 60
        send(b, c)
        assert c.bucket.peek("k").remaining == 60

    def test_several_tombstones_are_added_at_once(self) -> None:
        """The own epoch and unknown ones get none."""
        a, b, c = peers(3, WHOLE)
        for peer, tokens in ((a, 30), (b, 10), (c, 5)):
            peer.bucket.take("k", tokens)
        send(a, c)
        send(b, c)
        marked = c.table.epochs.add_tombstones([a.epoch, 4711, c.epoch, b.epoch])
        assert c.table.epochs.prune() == -1
        assert marked == [a.epoch, b.epoch]
        assert c.bucket.peek("k").remaining == 55
        assert {e for _, e in c.bucket.columns("k")} == {c.epoch}

    def test_columns_of_the_dead_count_no_more_at_once_and_go_some_places_at_a_time(self) -> None:
        """Between two parts the sender sends the same again, and takes go on; a second epoch that
        dies meanwhile is removed by the next walk."""
        a, b, c = peers(3, WHOLE)
        keys = [f"k{i}" for i in range(10)]

        def held(peer: Peer) -> int:
            owner = c.node_of(peer.number)
            return sum((owner, peer.epoch) in c.bucket.columns(k) for k in keys)

        for peer in (a, b):
            for key in keys:
                peer.bucket.take(key, 10)
            send(peer, c)
        assert held(a) == 10
        assert c.table.epochs.add_tombstones([a.epoch]) == [a.epoch]
        assert c.table.epochs.prune(0, 4) == 4
        assert held(a) == 6
        assert not c.table.epochs.release(a.epoch)
        send(a, c)
        c.bucket.take("k0", 5)
        assert held(a) == 6
        assert c.table.epochs.add_tombstones([b.epoch]) == [b.epoch]
        assert c.table.epochs.prune(4, 4) == 8
        assert c.table.epochs.prune(8, 4) == -1
        assert held(a) == 0
        assert c.table.epochs.release(a.epoch)
        assert held(b) == 10
        assert not c.table.epochs.release(b.epoch)
        assert c.table.epochs.prune() == -1
        assert held(b) == 0
        assert c.table.epochs.release(b.epoch)
        assert [c.bucket.peek(k).remaining for k in keys] == [75] + [80] * 9
        c.table.verify()

    def test_an_own_epoch_can_have_a_tombstone_while_keys_still_count_under_it(self) -> None:
        a, b = peers(2, WHOLE)
        old = a.epoch
        a.bucket.take("k", 30)
        a.table.epochs.open(77)
        assert add_tombstone(a.table, old)
        a.table.epochs.release(old)
        reused = a.table.epochs.origin(1, b.epoch)
        assert reused
        assert a.bucket.columns("k") == {}
        a.bucket.take("k", 1)
        assert a.bucket.columns("k") == {(0, 77): (1, 1, 0)}
        assert a.bucket.peek("k").remaining == 69


def test_an_origin_without_an_id_is_not_followed() -> None:
    """The receiver had no room for more epochs: the columns are left out, the level is adopted."""
    a, b, c = peers(3, WHOLE)
    a.bucket.take("k", 30)
    send(a, b)
    b.bucket.take("k", 10)
    b.table.outbox.collect()
    positions, places = b.announced()
    ids = c.understood(places)
    ids[[e for _, e in places].index(a.epoch)] = 0
    payload, _, _ = b.table.outbox.encode_log(0, b.table.outbox.version, positions, 1 << 16)
    c.table.inbox.merge(bytes(payload), b.definitions_for(c), ids, node=2, epoch=b.epoch, at=0)
    assert {e for _, e in c.bucket.columns("k")} == {b.epoch}
    assert c.bucket.peek("k").remaining == 90
