"""Work on all keys can be done in slices, so that no event loop waits for all of them."""

from __future__ import annotations

from array import array

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import peers, send

SPEC = BucketSpec("b", 100, 1, "1h")
LAST = 2**64 - 1
SLICE, STRETCH = 8192, 131_072
HOUR = 3600 * 10**9


def filled(keys: int, cost: int = 10) -> tuple[Table, BucketCore]:
    table = Table(max_keys=max(64, keys), hash_key=bytes(16), virtual=True, epoch=7)
    bucket = BucketCore(table, SPEC)
    bucket.take_many([f"key {i}" for i in range(keys)], cost)
    return table, bucket


def positions(table: Table) -> array[int]:
    return Roster(table, "me").announced()[1]


def test_a_reset_of_all_keys_looks_at_a_slice_at_a_time() -> None:
    _, bucket = filled(SLICE + 100)
    some, place = bucket.reset_some(0)
    assert (len(some), place) == (SLICE, SLICE)
    rest, place = bucket.reset_some(place)
    assert (len(rest), place) == (100, -1)
    assert len({*some, *rest}) == SLICE + 100
    assert bucket.reset_all() == []


def test_suspect_debts_are_settled_on_some_places_at_a_time() -> None:
    table, _ = filled(20)
    saved = b"".join(snapshot.dump(table, Roster(table, "me")))
    again = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=8)
    BucketCore(again, SPEC)
    snapshot.load(again, Roster(again, "me"), saved, b"another boot")
    assert again.inbox.settle_suspects(True, 0, 15) == (15, 15)
    assert again.inbox.suspects == 5
    assert again.inbox.settle_suspects(True, 15, 15) == (5, -1)


def test_the_log_is_trimmed_by_some_items_at_a_time() -> None:
    table, _ = filled(20)
    table.outbox.collect()
    table.set_time(1000 * HOUR)
    table.outbox.trim(table.outbox.version, 15)
    assert table.sweep() == 15
    table.outbox.trim(table.outbox.version, 15)
    assert table.sweep() == 5


def test_a_table_of_full_keys_is_looked_at_by_stretches() -> None:
    table, bucket = filled(STRETCH + 10, 1)
    table.set_time(1000 * HOUR)
    bucket.take(f"key {STRETCH + 5}")
    assert table.outbox.encode_table(0, positions(table), 10_000) == (b"", STRETCH, 0)
    assert table.outbox.encode_table(STRETCH, positions(table), 10_000)[1:] == (-1, 1)
    pieces = snapshot.dump(table, Roster(table, "me"))
    assert len(pieces) == 4  # the head, one, the time and the checksum: a stretch owes nothing


def test_a_digest_looks_at_so_many_keys_whatever_they_owe() -> None:
    table, _ = filled(5000)
    table.set_time(1000 * HOUR)
    first, looks = 0, 0
    while True:
        count, *_, first = table.outbox.digest(first, LAST, 1000, True, 500)
        assert count == 0  # all are full
        looks += 1
        if not first:
            break
    assert 5 <= looks <= 10


@pytest.mark.parametrize("place", [-1, -(2**40)])
def test_no_slice_begins_before_the_table(place: int) -> None:
    table, bucket = filled(5)
    for slice_from in (bucket.reset_some, lambda at: table.inbox.settle_suspects(True, at)):
        with pytest.raises(Exception, match="places begin with 0"):
            slice_from(place)


@pytest.mark.parametrize(("columns", "most", "ends"), [(1, 10, [10, 20, -1]), (40, 10, [2, 4, 6])])
def test_of_entries_with_many_columns_fewer_are_merged_in_one_go(
    columns: int, most: int, ends: list[int]
) -> None:
    """The columns cost more than the entries do."""
    nodes = peers(columns + 1, SPEC)
    sender, receiver = nodes[0], nodes[-1]
    for node in nodes[:-1]:
        for key in range(25):
            node.bucket.take(f"{key}")
        if node is not sender:
            send(node, sender)
    sender.table.outbox.collect()
    payload, following = sender.payload(), 0
    seen: list[int] = []
    while following >= 0 and len(seen) < 30:
        following = receiver.merge(sender, payload, start=following, most=most).following
        seen.append(following)
    assert seen[: len(ends)] == ends
    assert seen[-1] == -1
    assert receiver.bucket.columns("0").keys() == receiver.bucket.columns("24").keys()
    assert len(receiver.bucket.columns("0")) == columns
