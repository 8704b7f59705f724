"""One real node beside scripted peers: what a full mesh of any size costs it.

The peers hold no table. Each sends what a synchronised peer would send, a complete round every
interval, all entries with a column of every node, and acknowledges what arrives. The node under
test does everything that it does in a real mesh of that size.
"""

from __future__ import annotations

import heapq
import random
import struct
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.simulated import BUCKET, Meter
from crdtbucket._core import BucketCore, Table
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.entries import Entry, write
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.spec.bucket_spec import BucketSpec

NS = 1_000_000_000
INTERVAL_NS = NS // 10
ONE_WAY_NS = 80_000_000
START_NS = 1_000 * NS
ALL_BITS = 2**wire.ACK_BITS - 1
HOT = BucketSpec("hot", 10_000, 2_000)
"""Its callers ask for twice the refill; every node gets an equal part of them."""
MANY = BucketSpec(BUCKET, 1_000_000, 100_000)
CHANGING = 1_000
"""Keys that change a second in the whole mesh."""
DEBT_NS = 5 * NS
"""The debt of the hot key, which is near empty then."""
OLD = 100_000
"""Tokens that each node had taken of the hot key before."""
NEWS_ROUNDS = 100
"""A peer sends updates about the members that it knows once in so many rounds."""
RATES = 2
"""The flag of an entry with rates."""


def name_of(number: int) -> str:
    """A node's name, as long as those of pods are."""
    return f"limiter-{number:04d}.eu-central"


def small_float(rate: float) -> int:
    """A rate as it stands in an entry, see `pack_rate` of the core."""
    (word,) = struct.unpack("<I", struct.pack("<f", rate))
    return int((word + (1 << 12) >> 13) - ((127 - 25) << 10))


def rated(entry: Entry, rate: float) -> bytes:
    """An entry whose sender advertises that its callers ask for so much (tokens/s) of the key."""
    data = bytearray(write(entry))
    head = 17
    data[16] |= RATES
    for _ in range(2):  # the definition and the debt stand before the rates
        while data[head] & 0x80:
            head += 1
        head += 1
    data[head:head] = 2 * struct.pack("<H", small_float(rate))
    return bytes(data)


@dataclass
class Peer:
    """The state of a peer: its numbers, and the frames of the node that are still on their way."""

    place: int
    name: str
    epoch: int
    seq: int = 0
    rounds: int = 0
    arrived: int = 0
    echo: int | None = None
    on_way: deque[tuple[int, int]] = field(default_factory=deque)
    sent_tables: bool = False


class Fleet:
    """A node and `nodes` - 1 scripted peers, all linked, in simulated time."""

    def __init__(self, nodes: int, load: str = "idle", seed: int = 1) -> None:
        self.now, self.load = START_NS, load
        self.random = random.Random(seed)
        self.table = Table(max_keys=200_000, hash_key=bytes(16), virtual=True, epoch=2**63 + 1)
        self.table.set_time(self.now)
        self.hot, self.many = BucketCore(self.table, HOT), BucketCore(self.table, MANY)
        config = MeshConfig(peers=[f"127.0.0.1:{i + 1}" for i in range(nodes - 1)], max_peers=1024)
        self.node = MeshNode(self.table, config, name=name_of(0), region="eu", seed=seed)
        epochs = [self.random.getrandbits(64) | 1 for _ in range(nodes)]
        self.peers = [Peer(i, name_of(i), epochs[i]) for i in range(1, nodes)]
        self.by_name = {peer.name: peer for peer in self.peers}
        self.cpu = Meter()
        self.bytes_sent = self.frames_sent = self.largest = self.taken = 0
        self._due: list[tuple[int, int]] = []
        self.refused: list[str] = []
        for number, peer in enumerate(self.peers):
            info = NodeInfo(peer.name, "eu", peer.epoch, f"{peer.name}:7946", 0)
            try:
                self.node.connected(info, self.now)
            except wire.WireError as error:
                self.refused.append(str(error))
                continue
            self._due.append((self.now + self.random.randrange(INTERVAL_NS), number))
        heapq.heapify(self._due)
        self.node.memory.remember(self.now)
        linked = [peer for peer in self.peers if peer.name in self.node.links]
        owners = [(peer.name, peer.epoch) for peer in linked]
        owners.append((self.node.name, self.table.epochs.running))
        definitions = tuple(self.table.definitions.all())
        self.tables = wire.AnnouncedTables(1, tuple(owners), definitions)
        self.hot_slot, self.many_slot = self._slot(self.hot), self._slot(self.many)
        self.linked = len(linked)
        members = tuple((peer.name, "eu", peer.epoch, f"{peer.name}:7946") for peer in linked)
        self.news: dict[str, Any] = {"members": members[: wire.MAX_MEMBERS], "unseen": ()}
        self._payload: tuple[int, bytes] = (-1, b"")
        self._key = 0

    def _slot(self, bucket: BucketCore) -> int:
        names = [row[0] for row in self.tables.definitions]
        return names.index(bucket.name_hash)

    # ---- time ----

    def advance(self, seconds: float) -> None:
        """Plays rounds of the peers, and ticks and takes of the node, in the order of time."""
        until, step = self.now + round(seconds * NS), INTERVAL_NS // 10
        while self.now < until:
            self.now += step
            self.table.set_time(self.now)
            self._take(step)
            while self._due and self._due[0][0] <= self.now:
                at, number = heapq.heappop(self._due)
                heapq.heappush(self._due, (at + INTERVAL_NS, number))
                self._receive(self.peers[number])
            while self.node.next_tick(self.now) <= self.now:
                self._sent(self.cpu.around(self.node.tick)(self.now))

    def _take(self, step: int) -> None:
        if self.load == "hot":
            calls = 2 * HOT.refill_rate * step // NS
            mine = calls // (self.linked + 1) + (
                self.random.random() < calls % (self.linked + 1) / (self.linked + 1)
            )
            if mine:
                self.taken += self.hot.take_burst("hot", mine)
        elif self.load == "changing":
            for _ in range(CHANGING * step // NS):
                self._key += 1
                if self._key % (self.linked + 1) == 0:
                    self.many.take(f"user:{self._key}")

    # ---- frames ----

    def _receive(self, peer: Peer) -> None:
        while peer.on_way and peer.on_way[0][0] <= self.now - 2 * ONE_WAY_NS:
            peer.echo, peer.arrived = peer.on_way.popleft()
        peer.seq += 1
        peer.rounds += 1
        payload = self._payload_of(peer)
        tables = self.tables if payload and not peer.sent_tables else None
        peer.sent_tables |= bool(payload)
        frame = wire.Frame(
            epoch=peer.epoch,
            to_epoch=self.table.epochs.running,
            seq=peer.seq,
            sent=self.now - ONE_WAY_NS,
            echo=peer.echo,
            hold=0 if peer.echo is None else self.now - 2 * ONE_WAY_NS - peer.echo,
            ack=peer.arrived,
            ack_bits=ALL_BITS,
            round=peer.rounds,
            parts=1,
            tables_version=1 if payload else 0,
            tables=tables,
            payload=payload,
            **(self.news if (peer.rounds + peer.place) % NEWS_ROUNDS == 0 else {}),
        )
        data = wire.encode(frame)
        self._sent(self.cpu.around(self.node.receive)(peer.name, data, self.now))

    def _payload_of(self, peer: Peer) -> bytes:
        if self.load == "hot":
            return self.hot_entry()
        if self.load == "changing":
            count = CHANGING // 10 // (self.linked + 1)
            spare = CHANGING / 10 / (self.linked + 1) - count
            return b"".join(
                self._new_key(peer) for _ in range(count + (self.random.random() < spare))
            )
        return b""

    def hot_entry(self) -> bytes:
        """The hot key as every peer has it in this round: all have taken the same."""
        turn, members = (self.now - START_NS) // INTERVAL_NS, self.linked + 1
        if self._payload[0] != turn:
            each = OLD + HOT.refill_rate * (turn + 1) // 10 // members
            columns = [(place, 1, each, 0) for place in range(self.linked)]
            if self.taken:
                columns.append((self.linked, 1, self.taken, 0))
            entry = Entry(*self.hot.hash("hot"), self.hot_slot, DEBT_NS, tuple(columns))
            self._payload = (turn, rated(entry, 2 * HOT.refill_rate / members))
        return self._payload[1]

    def _new_key(self, peer: Peer) -> bytes:
        lo, hi = self.random.getrandbits(64), self.random.getrandbits(64)
        place = peer.place - 1
        return rated(Entry(lo, hi, self.many_slot, 10_000, ((place, 1, 1, 0),)), 1.0)

    def _sent(self, frames: Sequence[tuple[str, bytes]]) -> None:
        for name, data in frames:
            self.frames_sent += 1
            self.bytes_sent += len(data)
            self.largest = max(self.largest, len(data))
            self.by_name[name].on_way.append((self.now, self.node.links[name].seq))


def columns_kept(nodes: int, keys: int, max_keys: int) -> tuple[float, float]:
    """Of `keys` keys with a column of every node: bytes of the table a key, without its share of
    the index, and columns that are kept."""
    table = Table(max_keys=max_keys, hash_key=bytes(16), virtual=True, epoch=2**63 + 1)
    BucketCore(table, HOT)
    origins = array("H", (table.epochs.origin(i + 1, i + 1) for i in range(nodes)))
    columns = tuple((place, 1, OLD, 0) for place in range(nodes))
    before, definitions, kept = table.stats()["bytes"], [(0, True, *HOT.emission)], 0
    for key in range(keys):
        payload = write(Entry(key, key << 54, 0, DEBT_NS, columns))
        merged = table.inbox.merge(
            payload, definitions, origins, node=1, epoch=1, at=0, newer=False
        )
        kept += nodes - merged.dropped
    return (table.stats()["bytes"] - before) / keys, kept / keys
