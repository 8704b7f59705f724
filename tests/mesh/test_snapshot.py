"""Snapshots: the debts come back, and any other data is refused as a whole."""

from __future__ import annotations

import errno

import msgpack
import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import MeshError
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec

SPEC = BucketSpec("b", 100, 1, "1h")


def node(epoch: int, spec: BucketSpec = SPEC) -> tuple[Table, BucketCore, Roster]:
    table = Table(max_keys=64, hash_key=bytes(16), virtual=True, epoch=epoch)
    return table, BucketCore(table, spec), Roster(table, "me")


def saved(keys: int = 3) -> bytes:
    table, bucket, roster = node(7)
    for i in range(keys):
        bucket.take(f"key {i}", 10 * i + 10)
    bucket.refund(bucket.take("key 0", 5), 5)
    return b"".join(snapshot.dump(table, roster))


def sealed(*values: object) -> bytes:
    """A snapshot of these values, with their checksum."""
    packed = msgpack.packb((*values, b"four"))[: -snapshot.CHECKSUM_BYTES]
    return packed + snapshot.checksum([packed])


def test_where_the_boot_cannot_be_read_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_files() -> bytes:
        raise OSError(errno.EMFILE, "Too many open files", "/proc/self/timens_offsets")

    data = saved()
    monkeypatch.setattr(snapshot, "boot_id", no_files)
    why = r"^/proc/self/timens_offsets cannot be read \(Too many open files\): allow this process"
    table, _, roster = node(8)
    with pytest.raises(MeshError, match=why):
        snapshot.dump(table, roster)
    with pytest.raises(MeshError, match=why):
        snapshot.load(table, roster, data)


def test_debts_and_columns_come_back_under_a_new_epoch() -> None:
    table, bucket, roster = node(8)
    assert snapshot.load(table, roster, saved()) == 3
    assert [bucket.peek(f"key {i}").remaining for i in range(3)] == [90, 80, 70]
    assert bucket.columns("key 0") == {(0, 7): (1, 15, 5)}
    bucket.take("key 1", 1)
    assert set(bucket.columns("key 1")) == {(0, 7), (0, 8)}


def test_full_keys_are_not_kept() -> None:
    table, bucket, roster = node(7)
    bucket.take("k", 1)
    table.set_time(4000 * 10**9)
    other = node(8)
    assert snapshot.load(other[0], other[2], b"".join(snapshot.dump(table, roster))) == 0


def test_what_is_held_stays() -> None:
    table, bucket, roster = node(8)
    bucket.take("key 2", 1)
    assert snapshot.load(table, roster, saved()) == 2
    assert bucket.peek("key 2").remaining == 99


def test_another_rate_keeps_the_tokens() -> None:
    table, bucket, roster = node(8, BucketSpec("b", 100, 2, "1h"))
    snapshot.load(table, roster, saved())
    assert bucket.peek("key 2").remaining == 70


def test_the_running_epoch_is_refused() -> None:
    table, _, roster = node(7)
    with pytest.raises(MeshError, match="running epoch"):
        snapshot.load(table, roster, saved())


def test_every_truncation_and_every_flipped_bit_is_refused() -> None:
    data = saved()
    table, _, roster = node(8)
    broken = [data[:size] for size in range(len(data))]
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        broken.append(bytes(flipped))
    for one in broken:
        with pytest.raises(MeshError):
            snapshot.load(table, roster, one)
        assert len(table) == 0


def test_damage_inside_is_named() -> None:
    table, _, roster = node(8)
    damaged = bytearray(saved())
    chunk = msgpack.unpackb(damaged)[4][0]
    damaged[damaged.index(chunk) + len(chunk) // 2] ^= 1
    with pytest.raises(MeshError, match="it is damaged: its bytes have another checksum"):
        snapshot.load(table, roster, bytes(damaged))


def test_of_a_snapshot_that_is_damaged_at_its_end_nothing_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "CHUNK", 300)
    form, epoch, origins, definitions, chunks, time, _ = msgpack.unpackb(saved(9))
    assert len(chunks) > 1
    for last in (chunks[-1][:-1], "text", None):
        damaged = sealed(form, epoch, origins, definitions, [*chunks[:-1], last], time)
        table, _, roster = node(8)
        with pytest.raises(MeshError, match="not a snapshot"):
            snapshot.load(table, roster, damaged)
        assert len(table) == 0


def test_a_snapshot_with_columns_of_the_running_epoch_is_none() -> None:
    table, _, roster = node(8)
    form, epoch, origins, *rest, _ = msgpack.unpackb(saved())
    with pytest.raises(MeshError, match="running epoch"):
        snapshot.load(table, roster, sealed(form, epoch, [*origins, ["me", 8]], *rest))


NOW = snapshot.FORMAT


@pytest.mark.parametrize(
    "what",
    [b"", b"\xc0", msgpack.packb(5), sealed(), sealed(NOW), sealed(NOW, 7, [], [], []),
     sealed(NOW, 7, 5, [], [], [b"", 0]), sealed(NOW, 7, [["me", 7]], [[1]], [b""], [b"", 0]),
     sealed(NOW, 7, [], [], ["text"], [b"", 0]), sealed(NOW, 7, [], [], [b"\0" * 30], [b"", 0]),
     sealed(NOW, 7, [], [], [], ["", 0]), sealed(NOW, 7, [], [], [], [b"", "0"]),
     sealed(float(NOW), 7, [], [], [], [b"", 0]), sealed(NOW, 7, [], [], [], [b"", 0], 1)],
)  # fmt: skip
def test_what_is_no_snapshot_is_refused(what: bytes) -> None:
    table, _, roster = node(8)
    with pytest.raises(MeshError, match="not a snapshot"):
        snapshot.load(table, roster, what)
    assert snapshot.load(table, roster, sealed(NOW, 7, [], [], [], [b"", 0])) == 0


HOUR = 3600 * 10**9


def restored(data: bytes, now: int, boot: bytes | None = None) -> tuple[Table, BucketCore]:
    table, bucket, roster = node(8)
    table.set_time(now)
    snapshot.load(table, roster, data, boot)
    return table, bucket


def test_debts_have_fallen_since_within_a_boot() -> None:
    table, bucket = restored(saved(), 15 * HOUR)
    assert [bucket.peek(f"key {i}").remaining for i in range(3)] == [100, 95, 85]
    assert (len(table), table.inbox.suspects) == (2, 0)  # the first is history
    assert bucket.columns("key 1") == {(0, 7): (2, 20, 0)}


@pytest.mark.parametrize("boot", [b"another", b""])
def test_of_another_boot_nothing_is_known_but_the_most(boot: bytes) -> None:
    table, bucket = restored(saved(), 15 * HOUR, boot)
    assert [bucket.peek(f"key {i}").remaining for i in range(3)] == [90, 80, 70]
    assert table.inbox.suspects == 3


def test_a_time_that_is_yet_to_come_is_of_no_known_age() -> None:
    table, _, roster = node(7)
    table.set_time(HOUR)
    BucketCore(table, SPEC).take("k", 10)
    data = b"".join(snapshot.dump(table, roster))
    assert restored(data, HOUR - 1)[0].inbox.suspects == 1


def test_what_is_suspect_is_sent_to_nobody_until_it_stands() -> None:
    table, bucket = restored(saved(), 0, b"another")
    bucket.take("key 0", 1)
    _, positions = Roster(table, "me").announced()
    table.outbox.collect()
    assert table.outbox.encode_log(0, table.outbox.version, positions, 4096)[2] == 0
    assert table.outbox.encode_table(0, positions, 4096)[2] == 0
    assert table.inbox.settle_suspects(False) == (3, -1)
    assert table.inbox.suspects == 0
    assert table.outbox.encode_log(0, table.outbox.version, positions, 4096)[2] == 3
    assert table.outbox.encode_table(0, positions, 4096)[2] == 3


def test_cancelled_what_was_taken_since_is_left() -> None:
    table, bucket = restored(saved(), 0, b"another")
    bucket.take("key 1", 7)
    assert bucket.peek("key 1").remaining == 73
    assert table.inbox.settle_suspects(True) == (3, -1)
    assert [bucket.peek(f"key {i}").remaining for i in range(3)] == [100, 93, 100]


def test_one_of_an_earlier_version_is_refused_by_name() -> None:
    table, _, roster = node(8)
    with pytest.raises(
        snapshot.OtherFormat, match=f"format 1, this version reads {snapshot.FORMAT}"
    ):
        snapshot.load(table, roster, msgpack.packb((1, 7, [], [], [])))


def test_a_large_table_is_saved_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """One copy of all holds up every thread of the process for as long as it takes."""
    monkeypatch.setattr(snapshot, "CHUNK", 512)
    table, bucket, roster = node(7)
    for i in range(50):
        bucket.take(f"key {i}", 10)
    pieces = snapshot.dump(table, roster)
    assert max(map(len, pieces)) <= 512 + 8
    other = node(8)
    assert snapshot.load(other[0], other[2], b"".join(pieces)) == 50
