"""Buckets that a peer defines otherwise: one log line for each, once it lasts."""

from __future__ import annotations

from array import array

import pytest

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.protocol import mismatches, wire
from crdtbucket.mesh.protocol.mismatches import LASTS_NS, Mismatches
from crdtbucket.mesh.protocol.roster import ResolvedTables
from crdtbucket.spec.bucket_spec import BucketSpec

HERE = BucketSpec("api", 100, 20)


def compared() -> tuple[Mismatches, Table]:
    table = Table(max_keys=16, hash_key=bytes(16), virtual=True)
    BucketCore(table, HERE)
    return Mismatches(table.definitions, "me"), table


def announced(table: Table, *specs: BucketSpec) -> ResolvedTables:
    """A peer whose definitions, all of this one bucket, are these."""
    ((slot, name, mine, _, _),) = table.definitions.current()
    rows = tuple((name, spec.definition_hash, *spec.emission) for spec in specs)
    known = tuple((slot, int(row[1] == mine), *row[2:]) for row in rows)
    return ResolvedTables(wire.AnnouncedTables(1, (), rows), array("H"), known, (0, 0))


def test_one_line_for_each_peer_when_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    seen, table = compared()
    other = announced(table, BucketSpec("api", 100, 50))
    for now in range(0, 10 * LASTS_NS, LASTS_NS // 10):
        seen.stated("a", other, (0,), now)
        seen.stated("b", other, (0,), now)
    first, second = [r.getMessage() for r in caplog.records]
    assert first.startswith("me: bucket 'api' is defined otherwise on a: 50 tokens a second there")
    assert "capacity 100 and 20 tokens a second here" in first
    assert f"{HERE.definition_hash:016x}" in first
    assert "reload the one that is behind" in first
    assert " on b: " in second


def test_another_capacity_at_the_same_rate(caplog: pytest.LogCaptureFixture) -> None:
    seen, table = compared()
    other = announced(table, BucketSpec("api", 300, 20))
    for now in (0, LASTS_NS):
        seen.stated("a", other, (0,), now)
    assert "20 tokens a second there, with another capacity (definition" in caplog.text


def test_a_difference_that_passes_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    seen, table = compared()
    both = announced(table, BucketSpec("api", 100, 50), HERE)
    for now in (0, LASTS_NS - 1):
        seen.stated("a", both, (0,), now)
    for now in (LASTS_NS, 2 * LASTS_NS):
        seen.stated("a", both, (), now)
    assert caplog.text == ""


def test_it_is_logged_again_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    seen, table = compared()
    for start, rate in ((0, 50), (2 * LASTS_NS, 60), (4 * LASTS_NS, 60)):
        other = announced(table, BucketSpec("api", 100, rate))
        for now in (start, start + LASTS_NS):
            seen.stated("a", other, (0,), now)
    assert len(caplog.records) == 2
    assert "60 tokens a second there" in caplog.records[1].getMessage()


def test_it_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mismatches, "MOST", 3)
    seen, table = compared()
    for rate in range(50, 70):
        seen.stated("a", announced(table, BucketSpec("api", 100, rate)), (0,), 0)
        seen.stated("a", announced(table, BucketSpec("api", 100, rate)), (0,), LASTS_NS)
    assert len(seen._since) == len(seen._said) == 3


def test_the_line_says_all_of_both_definitions_of_the_bucket_and_when_they_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The bucket is not the first one here, and its rate is no whole time between two tokens."""
    table = Table(max_keys=16, hash_key=bytes(16), virtual=True)
    BucketCore(table, BucketSpec("first", 5, 1))
    here, there = BucketSpec("api", 100, 3), BucketSpec("api", 300, 3)
    BucketCore(table, here)
    seen = Mismatches(table.definitions, "me")
    slot, name = next(
        row[:2] for row in table.definitions.current() if row[2] == here.definition_hash
    )
    row = (name, there.definition_hash, *there.emission)
    known = (slot, 0, *there.emission)
    other = ResolvedTables(wire.AnnouncedTables(1, (), (row,)), array("H"), (known,), (0, 0, 0))
    for now in (0, LASTS_NS - 1):
        seen.stated("a", other, (0,), 10**15 + now)
    assert caplog.records == []
    seen.stated("a", other, (0,), 10**15 + LASTS_NS)
    assert caplog.records[0].getMessage() == (
        "me: bucket 'api' is defined otherwise on a: 3 tokens a second there, with another "
        f"capacity (definition {there.definition_hash:016x}), capacity 100 and 3 tokens a second "
        f"here (definition {here.definition_hash:016x}). What is taken is counted on both, each "
        "under its own limit; give both nodes the same configuration, and reload the one that is "
        "behind"
    )


def test_a_new_difference_keeps_nobody_from_telling_of_an_old_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen, table = compared()
    two = announced(table, BucketSpec("api", 100, 50), BucketSpec("api", 100, 60))
    seen.stated("a", two, (1,), 0)
    seen.stated("a", two, (0, 1), LASTS_NS)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "60 tokens a second there (definition" in line


def test_it_is_logged_again_when_it_changes_here(caplog: pytest.LogCaptureFixture) -> None:
    table, other = Table(max_keys=16, hash_key=bytes(16), virtual=True), BucketSpec("api", 100, 50)
    bucket = BucketCore(table, HERE)
    seen = Mismatches(table.definitions, "me")
    for start, rate in enumerate((20, 30, 20)):
        bucket.define(BucketSpec("api", 100, rate))
        for now in (2 * start * LASTS_NS, (2 * start + 1) * LASTS_NS):
            seen.stated("a", announced(table, other), (0,), now)
    here = [line.split(" and ")[1].split(" tokens")[0] for line in caplog.messages]
    assert here == ["20", "30", "20"]
