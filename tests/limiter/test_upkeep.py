"""What upkeep does in one beat."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket.limiter.upkeep import BEAT_S, SHORTEST_BEAT_S
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
