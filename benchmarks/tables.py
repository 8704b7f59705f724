"""Tables of the core that exchange entries directly, without protocol or network between them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from benchmarks.peers import PLENTY
from crdtbucket._core import BucketCore, Merged, Table
from crdtbucket.shared.shared_file import SharedFile
from crdtbucket.shared.table_file import open_table
from crdtbucket.spec.bucket_spec import BucketSpec

NOWHERE = 0xFFFF
ORIGINS = 512
FRAME = 262_144
"""The most bytes of entries in one frame."""
SPEC = BucketSpec("bench", PLENTY, 1)
STEP_NS = 10_000_000
"""Time (ns) between two takes of a key, so that rates are measured and advertised."""
UNKNOWN = [(-1, False, 1, 1)]
"""Definitions as if the bucket of the frame were unknown to the receiver."""


def region_epoch(region: int) -> int:
    """The epoch under which a region counts, the same in every table."""
    return region + 1


class Side:
    """One region's table; its time moves by a step for each list of keys taken."""

    def __init__(
        self, region: int, max_keys: int, regions: int, max_names: int = 0, path: str | None = None
    ) -> None:
        """path: of a file that holds the table, as processes share one."""
        self.region = region
        options = {"max_keys": max(16, max_keys), "hash_key": bytes(16), "virtual": True}
        if path is None:
            epoch = region_epoch(region)
            self.table = Table(**options, max_names=max_names, epoch=epoch)
        else:
            self.table = open_table(SharedFile(path), **options, owner="bench")
            self.table.epochs.open(region_epoch(region))
        self.table.nodes.configure(predict=False)
        self.acknowledged = 0
        self.bucket = BucketCore(self.table, SPEC)
        # A place in a frame is a region; a table numbers itself 0 and the others from 1.
        self.ids = array("H")
        for other in range(regions):
            self.ids.append(self.table.epochs.origin(self.number(other), region_epoch(other)))
        self.places = array("H", [NOWHERE]) * ORIGINS
        for place, origin in enumerate(self.ids):
            self.places[origin] = place
        ((self.slot, _, _, q, p),) = self.table.definitions.current()
        self.known = [(self.slot, True, q, p)]

    def number(self, region: int) -> int:
        """The number of a region's node in this table."""
        return 0 if region == self.region else region + 1

    def take(self, keys: Sequence[str]) -> None:
        """Takes one token of each key, in order, and lists them for the next frames."""
        self.bucket.take_many(keys)
        self.table.set_time(self.table.now() + STEP_NS)
        self.table.outbox.collect()

    def frames(self, after: int) -> Iterator[tuple[bytes, int]]:
        """Frames of what changed since version `after`, in its order: (entries, how many) each."""
        newest = self.table.outbox.version
        while after < newest:
            data, after, count = self.table.outbox.encode_log(after, newest, self.places, FRAME)
            if count:
                yield data, count

    def acknowledge(self) -> None:
        """Notes that every peer has acknowledged all that changed so far."""
        self.acknowledged = self.table.outbox.version
        self.table.outbox.trim(self.acknowledged)

    def merge(
        self,
        sender: Side,
        frame: bytes,
        definitions: list[tuple[int, bool, int, int]] | None = None,
    ) -> Merged:
        """Merges a frame of another region. `definitions`: those by which the frame is read; by
        default those of this table."""
        return self.table.inbox.merge(
            frame,
            self.known if definitions is None else definitions,
            self.ids,
            node=self.number(sender.region),
            epoch=sender.table.epochs.running,
            at=self.table.now(),
        )


def exchange(sender: Side, receiver: Side, keys: Sequence[str]) -> None:
    """The sender takes from the keys, and the receiver merges that."""
    sender.take(keys)
    for frame, _ in sender.frames(sender.acknowledged):
        merged = receiver.merge(sender, frame)
        if merged.dropped or merged.refused_columns or merged.ignored:
            raise AssertionError(f"not all that was sent was kept: {merged[:6]}")
    sender.acknowledge()


def filled(region: int, keys: Sequence[str], regions: int, chunk: int = 50_000) -> Side:
    """A table in which every key has a column of each of `regions` regions."""
    side = Side(region, len(keys), regions)
    for start in range(0, len(keys), chunk):
        some = keys[start : start + chunk]
        for other in range(regions):
            if other != region:
                exchange(Side(other, len(some), regions), side, some)
        side.take(some)
        side.acknowledge()
    return side
