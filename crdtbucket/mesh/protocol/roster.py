"""Translates the numbers of nodes, epochs and definitions between this table and the wire."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from crdtbucket._core import Table
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.protocol import wire

NO_PLACE = 0xFFFF
MAX_NODES = 1024


Admits = Callable[[str, int], bool]
"""Decides whether an epoch that is new here gets a place, by its owner's name and its number."""


@dataclass(frozen=True)
class ResolvedTables:
    """The tables that a peer has announced, with local numbers."""

    tables: wire.AnnouncedTables
    origins: array[int]
    """Local origin ids at its positions."""
    definitions: tuple[tuple[int, int, int, int], ...]
    """(local slot or -1, equals: 1 the definition here, 2 its candidate, 3 both; its q, its p)."""
    key: tuple[int, int, int]
    """The state of the local numbers for which the translation holds."""


class Roster:
    """Ids of the nodes that this one knows of; 0 is itself. Ids of dropped nodes are used again.

    Names and ids are in the table beside the epochs that they own, so every process that opens the
    table, under this epoch of the node or the next, means the same nodes by the same ids.
    """

    def __init__(self, table: Table, name: str) -> None:
        """Raises MeshError when the table belongs to another node."""
        self._table = table
        self.changes = 0
        """Rises when a name gets or loses its id."""
        self._ids = {known: number for number, known in table.nodes.node_names().items()}
        self._free: list[int] = sorted({*range(1, MAX_NODES)} - {*self._ids.values()})
        """Ids that nobody has, as a heap."""
        owner = next((known for known, number in self._ids.items() if number == 0), None)
        if owner is None:
            table.nodes.name_node(0, name)
            self._ids[name] = 0
        elif owner != name:
            raise MeshError(
                f"this table is used by node {owner!r}, not {name!r}: give it that name"
            )
        self._announced: tuple[wire.AnnouncedTables, array[int], tuple[int, int] | None]
        self._announced = wire.AnnouncedTables(0, (), ()), array("H"), None
        self._owners: tuple[int, dict[int, str]] = -1, {}
        self._retries = 0

    def node(self, name: str) -> int:
        """The id of a node, a new one when its name is new. Raises WireError when there is no room
        for another name."""
        known = self._ids.get(name)
        if known is not None:
            return known
        if not self._free:
            raise WireError(f"more than {MAX_NODES - 1} nodes are known: {name!r} is refused")
        free: int = self._free[0]
        self._table.nodes.name_node(free, name)  # before the table has any epoch of it
        heapq.heappop(self._free)
        self._ids[name] = free
        self.changes += 1
        return free

    def names(self) -> dict[int, str]:
        """Names by id."""
        return {number: name for name, number in self._ids.items()}

    def drop_strangers(self, members: Collection[str]) -> None:
        """Forgets the names of nodes that are not members and have no epoch left."""
        known = self._ids.items()
        strangers = [(name, number) for name, number in known if number and name not in members]
        if not strangers:
            return
        used = {node for _, node, _, _ in self._table.epochs.origins()}
        used |= {node for node, _, _ in self._table.nodes.relayed_members()}
        for name, number in strangers:
            if number not in used:
                del self._ids[name]
                heapq.heappush(self._free, number)
                self._table.nodes.name_node(number, "")
                self.changes += 1

    def owner(self, epoch: int) -> str | None:
        """The name of the node whose epoch this is; None for one that is not known."""
        tables, _ = self.announced()
        if self._owners[0] != tables.version:
            self._owners = tables.version, {known: name for name, known in tables.origins}
        return self._owners[1].get(epoch)

    def announced(self) -> tuple[wire.AnnouncedTables, array[int]]:
        """The meaning of the positions in the entries that this node sends, and the position of
        each origin. Two threads may call it (one of them saves a snapshot): the result replaces the
        old one in a single step.
        """
        key = (self._table.epochs.origins_version, self._table.definitions.made)
        tables, positions, built = self._announced
        if key == built:
            return tables, positions
        names = self.names()
        known = self._table.epochs.origins()
        origins = [(i, names[node], epoch) for i, node, epoch, gone in known if not gone]
        positions = array("H", [NO_PLACE]) * wire.MAX_ORIGINS
        for place, (origin, _, _) in enumerate(origins):
            positions[origin] = place
        owners = _shared(((name, epoch) for _, name, epoch in origins), tables.origins)
        tables = wire.AnnouncedTables(
            tables.version + 1, owners, tuple(self._table.definitions.all())
        )
        self._announced = tables, positions, key
        return tables, positions

    def resolve(self, tables: wire.AnnouncedTables, admits: Admits) -> ResolvedTables:
        """A peer's tables in local numbers. An epoch that `admits` refuses, or that belongs to
        another node here, gets the number 0: its columns are ignored."""
        rows = self._table.epochs.origins()
        known = {epoch: (origin, node) for origin, node, epoch, _ in rows}
        followed = (self._followed(*owner, known, admits) for owner in tables.origins)
        return self._resolved(tables, array("H", followed))

    def restore(self, tables: wire.AnnouncedTables, left_out: int = 0) -> ResolvedTables:
        """The tables that this node has saved, in local numbers. The first `left_out` epochs are
        ignored, as in `resolve`. Raises WireError when an epoch belongs to two nodes, or when there
        is no room for more."""
        origins = array("H", [0] * left_out)
        for name, epoch in tables.origins[left_out:]:
            origins.append(self._table.epochs.origin(self.node(name), epoch))
        return self._resolved(tables, origins)

    def _resolved(self, tables: wire.AnnouncedTables, origins: array[int]) -> ResolvedTables:
        local = {row[1]: row for row in self._table.definitions.current()}
        candidates = self._table.definitions.candidates()
        definitions = []
        for name_hash, definition_hash, q, p in tables.definitions:
            mine = local.get(name_hash)
            same = int(mine is not None and mine[2] == definition_hash)
            same |= 2 * (candidates.get(name_hash) == definition_hash)
            definitions.append((mine[0] if mine else -1, same, q, p))
        own, _ = self.announced()
        tables = replace(tables, origins=_shared(tables.origins, own.origins))
        return ResolvedTables(tables, origins, tuple(definitions), self.key)

    def _followed(
        self,
        name: str,
        epoch: int,
        known: dict[int, tuple[int, int]],
        admits: Admits,
    ) -> int:
        """The number of an epoch that a peer advertises, 0 when it is not followed. `known`: number
        and owner of those that have one; a new one is added."""
        origin, owner = known.get(epoch, (0, -1))
        if origin:
            return origin if self._ids.get(name) == owner else 0
        origin = self.introduce(name, epoch, admits)
        if origin:
            known[epoch] = origin, self._ids[name]
        return origin

    def introduce(self, name: str, epoch: int, admits: Admits) -> int:
        """The number of an epoch that is new here and that a peer advertises; 0 when it is not
        followed."""
        if not admits(name, epoch):
            return 0
        try:
            return self._table.epochs.origin(self.node(name), epoch)
        except WireError:  # there is no free place, or no free number for a name
            return 0

    def retry(self) -> None:
        """Makes the tables of peers be resolved again: there may be room now for epochs that found
        none."""
        self._retries += 1

    @property
    def key(self) -> tuple[int, int, int]:
        """Changes when ids are given up or definitions are replaced, or with `retry`."""
        return self._table.epochs.released, self._table.definitions.made, self._retries


def _shared(owners: Iterable[tuple[str, int]], held: wire.Origins) -> wire.Origins:
    """The same owners, replaced by equal objects that are held already: every peer states all of
    them, so this saves memory."""
    known = {owner: owner for owner in held}
    return tuple(known.get(owner, owner) for owner in owners)
