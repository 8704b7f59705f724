"""What does it cost to write and to read an entry?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress

import msgpack

from benchmarks.measure import Case, Comparison, Scale, copied, stopwatch
from benchmarks.tables import Side, filled
from crdtbucket.errors import WireError

QUESTION = "what do writing and reading an entry of the wire cost?"


def _comparison(keys: list[str], regions: int) -> Comparison:
    """Writing and reading entries with a column of each region, beside msgpack of Python rows."""
    sender, receiver = filled(0, keys, regions), Side(regions - 1, 1000, regions)
    before = sender.acknowledged
    sender.take(random.Random(1).sample(keys, len(keys)))
    frames = list(sender.frames(before))
    count, size = sum(n for _, n in frames), sum(len(frame) for frame, _ in frames)
    columns = [[place, 1, 1] for place in range(regions)]
    rows = [[bytes(16), 0, 0, 1_000_000, 1000, 1000, columns] for _ in range(count)]
    packed = msgpack.packb(rows)

    def both(ns: float, total: int, all_bytes: int) -> tuple[float, ...]:
        """(Ns an entry, bytes a ns); the second is GB a second."""
        return ns / total, all_bytes / ns

    def copy() -> tuple[float, ...]:
        return both(copied([frame for frame, _ in frames]), count, size)

    def encode() -> tuple[float, ...]:
        with stopwatch() as elapsed:
            total = sum(n for _, n in sender.frames(before))
            return both(elapsed(), total, size)

    cut = [frame[:-1] for frame, _ in frames]

    def decode() -> tuple[float, ...]:
        with stopwatch() as elapsed:
            for frame in cut:
                with suppress(WireError):
                    receiver.merge(sender, frame)
            return both(elapsed(), count, size)

    def pack() -> tuple[float, ...]:
        with stopwatch() as elapsed:
            msgpack.packb(rows)
            return both(elapsed(), count, len(packed))

    def unpack() -> tuple[float, ...]:
        with stopwatch() as elapsed:
            msgpack.unpackb(packed)
            return both(elapsed(), count, len(packed))

    return Comparison(
        f"entries with {regions} column{'s' * (regions > 1)}, {size / count:.1f} bytes each",
        ("ns an entry", "GB/s of the wire"),
        [
            Case("floor: the frames' bytes copied", copy),
            Case("msgpack: pack rows of Python objects", pack),
            Case("msgpack: unpack them", unpack),
            Case("encode from the table", encode),
            Case("decode: read and check, all but the last byte", decode),
        ],
        note=f"the same in msgpack takes {len(packed) / count:.1f} bytes; entries are encoded out "
        f"of a table of {count:,} keys, in its order, as in a round. A frame that is cut off is "
        "read to its end and refused, so nothing is merged",
    )


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields entries with the columns of one region, and of five."""
    keys = [f"user:{i}" for i in range(scale.pick(100_000, 50_000, 300))]
    for regions in (1, 5):
        yield _comparison(keys, regions)
