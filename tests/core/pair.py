"""Nodes of the core that exchange entries directly, without a protocol between them."""

from __future__ import annotations

from array import array
from typing import Any

from crdtbucket._core import BucketCore, Table
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.core.specs import virtual_table

NOWHERE = 0xFFFF
SIZE = 1 << 18
ORIGINS = 512


class Peer:
    """One node: its table, one bucket, and the number by which all nodes know it."""

    def __init__(self, number: int, spec: BucketSpec, max_keys: int = 64, **options: Any) -> None:
        self.number = number
        self.table = virtual_table(max_keys, **options)
        self.table.nodes.configure(predict=False)
        self.bucket = BucketCore(self.table, spec)
        self.epochs: dict[int, int] = {}
        """By epoch, the number of its owner, for every foreign epoch that was ever received
        here."""

    @property
    def epoch(self) -> int:
        epoch: int = self.table.epochs.running
        return epoch

    def node_of(self, number: int) -> int:
        """The number of a peer in this table; 0 is the node itself."""
        return 0 if number == self.number else number + 1

    def owners(self) -> dict[int, int]:
        """By epoch, the number of its owner, for all origins."""
        return {e: self.epochs.get(e, self.number) for _, _, e, _ in self.table.epochs.origins()}

    def announced(self) -> tuple[array[int], list[tuple[int, int]]]:
        """The places of the origin ids, and (owner, epoch) at each place."""
        positions = array("H", [NOWHERE]) * ORIGINS
        places: list[tuple[int, int]] = []
        owners = self.owners()
        for origin, _, epoch, marked in self.table.epochs.origins():
            if not marked:
                positions[origin] = len(places)
                places.append((owners[epoch], epoch))
        return positions, places

    def understood(self, places: list[tuple[int, int]]) -> array[int]:
        """The local origin ids at the sender's places."""
        for owner, epoch in places:
            if owner != self.number:
                self.epochs[epoch] = owner
        return array("H", [self.table.epochs.origin(self.node_of(o), e) for o, e in places])

    def definitions_for(self, other: Peer) -> list[tuple[int, int, int, int]]:
        """This node's definitions, by slot, as `other` understands them."""
        theirs = {
            name: (slot, digest) for slot, name, digest, _, _ in other.table.definitions.current()
        }
        candidates = other.table.definitions.candidates()
        out = []
        for name, digest, q, p in self.table.definitions.all():
            slot, same = theirs.get(name, (-1, 0))
            out.append((slot, (same == digest) + 2 * (candidates.get(name) == digest), q, p))
        return out

    def payload(self, after: int = 0) -> bytes:
        """All entries of the log above version `after`."""
        positions, _ = self.announced()
        data, covered, _ = self.table.outbox.encode_log(
            after, self.table.outbox.version, positions, SIZE
        )
        assert covered == self.table.outbox.version
        return bytes(data)

    def merge(self, sender: Peer, payload: bytes, **options: Any) -> Any:
        _, places = sender.announced()
        return self.table.inbox.merge(
            payload,
            sender.definitions_for(self),
            self.understood(places),
            node=self.node_of(sender.number),
            epoch=sender.epoch,
            **{"at": self.table.now(), **options},
        )


def send(sender: Peer, receiver: Peer, after: int = 0, **options: Any) -> Any:
    """Sends a round: the receiver merges everything above version `after` in the log of the
    sender."""
    sender.table.outbox.collect()
    payload = sender.payload(after)
    return receiver.merge(sender, payload, **options) if payload else None


def send_all(sender: Peer, receiver: Peer, **options: Any) -> Any:
    """Sends all entries in debt, as a node that joins gets them."""
    positions, _ = sender.announced()
    payload, _, _ = sender.table.outbox.encode_table(0, positions, SIZE)
    return receiver.merge(sender, bytes(payload), **options) if payload else None


def peers(count: int, spec: BucketSpec, **options: Any) -> list[Peer]:
    return [Peer(number, spec, **options) for number in range(count)]


def snapshot(table: Table, bucket: BucketCore, keys: list[str]) -> Any:
    """Everything that can be seen of a table and of these keys in it."""
    per_key = [(bucket.debt(k), bucket.columns(k)) for k in keys]
    stats = {k: v for k, v in table.stats().items() if k != "bytes"}
    return per_key, stats, bucket.counters(), table.epochs.origins(), len(table)
