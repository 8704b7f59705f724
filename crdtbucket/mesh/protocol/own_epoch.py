"""Decides whether to believe a peer that knows higher counts of the running epoch than this process
has.

This happens when an image of the machine was reverted: then each peer reports it, once, and the
process goes on under a new epoch. A report by half of the peers or fewer is not believed, and no
report is believed again within a minute, since each new epoch needs a place at every node.
"""

from __future__ import annotations

from collections.abc import Mapping

from crdtbucket.mesh.protocol.peer_state import NEVER, PeerState
from crdtbucket.mesh.protocol.peer_warnings import BoundedPeers

AGREE_NS = 60_000_000_000
"""Peers that report it within this time (ns) agree."""
GAP_NS = 60_000_000_000
"""Time (ns) in which peers are not believed again."""


class OwnEpoch:
    """Decides whether to believe the peers that know higher counts of the running epoch. Times are
    local ns."""

    def __init__(self, links: Mapping[str, PeerState], bounded: BoundedPeers) -> None:
        self._links, self._bounded = links, bounded
        self._said: dict[str, int] = {}
        """When each peer last reported it."""
        self._believed = NEVER

    def believed(self, peer: str, now: int) -> bool:
        """A peer reports it now. Returns whether to open a new epoch: whether more than half of the
        connected peers agree."""
        self._said[peer] = now
        connected = {name for name, link in self._links.items() if link.connected}
        self._said = {
            name: at
            for name, at in self._said.items()
            if name in connected and now - at <= AGREE_NS
        }
        agreed = 2 * len(self._said) > len(connected)
        if agreed and now - self._believed >= GAP_NS:
            self._believed, self._said = now, {}
            return True
        self._bounded.count(
            peer,
            "own_epoch",
            1,
            now,
            "advertises more takes of this very process than it has made; that is ignored, since "
            "too few other peers say so, or peers were believed a moment ago",
        )
        return False
