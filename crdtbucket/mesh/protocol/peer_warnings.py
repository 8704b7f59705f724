"""Warnings about peers that do not flood the log: one a peer and cause, repeats summed up. What a
peer stated beyond a bound is also counted."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

LOG = logging.getLogger("crdtbucket.mesh")
REPEAT_NS = 600_000_000_000
"""A warning about the same peer and cause is logged again after this, with what came meanwhile."""
MOST = 4_096
"""Most peers and causes that are distinguished; beyond that the oldest are forgotten."""
MOST_PEERS = 1_024
"""Most peers that are distinguished, since names may be invented; further ones count as
`OTHERS`."""
OTHERS = "(others)"


@dataclass
class _Logged:
    at: int
    unsaid: int = 0
    said: object = None


class PeerWarnings:
    """The warnings of one node about its peers. Times are ns of one clock."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, object], _Logged] = {}

    def repeated(self, peer: str, cause: str, now: int, count: int, text: str) -> None:
        """Logs `text` about a peer, at once and then every ten minutes at most; `count`: how many
        times it happened, which the next line sums up."""
        known = self._logged.get((peer, cause))
        if known is not None and now - known.at < REPEAT_NS:
            known.unsaid += count
            return
        before = known.unsaid if known is not None else 0
        self._keep((peer, cause), _Logged(now))
        more = f" ({before} more since the last such line)" if before else ""
        LOG.warning("%s%s", text, more)

    def changed(self, peer: str, about: object, what: object, text: str) -> None:
        """Logs `text`, unless `what` was logged last about this peer and `about`."""
        known = self._logged.get((peer, about))
        if known is None or known.said != what:
            self._keep((peer, about), _Logged(0, said=what))
            LOG.warning("%s", text)

    def _keep(self, key: tuple[str, object], logged: _Logged) -> None:
        self._logged.pop(key, None)
        while len(self._logged) >= MOST:
            del self._logged[next(iter(self._logged))]
        self._logged[key] = logged


class BoundedPeers:
    """Counts which peers went beyond which bounds of the node `name`. Times are local ns."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._warnings = PeerWarnings()
        self._counts: dict[str, Counter[str]] = {}
        self._adopted: Counter[str] = Counter()

    def count(self, peer: str, bound: str, times: int, now: int, text: str = "") -> None:
        """The peer went beyond `bound` so many times; `text`: what it did, and what follows, which
        is logged; "" for what honest peers do as well."""
        if not times:
            return
        known = peer in self._counts or len(self._counts) < MOST_PEERS
        self._counts.setdefault(peer if known else OTHERS, Counter())[bound] += times
        if text:
            self._warnings.repeated(peer, bound, now, times, f"{self._name}: {peer} {text}")

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
