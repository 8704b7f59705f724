"""Records how the connection to a peer ended, and the dials to it since then."""

from __future__ import annotations

from dataclasses import dataclass

RECENT_NS = 10_000_000_000
"""The newest refused dial may be this old: dials are at most 5 s apart, and each may take 3 s."""


@dataclass
class EndedConnection:
    """A connection that the peer's side ended, and the dials to the peer since. Times are local
    ns."""

    since: int
    """When it ended, or when a later dial was not refused."""
    refused: int | None = None
    """When the newest dial since then was refused; None for none."""
    replaced: bool = False
    """Whether a newcomer has taken the place of this peer."""

    def dialed(self, now: int, *, refused: bool) -> None:
        """A dial has failed: it was refused, or nobody answered it in time."""
        if refused:
            self.refused = now
        else:
            self.since, self.refused = now, None

    def refused_for(self, period: int, now: int) -> bool:
        """Whether all dials of the last `period` ns were refused, and one of them was recent."""
        if self.refused is None:
            return False
        return now - self.since >= period and now - self.refused <= RECENT_NS
