"""`python -m benchmarks.memory_probe SUBJECT KEYS`: fills one thing with keys, in a process of its
own, and prints three numbers: resident bytes a key, bytes a key by its own count, and bytes of an
entry on the wire (0 where there is no such figure)."""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.peers import ALLOWED, AWAITING, PEERS, Awaiting, Take
from benchmarks.tables import Side, exchange

CHUNK = 10_000

Fill = Callable[[int], tuple[float, ...]]


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _grown(keys: int, fill: Callable[[int, int], None]) -> float:
    """Resident bytes a key that `fill(first, last)` adds, after a chunk that warms up."""
    fill(0, CHUNK)
    gc.collect()
    before = resident()
    for first in range(CHUNK, CHUNK + keys, CHUNK):
        fill(first, min(first + CHUNK, CHUNK + keys))
    gc.collect()
    return (resident() - before) / keys


def _call(take: Take, keys: int) -> tuple[float, ...]:
    def fill(first: int, last: int) -> None:
        for i in range(first, last):
            take(f"user:{i}")

    return _grown(keys, fill), 0.0, 0.0


def _dictionary(keys: int) -> tuple[float, ...]:
    counts: dict[str, int] = {}

    def take(key: str) -> None:
        counts[key] = counts.get(key, 0) + 1

    return _call(take, keys)


def _peer(name: str) -> Fill:
    return lambda keys: _call(PEERS[name](ALLOWED, keys + CHUNK), keys)


def _awaiting(keys: int) -> tuple[float, ...]:
    waiting = Awaiting(ALLOWED)

    def fill(first: int, last: int) -> None:
        waiting.case([f"user:{i}" for i in range(first, last)]).run()

    return _grown(keys, fill), 0.0, 0.0


def _shared(keys: int) -> tuple[float, ...]:
    """Measures a file that processes share, with the columns of five regions: the memory that the
    file system holds for it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = f"{folder}/table"
        _, own, wire = _regions(5, path)(keys)
        return os.stat(path).st_blocks * 512 / (keys + CHUNK), own, wire


def _regions(regions: int, path: str | None = None) -> Fill:
    def run(keys: int) -> tuple[float, ...]:
        side = Side(0, keys + CHUNK, regions, max_names=CHUNK, path=path)

        def fill(first: int, last: int) -> None:
            some = [f"user:{i}" for i in range(first, last)]
            for other in range(1, regions):
                exchange(Side(other, CHUNK, regions), side, some)
            side.take(some)
            sent.extend((len(frame), count) for frame, count in side.frames(side.acknowledged))
            side.acknowledge()

        sent: list[tuple[int, int]] = []
        grown, stats = _grown(keys, fill), side.table.stats()
        wire = sum(size for size, _ in sent) / sum(count for _, count in sent)
        return grown, stats["bytes"] / stats["keys"], wire

    return run


SUBJECTS: dict[str, tuple[str | None, Fill]] = {
    "dict[key] += 1, no limit": (None, _dictionary),
    "crdtbucket, 1 region": (None, _regions(1)),
    "crdtbucket, 5 regions": (None, _regions(5)),
    "crdtbucket, 5 regions, shared by processes": (None, _shared),
    "crdtbucket, 10 regions": (None, _regions(10)),
    "token-bucket": ("token_bucket", _peer("token-bucket")),
    "limits, fixed window": ("limits", _peer("limits, fixed window")),
    "throttled-py, GCRA": ("throttled", _peer("throttled-py, GCRA")),
    "pyrate-limiter, token bucket": ("pyrate_limiter", _peer("pyrate-limiter, token bucket")),
    AWAITING: ("aiolimiter", _awaiting),
}
"""By name: the module that must be installed, and what fills it and measures."""

if __name__ == "__main__":
    print(json.dumps(SUBJECTS[sys.argv[1]][1](int(sys.argv[2]))))
