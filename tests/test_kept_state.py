"""State that an earlier version left behind is used, or refused with its version: the bytes in
`golden/`."""

from __future__ import annotations

import json
import logging
import lzma
import platform
from pathlib import Path

import pytest

from crdtbucket._core import LAYOUT, BucketCore
from crdtbucket.mesh import snapshot
from tests.kept_state import (
    BOOT,
    GOLDEN,
    MADE,
    RECORDS,
    SECOND,
    SPEC,
    ask,
    make_records,
    make_snapshot,
    node,
    open_shared,
    timed_redis,
)
from tests.strong.golden import KEY

HOUR = 3_600 * SECOND
LEFT = {"refunded": 50, "plain": 80}
"""Tokens of each key when the bytes were written; one an hour comes back."""
ONE_MACHINE = pytest.mark.skipif(
    (platform.system(), platform.machine(), platform.libc_ver()[0]) != ("Linux", "x86_64", "glibc"),
    reason="a table of a host has the layout of its processor and of its C library",
)


def kept(kind: str) -> list[tuple[Path, int]]:
    """The files of a kind, and the format of each."""
    found = [(path, int(path.name.split(".")[1][1:])) for path in GOLDEN.glob(f"{kind}.v*")]
    assert found
    return found


def left(bucket: BucketCore) -> dict[str, int]:
    return {key: bucket.peek(key).remaining for key in LEFT}


def test_each_format_of_today_is_kept() -> None:
    missing = MADE.keys() - {path.name for path in GOLDEN.iterdir()}
    assert not missing, "a new format: python -m tests.kept_state writes its file"


@pytest.mark.parametrize(("path", "form"), kept("snapshot"))
def test_a_snapshot_goes_on_or_is_refused_by_its_format(path: Path, form: int) -> None:
    table, bucket, roster = node(18)
    table.set_time(SECOND + 10 * HOUR)
    data = path.read_bytes()
    if form != snapshot.FORMAT:
        with pytest.raises(
            snapshot.OtherFormat, match=f"has format {form}, this version reads {snapshot.FORMAT}"
        ):
            snapshot.load(table, roster, data)
        return
    assert snapshot.load(table, roster, data, BOOT) == 2
    assert left(bucket) == {key: tokens + 10 for key, tokens in LEFT.items()}
    assert bucket.columns("refunded") == {(0, 17): (1, 60, 10)}


def test_a_snapshot_is_written_as_it_was() -> None:
    assert make_snapshot() == (GOLDEN / f"snapshot.v{snapshot.FORMAT}.bin").read_bytes()


@ONE_MACHINE
@pytest.mark.parametrize(("path", "layout"), kept("table"))
def test_a_table_of_a_host_goes_on_or_is_begun_anew_and_that_is_said(
    path: Path, layout: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "table"
    copy.touch(0o600)
    copy.write_bytes(lzma.decompress(path.read_bytes()))
    with caplog.at_level(logging.WARNING, "crdtbucket"):
        file, table = open_shared(copy)
    table.set_time(SECOND + 10 * HOUR)
    bucket = BucketCore(table, SPEC)
    if layout == LAYOUT:
        assert caplog.text == ""
        assert left(bucket) == {key: tokens + 10 for key, tokens in LEFT.items()}
    else:
        assert "layout" in caplog.text
        assert left(bucket) == dict.fromkeys(LEFT, SPEC.capacity)
    table.verify()
    del bucket, table
    file.close()


@pytest.mark.parametrize(("path", "form"), kept("records"))
def test_the_record_of_a_key_in_redis_is_decided_on(path: Path, form: int) -> None:
    fields = json.loads(path.read_bytes())
    with timed_redis() as redis:
        redis.line.ask(
            "HSET", KEY, *(bytes.fromhex(word) for one in fields.items() for word in one)
        )
        denied, allowed = ask(redis, 51, 60, 10), ask(redis, 50, 60, 10)
    assert (form, denied.status.name, allowed.status.name) == (RECORDS, "DENIED", "ALLOWED")
    assert (allowed.taken, allowed.refunded) == (110, 10)


def test_a_record_is_written_as_it_was() -> None:
    assert make_records() == (GOLDEN / f"records.v{RECORDS}.json").read_bytes()
