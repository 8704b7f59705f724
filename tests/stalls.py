"""How long one frame of a bad member holds up the event loop: python -m tests.stalls [KEYS].

A node holds a million keys, and a peer sends the frames that make it work most. Each is merged in
parts, as in a running mesh, where the event loop does other work between two parts. The command
sends each frame three times and prints the longest part of the quickest of them, in ms of processor
time. It also prints the longest round, in which the node sends what has changed. The exit status is
1 when a part takes more than `PART_MS`, or a round more than `ROUND_MS`.
"""

from __future__ import annotations

import logging
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.anti_entropy import MOST_COMPARED, MOST_ITEMS
from crdtbucket.mesh.protocol.entries import Entry
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.bad_member import entry

PART_MS, ROUND_MS = 5.0, 20.0
KEYS = 1_000_000
REPEATS = 3
EPOCH = 99
ENTRIES = 9_000
ROUNDS = 20
Fields = dict[str, Any]


class Victim:
    """The attacked node: it holds `keys` keys, all of which have changed, and has room for `spare`
    more."""

    def __init__(self, keys: int, spare: int) -> None:
        self.rng = random.Random(3)
        self.table = Table(max_keys=keys + spare, hash_key=bytes(16), virtual=True, epoch=7)
        self.table.set_time(10**12)
        self.bucket = BucketCore(self.table, BucketSpec("b", 100, 1, "1h"))
        for number in range(keys):
            self.bucket.take(f"{number}", 3)
        self.node = MeshNode(self.table, MeshConfig(), name="me", seed=1)
        self.node.memory.remember(self.table.now())
        for name, epoch in (("bad", EPOCH), ("other", 98)):
            self.node.connected(NodeInfo(name, "", epoch, "", 0), self.table.now())
        self.keys, self.seq = keys, 0

    def held(self, count: int) -> list[tuple[int, int]]:
        return [self.bucket.hash(f"{self.rng.randrange(self.keys)}") for _ in range(count)]

    def invented(self, count: int) -> list[tuple[int, int]]:
        return [(self.rng.getrandbits(64), self.rng.getrandbits(64)) for _ in range(count)]

    def longest(self, fields: Fields) -> float:
        """Ms of the longest part of a frame."""
        self.seq += 1
        now = self.table.now()
        data = wire.encode(
            wire.Frame(**{"epoch": EPOCH, "to_epoch": 7, "seq": self.seq, "sent": now, **fields})
        )
        worst, begin = 0.0, time.thread_time()
        for _ in self.node.parts("bad", data, now):
            worst, begin = max(worst, time.thread_time() - begin), time.thread_time()
        return 1e3 * max(worst, time.thread_time() - begin)

    def asked(self, fields: Fields) -> float:
        """Ms to answer a frame of an observer."""
        now = self.table.now()
        data = wire.encode(
            wire.Frame(**{"epoch": 1, "to_epoch": 0, "seq": 1, "sent": now, **fields})
        )
        begin = time.thread_time()
        self.node.observe(data, now)
        return 1e3 * (time.thread_time() - begin)

    def round(self) -> float:
        """Ms of the next round."""
        now = self.table.now() + 100_000_000
        self.table.set_time(now)
        begin = time.thread_time()
        self.node.tick(now)
        return 1e3 * (time.thread_time() - begin)

    def entries(self, hashes: list[tuple[int, int]], columns: int = 1) -> Fields:
        owners = [("bad", EPOCH), *((f"x{i}", 1000 + i) for i in range(columns - 1))]
        rows = tuple((place, 1, 5 + self.seq, 0) for place in range(columns))
        definitions = tuple(self.table.definitions.all())
        version = self.seq + 1
        return {
            "tables": wire.AnnouncedTables(version, tuple(owners), definitions),
            "tables_version": version,
            "payload": b"".join(entry(Entry(*one, 0, 10**12, rows)) for one in hashes),
        }

    def items(self, hashes: list[tuple[int, int]]) -> Fields:
        payload = b"".join(struct.pack("<QQQQ", *one, 5, 10**15) for one in hashes)
        return {"payload_kind": wire.ITEMS, "items": (0, self.widest()), "payload": payload}

    def wanted(self, hashes: list[tuple[int, int]]) -> Fields:
        payload = b"".join(struct.pack("<QQ", *one) for one in hashes)
        return {"payload_kind": wire.WANT, "payload": payload}

    def members(self) -> Fields:
        first = 1000 * (self.seq + 10)
        known = range(first, first + wire.MAX_MEMBERS - 1)
        return {"members": tuple((f"m{epoch}", "", epoch, f"m{epoch}:1") for epoch in known)}

    def widest(self) -> int:
        """The end of the widest range of hashes that is still answered."""
        return min(2**64 - 1, 2**64 * MOST_COMPARED // max(1, len(self.table)) - 1)


def frames(victim: Victim) -> dict[str, Callable[[], Fields]]:
    return {
        "a digest of all keys": lambda: {"digest": (0, 2**64 - 1, 0, 0, 0)},
        "a digest of as many as are compared": lambda: {"digest": (0, victim.widest(), 0, 0, 0)},
        "items, invented": lambda: victim.items(victim.invented(MOST_ITEMS)),
        "items of held keys": lambda: victim.items(victim.held(MOST_ITEMS)),
        "hashes to send": lambda: victim.wanted(victim.held(MOST_ITEMS)),
        "entries of held keys": lambda: victim.entries(victim.held(ENTRIES)),
        "entries of invented keys": lambda: victim.entries(victim.invented(ENTRIES)),
        "entries with 300 columns": lambda: victim.entries(victim.held(250), 300),
        "members": victim.members,
    }


def questions(victim: Victim) -> dict[str, Callable[[], Fields]]:
    """The frames of an observer that cost most."""
    most, columns = wire.MAX_OBSERVER_PAYLOAD, 100
    return {
        "range": lambda: {"payload_kind": wire.RANGE, "items": (0, 2**64 - 1)},
        "hashes": lambda: victim.wanted(victim.held(most // 16)),
        "entries": lambda: victim.entries(victim.held(most // 30)),
        "columns": lambda: victim.entries(victim.held(most // (5 * columns)), columns),
    }


def rows(keys: int) -> Iterator[tuple[str, float, float]]:
    """Yields rows: the name of a frame, the ms that it takes, and the ms that it may take."""
    for spare, full in ((keys // 16, ""), (0, ", table full")):
        victim = Victim(keys, spare)
        for name, make in frames(victim).items():
            yield name + full, min(victim.longest(make()) for _ in range(REPEATS)), PART_MS
        for name, make in questions(victim).items():
            took = min(victim.asked(make()) for _ in range(REPEATS))
            yield f"an observer's {name}{full}", took, PART_MS
        yield f"a round{full}", max(victim.round() for _ in range(ROUNDS)), ROUND_MS


def main(keys: int) -> int:
    logging.getLogger("crdtbucket").addHandler(logging.NullHandler())
    print(f"{keys:,} keys | ms | at most")
    beyond = 0
    for name, took, most in rows(keys):
        print(f"{name} | {took:.2f} | {most:g}", flush=True)
        beyond += took > most
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else KEYS))
