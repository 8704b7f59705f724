"""One node of the mesh as an observer sees it over an authenticated channel: a frame out, its
answer back. Reads its entries, and sends it others."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import within
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.channel import Channel, ChannelLost
from crdtbucket.mesh.links.link import describe_bye
from crdtbucket.mesh.links.node_key import fingerprint_of
from crdtbucket.mesh.links.session import Handshake, HandshakeError, Kind
from crdtbucket.mesh.protocol import entries, wire
from crdtbucket.reconcile.buckets import BucketIndex, KeyUpdate, Place, ReconciledBucket
from crdtbucket.reconcile.merging import HeldKey, Owner

T = TypeVar("T")
OBSERVER = 1
"""The epoch in an observer's frames, which is not read, since an observer has no counts."""
LAST = 2**64 - 1
WANTED = 1024
"""Hashes that are asked for in one frame."""
ENTRY_BYTES, COLUMN_BYTES = 40, 23
"""Most bytes of an entry beside its columns, and of each column."""
MOST_OWNERS = 128
"""Processes named in one frame, so that its header stays small."""
_HASH = struct.Struct("<QQ")


class ObservationFailed(MeshError):
    """A node did not answer, or not as it should; it is not asked again in this run."""


async def answered(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` with a node returns. Raises `ObservationFailed`, also where it takes longer."""
    try:
        return await within(seconds, work)
    except asyncio.TimeoutError as error:
        raise ObservationFailed(f"no answer within {seconds:g} s") from error
    except (ChannelLost, WireError, HandshakeError) as error:
        raise ObservationFailed(str(error)) from error


@dataclass
class RangeAnswer:
    """The content of one answer: keys by their hashes, and the last hash (high half) that it
    covers."""

    keys: dict[Place, tuple[ReconciledBucket, HeldKey]]
    upto: int
    unknown: int = 0
    """Keys of buckets that the file does not define."""


class MergeOutcome(NamedTuple):
    """The result of sending entries to a node: how many it took and refused."""

    merged: int
    refused: int
    """Columns that rose faster than the limit allows, and were not believed."""
    dropped: int
    """Entries, or columns of them, for which there was no room, and keys that owe something and
    were evicted for them."""


@dataclass
class ObservedNode:
    """A node of the mesh whose entries an observer reads and corrects."""

    address: str
    name: str
    epoch: int
    """The epoch of the running process, as the node said last."""
    channel: Channel
    shake: Handshake
    buckets: BucketIndex
    timeout: float
    """Seconds within which it answers."""
    members: dict[str, str] = field(default_factory=dict, init=False)
    """Addresses by name of the members that it knows, itself among them."""
    tombstones: set[int] = field(default_factory=set, init=False)
    """Epochs whose columns count no more, here."""
    config: wire.Config | None = field(default=None, init=False)
    """Which configuration it runs: its version, its hash, and the stage of its roll-out."""
    clock: int = field(default=0, init=False)
    """The clock of the node (ns) when it sent its last answer."""
    _seq: int = field(default=0, init=False)

    @property
    def instance(self) -> int:
        """A number of its process, which no other process has."""
        return self.shake.peer_instance

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key that the node has proved; empty without one."""
        key = self.shake.peer_key
        return fingerprint_of(key) if self.shake.signed and key is not None else ""

    async def ask(self, **values: Any) -> wire.Frame:
        """The answer to a frame. Raises `ObservationFailed`."""
        return await answered(self.timeout, self._ask(values))

    async def _ask(self, values: dict[str, Any]) -> wire.Frame:
        self._seq += 1
        asked = wire.Frame(
            epoch=OBSERVER, to_epoch=self.epoch, seq=self._seq, sent=now_ns(), **values
        )
        await self.channel.send(self.shake.session.seal(Kind.FRAME, wire.encode(asked)))
        while True:
            kind, body = self.shake.session.open(await self.channel.receive())
            if kind == Kind.BYE:
                raise ChannelLost(f"it says {describe_bye(body)}")
            frame = wire.decode(body)
            if frame.ack == self._seq:
                self.epoch = frame.epoch
                return frame

    async def look(self, first: int) -> RangeAnswer:
        """Reads the indebted keys of the node in the order of hashes from `first` on, as many as
        one answer has.

        Raises `ObservationFailed`.
        """
        seen = self._read(await self.ask(payload_kind=wire.RANGE, items=(first, LAST)))
        if seen.upto < first:
            raise ObservationFailed("its answer covers nothing of what was asked")
        return seen

    @property
    def owner(self) -> Owner:
        """The running process of the node, as the owner of columns."""
        return self.name, self.epoch

    async def have(self, places: Iterable[Place]) -> dict[Place, tuple[ReconciledBucket, HeldKey]]:
        """The ones of these keys that it holds, full ones too. Raises `ObservationFailed`."""
        wanted = sorted(places, key=lambda place: place[1])
        found: dict[Place, tuple[ReconciledBucket, HeldKey]] = {}
        while wanted:
            seen = await self._want(wanted[:WANTED])
            found |= seen.keys
            covered = min(seen.upto, wanted[:WANTED][-1][1])
            left = [place for place in wanted if place[1] > covered]
            if len(left) == len(wanted):
                raise ObservationFailed("its answers cover nothing of what was asked")
            wanted = left
        return found

    async def meet(self) -> None:
        """Asks which members it knows. Raises `ObservationFailed`."""
        await self._want([])

    async def _want(self, places: list[Place]) -> RangeAnswer:
        payload = b"".join(_HASH.pack(*place) for place in places)
        return self._read(await self.ask(payload_kind=wire.WANT, payload=payload))

    async def send(self, updates: Mapping[Place, KeyUpdate]) -> MergeOutcome:
        """Sends it these keys, each with its columns and the tokens owed.

        Raises `ObservationFailed`.
        """
        total = MergeOutcome(0, 0, 0)
        for payload, origins in self._frames(updates):
            tables = wire.AnnouncedTables(1, origins, self.buckets.definitions)
            answer = await self.ask(payload=payload, tables_version=1, tables=tables)
            if answer.merge_result is None:
                raise ObservationFailed("it did not say what it merged")
            total = MergeOutcome(*(a + b for a, b in zip(total, answer.merge_result, strict=True)))
        return total

    def _read(self, frame: wire.Frame) -> RangeAnswer:
        self.members |= {name: address for name, _, _, address in frame.members or ()}
        self.tombstones |= set(frame.tombstones or ())
        self.config, self.clock = frame.config, frame.sent
        if frame.items is None:
            raise ObservationFailed("it did not say what its answer covers")
        seen = RangeAnswer({}, frame.items[1])
        tables = frame.tables
        if not frame.payload or tables is None:
            return seen
        defined = [
            (bucket, bucket is not None and digest == bucket.spec.definition_hash, q, p)
            for name, digest, q, p in tables.definitions
            for bucket in (self.buckets.by_hash.get(name),)
        ]
        try:
            for one in entries.read(frame.payload, len(defined), len(tables.origins)):
                bucket, same, q, p = defined[one.definition]
                if bucket is None:
                    seen.unknown += 1
                    continue
                columns = {tables.origins[column[0]]: column[1:] for column in one.columns}
                held = HeldKey(columns, Fraction(one.debt_ns * p, q), same)
                seen.keys[one.lo, one.hi] = bucket, held
        except WireError as error:
            raise ObservationFailed(str(error)) from error
        return seen

    def _frames(self, updates: Mapping[Place, KeyUpdate]) -> Iterator[tuple[bytes, wire.Origins]]:
        """Entries in frames that hold neither too many bytes nor too many owners."""
        out = bytearray()
        owners: dict[Owner, int] = {}
        for place, (bucket, columns, owed) in updates.items():
            space = ENTRY_BYTES + COLUMN_BYTES * len(columns)
            crowded = len(owners.keys() | columns.keys()) > MOST_OWNERS
            if out and (crowded or len(out) + space > wire.MAX_OBSERVER_PAYLOAD):
                yield bytes(out), tuple(owners)
                out, owners = bytearray(), {}
            numbered = [
                (owners.setdefault(owner, len(owners)), *counts)
                for owner, counts in columns.items()
            ]
            entry = entries.Entry(
                *place, bucket.position, bucket.debt_ns(owed), tuple(sorted(numbered))
            )
            out += entries.write(entry)
        if out:
            yield bytes(out), tuple(owners)
