"""Reads the report of a node about the last snapshot in its `mesh.state_dir`, and says what is
wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crdtbucket.cli.terminal_text import seconds

LATE_S = 60.0
"""A node saves a snapshot every ten seconds: this is late, on a disk that is very slow, too."""
LOST = "and a restart loses what was taken since"


@dataclass(frozen=True)
class SnapshotReport:
    """The last snapshot of a node; `age` in seconds, None where it keeps none."""

    age: float | None = None
    fault: str = ""
    """Why a newer one could not be written; "" where none failed."""

    def faults(self, node: str) -> Iterator[str]:
        """What is wrong, as a sentence."""
        if self.age is None:
            return
        if self.fault:
            yield (
                f"{node}: no snapshot is kept: {self.fault}; the last one is {seconds(self.age)} "
                f"old, {LOST}. Make room, or give this node its state_dir back: it tries again "
                "every 10 s"
            )
        elif self.age > LATE_S:
            yield f"{node}: its last snapshot is {seconds(self.age)} old, {LOST}: its log says why"
