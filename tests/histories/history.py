"""What happened in a run: calls as their callers saw them, processes, faults, and reads.

Times are seconds since the run began, by the clock of the process that drives it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ADMITTED, DENIED, INDETERMINATE = "admitted", "denied", "indeterminate"
RUNNING, KILLED, CLOSED = "running", "killed", "closed"
CUT_OFF = "closed while it was cut off"
WIDE, TIGHT = "wide", "tight"


@dataclass
class Call:
    """One take. Until it is answered it is indeterminate, for ever if its process ends first."""

    node: int
    epoch: str
    """The epoch of the process that decided; until then of the one that was asked."""
    bucket: str
    key: str
    cost: int
    begin: float
    end: float | None = None
    outcome: str = INDETERMINATE


@dataclass
class Life:
    """One process of a node."""

    node: int
    epoch: str
    begin: float
    end: float | None = None
    how: str = RUNNING
    rebooted: bool = False
    """Whether it began with another clock than the process before."""


@dataclass
class Fault:
    """A fault of the nodes or of the network between them."""

    what: str
    begin: float
    end: float | None = None


@dataclass
class Read:
    """What one node counts of the wide keys, in one look."""

    node: int
    at: float
    columns: dict[str, dict[str, int]]
    """The tokens taken, by key and epoch."""
    debts: dict[str, float]
    """By key, the tokens that are missing until it is full."""


@dataclass
class Pause:
    """The faults are over and no calls are made: what all nodes count, in the order of the
    nodes."""

    healed: float
    served: float | None
    """When every node was linked with every other; None when that did not happen in time."""
    agreed: float | None
    """When all nodes had the same columns; None when they had not in time."""
    reads: list[Read]
    resumed: float | None = None
    """When the calls went on; None after the last pause."""


@dataclass(frozen=True)
class Limits:
    """The definitions of the two buckets."""

    wide_refill_per_second: float
    """The refill of the wide bucket, which has room for all that a run takes."""
    tight_capacity: int
    tight_refill_per_second: float


@dataclass
class History:
    """Everything that the checker may know."""

    nodes: int
    limits: Limits
    calls: list[Call] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    """The reads between the pauses."""
    pauses: list[Pause] = field(default_factory=list)

    def save(self, path: Path, **more: Any) -> None:
        """Writes the history as JSON, with what else belongs to the run."""
        path.write_text(json.dumps({**more, "history": dataclasses.asdict(self)}) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """Reads what `save` wrote."""
        raw = json.loads(path.read_text())["history"]
        pauses = [
            Pause(**{**one, "reads": [Read(**read) for read in one["reads"]]})
            for one in raw["pauses"]
        ]
        return cls(
            nodes=raw["nodes"],
            limits=Limits(**raw["limits"]),
            calls=[Call(**one) for one in raw["calls"]],
            lives=[Life(**one) for one in raw["lives"]],
            faults=[Fault(**one) for one in raw["faults"]],
            reads=[Read(**one) for one in raw["reads"]],
            pauses=pauses,
        )


@dataclass(frozen=True, order=True)
class Finding:
    """One rule that a history breaks, with the smallest evidence that shows it."""

    rule: str
    size: float
    """Tokens or seconds. Of several findings of one rule the smallest is reported."""
    evidence: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.evidence}"
