"""Keeps which of the frames sent to a peer it has acknowledged, and which of its own have
arrived."""

from __future__ import annotations

from dataclasses import dataclass

from crdtbucket.mesh.protocol import wire


class VersionRanges:
    """Versions of changes that a peer has acknowledged: all up to `prefix`, and ranges above it."""

    def __init__(self, prefix: int = 0) -> None:
        self.prefix = prefix
        self._above: list[tuple[int, int]] = []

    def add(self, after: int, upto: int) -> None:
        """Adds the versions above `after`, up to `upto`."""
        if upto <= self.prefix or upto <= after:
            return
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*self._above, (after, upto)]):
            if low <= self.prefix:
                self.prefix = max(self.prefix, high)
            elif merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        self._above = merged

    def gaps(self, head: int) -> list[tuple[int, int]]:
        """(after, upto) of each range that is not acknowledged, up to the version `head`."""
        out, low = [], self.prefix
        for start, end in self._above:
            out.append((low, start))
            low = end
        if low < head:
            out.append((low, head))
        return out


@dataclass(slots=True)
class Sent:
    """The content of a frame that was sent: what the peer has when it acknowledges the frame."""

    after: int = 0
    upto: int = 0
    """The frame carried the changes with versions above `after`, up to `upto`."""
    tables_version: int = 0
    """The version of the tables in it, 0 for none."""
    sync_from: int = -1
    """The place from which its chunk of a full sync began, -1 for none."""
    updates: int = 0
    """The number of the member updates in it, 0 for none."""


NOTHING = Sent()
WINDOW = 2**wire.ACK_BITS - 1


@dataclass(slots=True)
class Received:
    """The sequence numbers that have arrived from a peer: the highest, and a window below it."""

    highest: int = 0
    bits: int = 0
    """Bit 0 stands for the number below the highest."""

    def seen(self, seq: int) -> bool:
        """Whether the frame with this number has arrived; False for one below the window."""
        below = self.highest - seq
        return below == 0 or (0 < below <= wire.ACK_BITS and bool(self.bits >> (below - 1) & 1))

    def add(self, seq: int) -> None:
        """The frame with this number has arrived."""
        below = self.highest - seq
        if below < -wire.ACK_BITS or not self.highest:  # a peer may skip 2^62 numbers
            self.highest, self.bits = max(self.highest, seq), 0
        elif below < 0:
            self.bits = ((self.bits << 1 | 1) << (-below - 1)) & WINDOW
            self.highest = seq
        elif 0 < below <= wire.ACK_BITS:
            self.bits |= 1 << (below - 1)
