"""The errors of the simulator for scenarios, settings and traces that it cannot use."""

from __future__ import annotations

from crdtbucket.errors import CrdtbucketError


class SimulationError(CrdtbucketError, ValueError):
    """A scenario, a setting or a rule cannot be used; the message names the fix."""


class TraceError(SimulationError):
    """A trace cannot be read; `line` counts from 1 and is 0 where no single line is at fault."""

    def __init__(self, source: str, line: int, message: str) -> None:
        super().__init__(f"{source}:{line}: {message}" if line else f"{source}: {message}")
        self.source = source
        self.line = line
