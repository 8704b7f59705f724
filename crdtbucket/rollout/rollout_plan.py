"""The plan of a roll-out: its stages, and what makes it go on and halt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from crdtbucket.base.setting_checks import RATIO, WholeRange

EVERYWHERE = 100
MAX_STAGES = 100


@dataclass(frozen=True)
class Stage:
    """The whole reach of a version at one stage, that of the stages before included."""

    regions: tuple[str, ...] = ()
    """The regions that it reaches; all, if left out."""
    percent: Annotated[int, WholeRange(1, EVERYWHERE)] = EVERYWHERE
    """The share of the keys there, chosen by their hashes: the same ones on all nodes."""

    def percent_in(self, region: str) -> int:
        """The share of the keys that it reaches in a region, in percent."""
        return self.percent if not self.regions or region in self.regions else 0

    def __str__(self) -> str:
        keys = "all keys" if self.percent == EVERYWHERE else f"{self.percent}% of the keys"
        return f"{keys} in {', '.join(self.regions) if self.regions else 'all regions'}"


@dataclass(frozen=True)
class RolloutPlan:
    """The stages of a new version, and what makes it go on and halt."""

    stages: tuple[Stage, ...]
    """How far the version reaches, stage by stage."""
    hold_ns: int | None = None
    """How long a stage lasts; if left out, until a command ends it."""
    denied_ratio_rise: Annotated[float, RATIO] | None = None
    """By how much the share of calls that the new version denies may exceed that of the old one
    before the roll-out halts; if left out, it never halts by itself."""
