"""Counts and logs, by peer and bound, what peers stated beyond a bound."""

from __future__ import annotations

from collections import Counter

from crdtbucket.mesh.protocol.peer_warnings import PeerWarnings

MOST_PEERS = 1_024
"""So many are told apart, as names may be invented; what others do counts for `OTHERS`."""
OTHERS = "(others)"


class BoundedPeers:
    """Counts which peers went beyond which bounds of the node `name`. Times are local ns."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._warnings = PeerWarnings()
        self._counts: dict[str, Counter[str]] = {}

    def count(self, peer: str, bound: str, times: int, now: int, text: str) -> None:
        """The peer went beyond `bound` so many times; `text`: what it did, and what follows."""
        if not times:
            return
        known = peer in self._counts or len(self._counts) < MOST_PEERS
        self._counts.setdefault(peer if known else OTHERS, Counter())[bound] += times
        self._warnings.repeated(peer, bound, now, times, f"{self._name}: {peer} {text}")

    def counts(self) -> dict[str, dict[str, int]]:
        """By peer and bound; any thread may ask."""
        return {peer: dict(bounds) for peer, bounds in list(self._counts.items())}
