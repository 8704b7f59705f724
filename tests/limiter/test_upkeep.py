"""What upkeep does in one beat."""

from __future__ import annotations

from crdtbucket import BucketSpec, Limiter
from crdtbucket.limiter.upkeep import BEAT_S, SHORTEST_BEAT_S

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
