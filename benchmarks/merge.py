"""What does it cost to merge an entry into a large table, against what the machine allows?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from operator import itemgetter

from benchmarks.measure import Case, Comparison, Scale, copied, stopwatch
from benchmarks.tables import filled

QUESTION = "what does one merged entry cost, at random places of a large table?"
REGIONS = 5
LINE = 64


def random_lines(count: int, places: list[int]) -> Callable[[], tuple[float, ...]]:
    """Ns for one cache line that is written at a random place: `itemgetter` counts a reference."""
    objects = [bytes(LINE) for _ in range(count)]
    pick = itemgetter(*places)

    def run() -> tuple[float, ...]:
        with stopwatch() as elapsed:
            pick(objects)
            return (elapsed() / len(places),)

    return run


class Exchange:
    """A sender that changes random keys, and a receiver that holds them all."""

    def __init__(self, keys: list[str], asked: int, regions: int = REGIONS) -> None:
        self.sender, self.receiver = (filled(region, keys, regions) for region in (0, 1))
        self.keys, self.asked = keys, asked
        self.random = random.Random(1)

    def changed(self) -> list[tuple[bytes, int]]:
        """Frames of random keys, one column of each raised since the receiver heard of it."""
        self.sender.take(self.random.sample(self.keys, self.asked))
        frames = list(self.sender.frames(self.sender.acknowledged))
        self.sender.acknowledge()
        return frames

    def merge(self, frames: list[tuple[bytes, int]]) -> float:
        """Ns an entry."""
        hear, sender, merged = self.receiver.hear, self.sender, 0
        with stopwatch() as elapsed:
            for frame, _ in frames:
                merged += hear(sender, frame).merged
            spent = elapsed()
        if merged != self.asked:
            raise AssertionError(f"{merged} of {self.asked} entries were merged")
        return spent / merged


def comparisons(scale: Scale) -> Iterator[Comparison]:
    """Copying the bytes, touching a line an entry, merging known and changed entries."""
    count = scale.pick(1_000_000, 200_000, 500)
    asked = scale.pick(200_000, 50_000, 200)
    mesh = Exchange([f"user:{i}" for i in range(count)], asked)
    shown = mesh.changed()
    mesh.merge(shown)
    size = sum(len(frame) for frame, _ in shown)

    def copy() -> tuple[float, ...]:
        return (copied([frame for frame, _ in shown]) / asked,)

    places = [mesh.random.randrange(count) for _ in range(asked)]
    yield Comparison(
        f"{count:,} keys of {REGIONS} regions, {asked:,} of them in random order",
        ("ns an entry",),
        [
            Case("floor: one random cache line written", random_lines(count, places)),
            Case("floor: the frames' bytes copied", copy),
            Case("merge, nothing new", lambda: (mesh.merge(shown),)),
            Case("merge, one column higher", lambda: (mesh.merge(mesh.changed()),)),
        ],
        note=f"an entry has {size / asked:.0f} bytes and all {REGIONS} columns; the whole call is "
        "timed, parsing included",
    )
