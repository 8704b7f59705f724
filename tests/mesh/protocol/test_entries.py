"""The observer's codec of entries is that of the core, and no bytes do harm."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore, Table
from crdtbucket.errors import WireError
from crdtbucket.mesh.protocol import entries
from crdtbucket.mesh.protocol.entries import Entry
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.mesh.frames import entries as from_the_core

U64 = st.integers(0, 2**64 - 1)


@st.composite
def any_entry(draw: st.DrawFn) -> Entry:
    owners = sorted(draw(st.sets(st.integers(0, 511), max_size=6)))
    refunds = draw(st.booleans())
    columns = []
    for owner in owners:
        taken = draw(st.integers(0, entries.MAX_TOKENS))
        refunded = draw(st.integers(0, taken)) if refunds else 0
        columns.append((owner, draw(st.integers(0, 2**32 - 1)), taken, refunded))
    debt = draw(st.integers(0, entries.MAX_DEBT_NS))
    return Entry(draw(U64), draw(U64), draw(st.integers(0, 4095)), debt, tuple(columns))


def read(data: bytes) -> list[Entry]:
    return list(entries.read(data, 4096, 512))


def test_what_the_core_writes_is_read() -> None:
    table = Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=17)
    bucket = BucketCore(table, BucketSpec("api", 100, 100))
    refunded, plain = read(from_the_core())
    assert (refunded.lo, refunded.hi) == bucket.hash("refunded")
    assert refunded.columns == ((0, refunded.columns[0][1], 60, 10),)
    assert (plain.debt_ns, plain.columns[0][2:]) == (200_000_000, (20, 0))


@given(st.lists(any_entry(), max_size=4))
def test_what_is_written_is_read(wrote: list[Entry]) -> None:
    assert read(b"".join(map(entries.write, wrote))) == wrote


@given(any_entry())
def test_the_core_reads_what_is_written_and_writes_the_same(entry: Entry) -> None:
    table = Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=17)
    BucketCore(table, BucketSpec("api", 2**40, 10**6))
    owners = array("H", [table.epochs.origin(1, 1000 + n) for n in range(500)])
    few = tuple(column for column in entry.columns if column[0] < 500 and column[1] and column[2])
    entry = entry._replace(definition=0, debt_ns=entry.debt_ns % 2**40 + 1, columns=few)
    q, p = BucketSpec("api", 2**40, 10**6).emission
    merged = table.inbox.merge(
        entries.write(entry), [(0, True, q, p)], owners, node=0, epoch=17, at=0, newer=False
    )
    if not few:  # nothing was taken
        assert (merged.merged, merged.ignored) == (0, 1)
        return
    assert (merged.merged, merged.refused_columns) == (1, 0)
    positions = array("H", [0xFFFF]) * 512
    for place, origin in enumerate(owners):
        positions[origin] = place
    payload, _, _ = table.outbox.encode_entries(
        array("I", [table.find(entry.lo, entry.hi)]), 0, positions, 10_000
    )
    (back,) = read(bytes(payload))
    assert back.columns == entry.columns
    assert back.debt_ns <= entry.debt_ns


def test_a_hidden_debt_is_read_over() -> None:
    """An observer has nothing to hide, and counts by what is advertised."""
    data = bytes(16) + b"\x08\x00\x05\x07\x00"
    assert read(data) == [Entry(0, 0, 0, 5, ())]
    with pytest.raises(WireError, match="hides no debt"):
        read(data[:19] + b"\x00\x00")
    table = Table(max_keys=16, hash_key=bytes(16), virtual=True, epoch=17)
    options = {"node": 0, "epoch": 17, "at": 0, "newer": False}
    assert table.inbox.merge(data, [(-1, False, 1, 1)], array("H"), **options).unknown_bucket == 1
    for wrong in (data[:19] + b"\x00\x00", data[:19] + b"\xff" * 8 + b"\x40\x00", data[:19]):
        with pytest.raises(WireError, match="malformed"):
            table.inbox.merge(wrong, [(-1, False, 1, 1)], array("H"), **options)


@given(st.binary(max_size=60))
def test_any_bytes_are_entries_or_one_error(data: bytes) -> None:
    try:
        found = read(data)
    except WireError:
        return
    assert all(len(one.columns) <= entries.MAX_COLUMNS for one in found)


@given(any_entry(), st.data())
def test_cut_bytes_are_refused(entry: Entry, data: st.DataObject) -> None:
    whole = entries.write(entry)
    size = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(WireError):
        read(whole[:size])


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("unknown flags", bytes(16) + b"\x04\x00\x00\x00"),
        ("definition beyond the table", bytes(17) + b"\xff\x7f\x00\x00"),
        ("a longer form than needed", bytes(17) + b"\x80\x00\x00\x00"),
        ("columns that do not rise", bytes(17) + b"\x00\x00\x02" + b"\x01\x01\x01" * 2),
        ("more refunded than taken", bytes(16) + b"\x01\x00\x00\x01" + b"\x00\x01\x01\x02"),
    ],
)
def test_malformed_entries_raise_one_error(what: str, data: bytes) -> None:
    with pytest.raises(WireError):
        read(data)
