"""Warns of buckets that a peer defines differently: once for each difference, in plain words."""

from __future__ import annotations

import logging
from typing import Any

from crdtbucket._core import TableDefinitions
from crdtbucket.mesh.protocol.roster import ResolvedTables

LOG = logging.getLogger("crdtbucket.mesh")
LASTS_NS = 5_000_000_000
"""A difference that lasts this long (ns) is logged. While all nodes are reloaded, frames on their
way and keys that were not touched since are still under a definition that was replaced."""
MOST = 4_096
"""How many differences are distinguished; beyond that the oldest are forgotten."""


class Mismatches:
    """Compares the definitions under which a peer states its keys with those of a table."""

    def __init__(self, definitions: TableDefinitions, name: str) -> None:
        """`name`: of this node."""
        self._definitions = definitions
        self._name = name
        self._since: dict[tuple[str, int, int, int], int] = {}
        """When a peer first advertised keys under another definition: (peer, bucket, definition
        there, definition here)."""
        self._said: dict[tuple[str, int, int], int] = {}
        """The definition here that was logged last beside that of a peer."""

    def stated(self, peer: str, resolved: ResolvedTables, mixed: tuple[int, ...], now: int) -> None:
        """The peer has sent keys under these of its definitions (places in its table), each of a
        bucket that is defined differently here."""
        for place in mixed:
            bucket, theirs, q, p = resolved.tables.definitions[place]
            slot = resolved.definitions[place][0]
            name, capacity, mine, own_q, own_p = self._definitions.at(slot)
            seen = (peer, bucket, theirs, mine)
            if now - self._since.setdefault(seen, now) < LASTS_NS:
                continue
            about = (peer, bucket, theirs)
            if self._said.get(about) == mine:
                continue
            self._said.pop(about, None)
            self._said[about] = mine
            LOG.warning(
                "%s: bucket %r is defined otherwise on %s: %s there%s (definition %016x), capacity "
                "%d and %s here (definition %016x). What is taken is counted on both, each under "
                "its own limit; give both nodes the same configuration, and reload the one that is "
                "behind",
                self._name,
                name,
                peer,
                _rate(q, p),
                ", with another capacity" if q * own_p == own_q * p else "",
                theirs,
                capacity,
                _rate(own_q, own_p),
                mine,
            )
        _forget_oldest(self._since)
        _forget_oldest(self._said)


def _forget_oldest(known: dict[Any, int]) -> None:
    while len(known) > MOST:
        del known[next(iter(known))]


def _rate(q: int, p: int) -> str:
    return f"{p * 1_000_000_000 / q:.6g} tokens a second"
