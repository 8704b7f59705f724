"""What has to be sent: rounds, early flushes, versions, the log, its trimming and compaction."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket._core import BucketCore
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.pair import NOWHERE, ORIGINS, Peer, peers, send, snapshot
from tests.core.specs import SECOND, bucket_of

SPEC = BucketSpec("b", 1_000, 1_000)
NOTHING = array("H", [NOWHERE]) * ORIGINS


def logged(bucket: BucketCore, after: int = 0, upto: int | None = None) -> tuple[int, int]:
    """How many entries the log would send above `after`, and the version covered."""
    table = bucket.table
    _, covered, count = table.outbox.encode_log(
        after, upto or table.outbox.version, NOTHING, 1 << 18
    )
    return count, covered


def changed(bucket: BucketCore, key: str) -> int:
    """A take that is in the log; returns its version."""
    bucket.take(key)
    bucket.table.outbox.collect()
    return bucket.table.outbox.version


@pytest.fixture
def bucket() -> BucketCore:
    return bucket_of(SPEC)


def test_every_attempt_is_in_the_next_round_once(bucket: BucketCore) -> None:
    assert bucket.table.outbox.collect() == 0
    for key in ("a", "b", "a", "a"):
        bucket.take(key)
    assert not bucket.take("c", 1_000) or not bucket.take("c", 1_000)  # denied ones too
    assert bucket.table.outbox.collect() == 3
    assert bucket.table.outbox.collect() == 0
    assert logged(bucket) == (3, bucket.table.outbox.version)


def test_a_peek_is_no_attempt(bucket: BucketCore) -> None:
    changed(bucket, "a")
    bucket.peek("a")
    bucket.peek("b")
    assert bucket.table.outbox.collect() == 0


def test_a_merge_makes_no_key_dirty() -> None:
    a, b = peers(2, SPEC)
    a.bucket.take("k")
    send(a, b)
    assert b.table.outbox.collect() == 0
    assert logged(b.bucket)[0] == 0


def test_the_newest_version_of_a_key_is_sent_once(bucket: BucketCore) -> None:
    versions = [changed(bucket, "a") for _ in range(5)]
    assert versions == sorted(set(versions))
    assert logged(bucket) == (1, versions[-1])
    assert logged(bucket, versions[-2])[0] == 1
    assert logged(bucket, versions[-1])[0] == 0
    assert logged(bucket, 0, versions[0]) == (0, versions[0])  # a newer one will come


def test_nothing_that_is_yet_to_come_is_covered(bucket: BucketCore) -> None:
    changed(bucket, "a")
    _, covered = logged(bucket, 0, 2**62)
    assert covered == bucket.table.outbox.version
    changed(bucket, "b")
    assert logged(bucket, covered)[0] == 1


def test_what_every_link_acknowledged_is_trimmed(bucket: BucketCore) -> None:
    first = changed(bucket, "a")
    changed(bucket, "b")
    bucket.table.outbox.trim(first)
    assert logged(bucket)[0] == 1
    bucket.table.outbox.trim(bucket.table.outbox.version)
    assert logged(bucket)[0] == 0
    changed(bucket, "a")
    assert logged(bucket, first)[0] == 1


def test_trimming_an_old_version_keeps_a_newer_one(bucket: BucketCore) -> None:
    first = changed(bucket, "a")
    changed(bucket, "a")
    bucket.table.outbox.trim(first)
    assert logged(bucket)[0] == 1
    bucket.table.set_time(60 * SECOND)
    assert bucket.table.sweep() == 0
    bucket.table.outbox.trim(bucket.table.outbox.version)
    assert bucket.table.sweep() == 1


def test_an_early_flush_has_only_the_keys_that_asked(bucket: BucketCore) -> None:
    bucket.take("small", 49)
    bucket.take("large", 50)  # a twentieth
    assert bucket.table.outbox.flush_wanted
    assert bucket.table.outbox.collect(True) == 1
    assert not bucket.table.outbox.flush_wanted
    assert logged(bucket)[0] == 1
    assert bucket.table.outbox.collect() == 2  # the round has both
    assert logged(bucket)[0] == 2


def test_a_touched_entry_is_dirty_again(bucket: BucketCore) -> None:
    changed(bucket, "a")
    bucket.table.outbox.trim(bucket.table.outbox.version)
    bucket.table.outbox.touch([0, 0])
    assert logged(bucket)[0] == 1
    bucket.table.outbox.touch([])
    assert logged(bucket)[0] == 1


def test_versions_go_on_after_an_eviction(bucket: BucketCore) -> None:
    changed(bucket, "a")
    bucket.table.outbox.trim(bucket.table.outbox.version)
    acknowledged = bucket.table.outbox.version
    bucket.table.set_time(60 * SECOND)
    assert bucket.table.sweep() == 1
    changed(bucket, "a")
    assert logged(bucket, acknowledged)[0] == 1


def test_more_attempts_than_the_log_has_places() -> None:
    """A link that never acknowledges: the log is compacted, nothing is lost."""
    a, b = Peer(0, SPEC, max_keys=16), Peer(1, SPEC)
    for round_ in range(500):
        a.table.set_time(round_ * SECOND // 100)
        for i in range(8):
            a.bucket.take(f"{(round_ * 3 + i) % 16}", 1 + i)
        a.table.outbox.collect()
        assert logged(a.bucket)[0] == min(16, len(a.table))
    b.table.set_time(a.table.now())
    send(a, b)
    for i in range(16):
        assert b.bucket.debt(f"{i}") in (None, a.bucket.debt(f"{i}"))
    before = logged(a.bucket)[0]
    a.table.outbox.touch([i % 16 for i in range(10_000)])
    assert logged(a.bucket)[0] == before


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_log_that_is_never_empty_does_not_go_through_all_of_its_memory() -> None:
    """A link that is always a little behind, as under load: the log is large by what it holds, not
    by all that it ever held, which would be 24 MB here."""
    a = Peer(0, SPEC, max_keys=1_000_000)
    for i in range(16):
        a.bucket.take(f"{i}")
    a.table.outbox.collect()
    touched = [i % 16 for i in range(10_000)]
    before = resident_bytes()
    for _ in range(100):
        a.table.outbox.touch(touched)
        a.table.outbox.trim(a.table.outbox.version - 3)
    assert resident_bytes() - before < 2_000_000


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(0, 25), st.integers(1, 300)),
            st.tuples(st.just("round"), st.just(0), st.just(0)),
            st.tuples(st.just("flush"), st.just(0), st.just(0)),
            st.tuples(st.just("deliver"), st.integers(0, 1), st.just(0)),
            st.tuples(st.just("lose"), st.integers(0, 1), st.just(0)),
            st.tuples(st.just("wait"), st.integers(0, 20), st.just(0)),
        ),
        max_size=80,
    )
)
def test_no_take_is_lost_whatever_is(steps: list[tuple[str, int, int]]) -> None:
    """Two links acknowledge at their own pace; in the end both know every count that is held."""
    source, *sinks = peers(3, SPEC, max_keys=16)
    acknowledged = [0, 0]

    def deliver(link: int) -> None:
        payload, version = source.payload(acknowledged[link]), source.table.outbox.version
        if payload:
            sinks[link].merge(source, payload, newer=False)
        acknowledged[link] = version
        source.table.outbox.trim(min(acknowledged))

    now = 0
    for what, a, b in steps:
        if what == "take":
            source.bucket.take(f"{a}", b)
        elif what in ("round", "flush"):
            source.table.outbox.collect(what == "flush")
        elif what == "deliver":
            deliver(a)
        elif what == "lose":
            source.payload(acknowledged[a])
        else:
            now += a * SECOND
            for node in (source, *sinks):
                node.table.set_time(now)
            source.table.sweep()
    source.table.outbox.collect()
    for link in (0, 1):
        deliver(link)
        for i in range(26):
            held = source.bucket.columns(f"{i}")
            known = sinks[link].bucket.columns(f"{i}")
            if held and (source.bucket.debt(f"{i}") or 0) > 0:
                assert list(known.values()) == list(held.values())
    assert logged(source.bucket)[0] == 0
    assert source.table.outbox.collect() == 0


def test_encoding_changes_nothing(bucket: BucketCore) -> None:
    for key in "abc":
        bucket.take(key, 10)
    bucket.table.outbox.collect()
    bucket.table.set_time(SECOND // 300)
    before = snapshot(bucket.table, bucket, list("abc"))
    logged(bucket)
    assert snapshot(bucket.table, bucket, list("abc")) == before
