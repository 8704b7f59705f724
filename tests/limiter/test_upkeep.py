"""What upkeep does in one beat."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket.limiter.upkeep import BEAT_S, BUG, MENDED, SHORTEST_BEAT_S, Upkeep
from tests.disks import full, small_disk

CHUNK = 65_536
"""Changes that the core collects in one go."""


def test_many_changes_take_several_beats_that_follow_at_once() -> None:
    limiter = Limiter([BucketSpec("api", 100, 100)], max_keys=CHUNK + 10_000)
    bucket, upkeep, table = limiter.bucket("api"), limiter._runtime._upkeep, limiter._tables.main
    before = table.outbox.version
    bucket.take_many([f"key {i}" for i in range(CHUNK + 1000)])
    assert upkeep.beat() == SHORTEST_BEAT_S
    assert CHUNK <= table.outbox.version - before < CHUNK + 1000
    assert upkeep.beat() == BEAT_S
    assert table.outbox.version - before == CHUNK + 1000
    assert upkeep.beat() == BEAT_S
    assert table.outbox.version - before == CHUNK + 1000


class Work:
    """Stands for a bucket, its reservations or a node; each attempt is counted."""

    alone = True

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.tried = 0
        self.saved = Mock(directory=None)

    @property
    def reservations(self) -> Work:
        return self

    def beat(self) -> None:
        self.tried += 1
        if self.fails:
            raise ZeroDivisionError

    expire = beat


def test_work_that_fails_is_logged_once_and_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Limiter([BucketSpec("api", 100, 1)]) as limiter:
        node, first, second = (Work(fails=True), Work(fails=True), Work(fails=False))
        upkeep = Upkeep(limiter._tables, cast("Any", [first, second]), cast("Any", node))
        before = limiter._tables.main.outbox.version
        limiter.bucket("api").take("k")
        for _ in range(3):
            assert upkeep.beat() == BEAT_S
        assert (node.tried, first.tried, second.tried) == (3, 6, 6)
        assert limiter._tables.main.outbox.version > before  # the table was looked after
        assert [one.getMessage() for one in caplog.records] == [BUG] * 2  # each fault once
        caplog.clear()
        caplog.set_level(logging.INFO, "crdtbucket")
        node.fails = False
        upkeep.beat()
        node.fails = True
        upkeep.beat()
        assert caplog.messages == [MENDED, BUG]  # after a success it is news


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_shared_table_that_cannot_grow_says_so_once_and_when_that_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at, keys = tmp_path / "disk", [f"key {i}" for i in range(CHUNK)]
    table = f"the shared table {at}/table"
    with small_disk(at, 256 << 20), caplog.at_level(logging.INFO, "crdtbucket"):
        limiter, other = (
            Limiter([BucketSpec("api", 100, 100)], max_keys=CHUNK, shared=at / "table")
            for _ in range(2)
        )
        beats = [one._runtime._upkeep.beat for one in (limiter, other)]
        for beat in beats:
            beat()
        full(at)
        other.bucket("api").take_many(keys)
        for beat in beats * 2:
            beat()
        (said,) = caplog.messages
        assert said == (
            f"{table} cannot grow (No space left on device), and evicts keys although fewer than "
            f"max_keys are in it: give the file system of {at} more room, or lower max_keys"
        )
        (at / "ballast").unlink()
        for beat in beats * 2:
            beat()
        assert caplog.messages[1:] == [f"{table} grows again"]
        limiter.close()
        other.close()
