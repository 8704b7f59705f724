"""What does a round cost against the keys that are held, and against those that changed?"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from functools import cached_property, partial

from benchmarks.measure import Case, Comparison, Scale, stopwatch
from benchmarks.tables import Side
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import anti_entropy
from crdtbucket.mesh.protocol.gossip import SWEEP
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import Roster

QUESTION = "what does a round cost against keys held and keys changed?"
CHUNK = 50_000
SLICES = 50
DEAD_EPOCH = 0xDEAD
Values = tuple[float, ...]


class Held:
    """A table that holds so many keys, and entries of peers about some of them."""

    def __init__(self, keys: int) -> None:
        self.keys = keys
        self.random = random.Random(keys)

    @cached_property
    def side(self) -> Side:
        """The table, filled when it is first asked for."""
        side = Side(0, self.keys + 1000, 2)
        for first in range(0, self.keys, CHUNK):
            side.take([f"user:{i}" for i in range(first, min(first + CHUNK, self.keys))])
            side.acknowledge()
        return side

    def some(self, count: int) -> list[str]:
        """Different keys that are held."""
        return [f"user:{i}" for i in self.random.sample(range(self.keys), count)]

    def send(self, changed: int) -> float:
        """Ns to give `changed` keys their versions and rates, and to write them."""
        self.side.bucket.take_many(self.some(changed))
        table, written = self.side.table, 0
        table.set_time(table.now() + 10_000_000)
        with stopwatch() as elapsed:
            table.outbox.collect()
            written = sum(count for _, count in self.side.frames(self.side.acknowledged))
            spent = elapsed()
        self.side.acknowledge()
        if written != changed:
            raise AssertionError(f"{written} of {changed} entries were written")
        return spent

    def receive(self, changed: int) -> float:
        """Ns to read and merge as many entries of a peer."""
        peer = Side(1, changed, 2)
        peer.take(self.some(changed))
        frames, merged = list(peer.frames(0)), 0
        with stopwatch() as elapsed:
            for frame, _ in frames:
                merged += self.side.merge(peer, frame).merged
            spent = elapsed()
        if merged != changed:
            raise AssertionError(f"{merged} of {changed} entries were merged")
        return spent

    def round(self, changed: int) -> Values:
        """Ns for each changed key: (sent, received)."""
        return self.send(changed) / changed, self.receive(changed) / changed

    def whole_round(self, changed: int) -> Values:
        """Ms for the whole round: (sent, received)."""
        return self.send(changed) / 1e6, self.receive(changed) / 1e6

    def upkeep(self) -> Values:
        """Us: for what a round sweeps, and for the digest of a link."""
        table = self.side.table
        now = table.now()
        link = PeerState(NodeInfo("peer", "", 9, "", 0), 1, now)
        with stopwatch() as elapsed:
            table.sweep(SWEEP)
            swept = elapsed()
            for _ in range(SLICES):
                link.digest_due = now
                anti_entropy.next_digest(table, link, now)
            return swept / 1e3, (elapsed() - swept) / SLICES / 1e3

    def whole(self) -> Values:
        """Ms to visit all keys: for a snapshot, and to drop the columns of a dead epoch."""
        table, roster = self.side.table, Roster(self.side.table, "n0")
        for name in ("n1", "n2"):
            roster.node(name)
        table.epochs.origin(1, DEAD_EPOCH)
        with stopwatch() as elapsed:
            size = sum(map(len, snapshot.dump(table, roster)))
            saved = elapsed()
            table.epochs.add_tombstones((DEAD_EPOCH,))
            table.epochs.prune()
            pruned = elapsed() - saved
        table.epochs.release(DEAD_EPOCH)
        gc.collect()
        stats = table.stats()
        return saved / 1e6, pruned / 1e6, size / self.keys, stats["bytes"] / stats["keys"]


def _cases(tables: list[Held], run: Callable[[Held], Values]) -> list[Case]:
    return [Case(f"{held.keys:,} keys", partial(run, held)) for held in tables]


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Tables of 1 k to 10 M keys, and rounds of 1 k keys to all of a table."""
    most = scale.pick(10_000_000, 1_000_000, 10_000)
    sizes = [10**power for power in range(3, 8) if 10**power <= most]
    tables = [Held(size) for size in sizes]
    changed = min(1000, sizes[0])
    repeats = min(scale.repeats, 5)
    yield Comparison(
        f"a round in which {changed:,} keys changed",
        ("ns a changed key, sent", "ns a changed key, received"),
        _cases(tables, lambda held: held.round(changed)),
        note="keys at random; sent: versions, rates and bytes, once for all peers; received: read "
        "and merged, once a peer",
        repeats=scale.repeats,
    )
    yield Comparison(
        "upkeep of a round",
        (f"us to look at {SWEEP:,} keys for eviction", "us a digest, for each peer"),
        _cases(tables, Held.upkeep),
        repeats=scale.repeats,
    )
    yield Comparison(
        "what goes over all keys: a snapshot, and a dead epoch that is pruned",
        ("ms a snapshot", "ms a pruned epoch", "snapshot bytes a key", "memory bytes a key"),
        _cases(tables, Held.whole),
        repeats=repeats,
    )
    held = tables[-2]
    yield Comparison(
        f"rounds of a table of {held.keys:,} keys",
        ("ms sent", "ms received"),
        [
            Case(f"{count:,} keys changed", partial(held.whole_round, count))
            for count in [10**power for power in range(2, 7) if 10**power <= held.keys]
        ],
        repeats=repeats,
    )
