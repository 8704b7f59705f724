"""Counts the statements of peers that exceed a bound, and logs warnings about them."""

from __future__ import annotations

import logging
from collections import Counter

from crdtbucket.base.repeated_lines import RepeatedLines

LOG = logging.getLogger("crdtbucket.mesh")
REPEAT_NS = 600_000_000_000
"""A warning about the same peer and cause is logged again after this time, with the number that
came meanwhile."""
MOST_PEERS = 1_024
"""Most peers that are distinguished, since names may be invented; further ones count as
`OTHERS`."""
OTHERS = "(others)"


class BoundedPeers:
    """Counts which peers went beyond which bounds of the node `name`. Times are local ns."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines = RepeatedLines(REPEAT_NS)
        self._counts: dict[str, Counter[str]] = {}
        self._adopted: Counter[str] = Counter()

    def count(self, peer: str, bound: str, times: int, now: int, text: str = "") -> None:
        """The peer exceeded `bound` this many times. `text`, which is logged, says what the peer
        did and what follows; "" for a bound that honest peers exceed as well."""
        if not times:
            return
        known = peer in self._counts or len(self._counts) < MOST_PEERS
        self._counts.setdefault(peer if known else OTHERS, Counter())[bound] += times
        if text and (more := self._lines.add((peer, bound), now, times)) is not None:
            LOG.warning("%s: %s %s%s", self._name, peer, text, more)

    def count_adopted(self, peer: str, tokens: int) -> None:
        """Debts fell by so many tokens because the peer owes less."""
        if tokens:
            known = peer in self._adopted or len(self._adopted) < MOST_PEERS
            self._adopted[peer if known else OTHERS] += tokens

    def adopted(self) -> dict[str, int]:
        """The tokens by which debts fell because a peer owes less, by peer. Safe from any
        thread."""
        return dict(self._adopted)

    def counts(self) -> dict[str, dict[str, int]]:
        """How often each bound was exceeded, by peer and bound. Safe from any thread."""
        return {peer: dict(bounds) for peer, bounds in list(self._counts.items())}
