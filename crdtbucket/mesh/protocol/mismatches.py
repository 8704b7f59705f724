"""Warns of buckets that a peer defines differently: once for each difference, in plain words."""

from __future__ import annotations

from crdtbucket._core import TableDefinitions
from crdtbucket.mesh.protocol.peer_warnings import PeerWarnings
from crdtbucket.mesh.protocol.roster import ResolvedTables

LASTS_NS = 5_000_000_000
"""A difference that lasts for so long is logged. While all nodes are reloaded, frames on their
way and keys that were not touched since are still under a definition that was replaced."""
MOST = 4_096
"""So many differences are distinguished; beyond that the oldest are forgotten."""


class Mismatches:
    """Compares the definitions under which a peer states its keys with those of a table."""

    def __init__(self, definitions: TableDefinitions, name: str, warnings: PeerWarnings) -> None:
        """`name`: of this node."""
        self._definitions = definitions
        self._name = name
        self._warnings = warnings
        self._since: dict[tuple[str, int, int, int], int] = {}
        """When a peer first advertised keys under another definition: (peer, bucket, definition
        there, definition here)."""

    def stated(self, peer: str, resolved: ResolvedTables, mixed: tuple[int, ...], now: int) -> None:
        """The peer has sent keys under these of its definitions (places in its table), each of a
        bucket that is defined otherwise here."""
        for place in mixed:
            bucket, theirs, q, p = resolved.tables.definitions[place]
            slot = resolved.definitions[place][0]
            name, capacity, mine, own_q, own_p = self._definitions.at(slot)
            seen = (peer, bucket, theirs, mine)
            if now - self._since.setdefault(seen, now) < LASTS_NS:
                continue
            self._warnings.changed(
                peer,
                (bucket, theirs),
                mine,
                f"{self._name}: bucket {name!r} is defined otherwise on {peer}: {_rate(q, p)} "
                f"there{', with another capacity' if q * own_p == own_q * p else ''} (definition "
                f"{theirs:016x}), capacity {capacity} and {_rate(own_q, own_p)} here (definition "
                f"{mine:016x}). What is taken is counted on both, each under its own limit; give "
                "both nodes the same configuration, and reload the one that is behind",
            )
        while len(self._since) > MOST:
            del self._since[next(iter(self._since))]


def _rate(q: int, p: int) -> str:
    return f"{p * 1_000_000_000 / q:.6g} tokens a second"
