"""What does it cost to merge an entry into a large table, against what the machine allows?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from benchmarks.measure import Case, Comparison, Scale, copied, stopwatch
from benchmarks.tables import UNKNOWN, filled
from crdtbucket.errors import WireError

QUESTION = "what does one merged entry cost, at random places of a large table?"
ENTRY_LINES = 4
"""Cache lines that a table has for an entry, its place in the index left out."""


def random_lines(count: int, places: list[int]) -> Callable[[], tuple[float, ...]]:
    """Measures the ns to read one cache line at a random place, in as much memory as `count`
    entries have.

    No read waits for another, so the processor has as many under way as it can.
    """
    lines = np.ones((count * ENTRY_LINES, 8), dtype=np.uint64)
    at = np.array(places) * ENTRY_LINES
    read = np.ones((len(places), 8), dtype=np.uint64)

    def run() -> tuple[float, ...]:
        with stopwatch() as elapsed:
            np.take(lines, at, axis=0, out=read, mode="clip")
            return (elapsed() / len(places),)

    return run


class Exchange:
    """A sender that changes random keys, and a receiver that holds them all."""

    def __init__(self, keys: list[str], asked: int, regions: int) -> None:
        self.sender, self.receiver = (filled(region, keys, regions) for region in (0, 1))
        self.keys, self.asked = keys, asked
        self.random = random.Random(1)

    def changed(self) -> list[tuple[bytes, int]]:
        """Frames of random keys, each with one column that has risen since the receiver merged
        it."""
        self.sender.take(self.random.sample(self.keys, self.asked))
        frames = list(self.sender.frames(self.sender.acknowledged))
        self.sender.acknowledge()
        return frames

    def merge(self, frames: list[tuple[bytes, int]]) -> float:
        """Ns to merge an entry."""
        merge, sender, merged = self.receiver.merge, self.sender, 0
        with stopwatch() as elapsed:
            for frame, _ in frames:
                merged += merge(sender, frame).merged
            spent = elapsed()
        if merged != self.asked:
            raise AssertionError(f"{merged} of {self.asked} entries were merged")
        return spent / merged

    def find(self, frames: list[tuple[bytes, int]]) -> float:
        """Ns to find an entry: it is looked up and its memory fetched before its bucket turns out
        to be unknown."""
        merge, sender, found = self.receiver.merge, self.sender, 0
        with stopwatch() as elapsed:
            for frame, _ in frames:
                found += merge(sender, frame, UNKNOWN).unknown_bucket
            spent = elapsed()
        return spent / found

    def read(self, frames: list[tuple[bytes, int]]) -> float:
        """Ns to read an entry: all are read and checked, but the last one is cut short, so none is
        merged."""
        merge, sender = self.receiver.merge, self.sender
        cut = [frame[:-1] for frame, _ in frames]
        with stopwatch() as elapsed:
            for frame in cut:
                with suppress(WireError):
                    merge(sender, frame)
            return elapsed() / self.asked


def _comparison(count: int, asked: int, regions: int) -> Comparison:
    mesh = Exchange([f"user:{i}" for i in range(count)], asked, regions)
    shown = mesh.changed()
    mesh.merge(shown)
    frames, size = [frame for frame, _ in shown], sum(len(frame) for frame, _ in shown)
    places = [mesh.random.randrange(count) for _ in range(asked)]
    return Comparison(
        f"{count:,} keys of {regions} regions, {asked:,} of them in random order",
        ("ns an entry",),
        [
            Case("floor: one cache line read at random", random_lines(count, places)),
            Case("floor: the frames' bytes copied", lambda: (copied(frames) / asked,)),
            Case("merge, one column higher", lambda: (mesh.merge(mesh.changed()),)),
            Case("merge, nothing new", lambda: (mesh.merge(shown),)),
            Case("of it: read and check the frame", lambda: (mesh.read(shown),)),
            Case("of it: read, find and fetch the entries", lambda: (mesh.find(shown),)),
        ],
        note=f"an entry has {size / asked:.0f} bytes and all {regions} columns; it lies on up to "
        "six cache lines: the place in the index, one that takes touch, four of columns and rates",
    )


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Yields keys with the columns of five regions, and many more with those of two."""
    asked = scale.pick(200_000, 50_000, 200)
    yield _comparison(scale.pick(1_000_000, 200_000, 500), asked, 5)
    yield _comparison(scale.pick(10_000_000, 300_000, 600), asked, 2)
