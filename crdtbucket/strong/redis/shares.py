"""Shares of every limit that single processes grant while Redis is unreachable."""

from __future__ import annotations

from dataclasses import dataclass

NOTHING = 2**62
"""A number of processes so large that no share is left for each."""


@dataclass(frozen=True)
class WantedShare:
    """The share of every limit that a process would grant while Redis is unreachable."""

    ratio: float = 0.1
    """The share that its settings give it."""
    fleet: bool = False
    """Whether that is the share of all processes together."""
    least: int = 1
    """The least number of processes that it assumes."""
    group: int = 0
    """A number for the processes that grant one share together, as they share a table of quotas; 0:
    this process alone."""


@dataclass(frozen=True, slots=True)
class Division:
    """Among how many nodes every limit is divided while Redis is unreachable."""

    nodes: int
    """How many the share of this node has to be small enough for."""
    usual: int
    """The number without the doubt of a newcomer: less than `nodes` while others may still have its
    share, and else the same."""

    @property
    def doubted(self) -> bool:
        """Whether this node is in the doubt of a newcomer."""
        return self.nodes > self.usual


ALONE = Division(1, 1)
"""The division of a node that is the only one."""
