"""Names and numbers: nodes, epochs and definitions as this table numbers them, and as the wire does."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from crdtbucket._core import Table
from crdtbucket.errors import MeshError
from crdtbucket.mesh import wire

NO_PLACE = 0xFFFF
MAX_NODES = 256


@dataclass(frozen=True)
class Resolved:
    """A peer's announced tables as understood here."""

    origins: array[int]
    """Local origin ids at its positions."""
    definitions: tuple[tuple[int, bool, int, int], ...]
    """(local slot or -1, whether the definitions are equal, its q, its p)."""


class Roster:
    """Ids of the nodes that this one knows of; 0 is itself. Ids are reused when a node is dropped."""

    def __init__(self, table: Table, name: str) -> None:
        self._table = table
        self._ids: dict[str, int] = {name: 0}
        self._announced: wire.Tables | None = None
        self._positions = array("H", [NO_PLACE]) * wire.MAX_ORIGINS
        self._key: tuple[int, int] | None = None
        self._definitions: list[tuple[int, int, int, int]] = []
        self.definitions_version = 0

    def node(self, name: str) -> int:
        """The id of a node, a new one when its name is new. Raises MeshError beyond 256 nodes."""
        known = self._ids.get(name)
        if known is not None:
            return known
        taken = set(self._ids.values())
        free = next((i for i in range(1, MAX_NODES) if i not in taken), None)
        if free is None:
            raise MeshError(f"more than {MAX_NODES - 1} nodes are known: {name!r} is refused")
        self._ids[name] = free
        return free

    def names(self) -> dict[int, str]:
        """Names by id."""
        return {number: name for name, number in self._ids.items()}

    def announced(self) -> tuple[wire.Tables, array[int]]:
        """What positions in the entries sent from here mean, and the position of each origin."""
        key = (self._table.origins_version, self._table.definition_count)
        if self._announced is None or key != self._key:
            names = self.names()
            origins = [
                (i, names.get(node, ""), epoch)
                for i, node, epoch, marked in self._table.origins()
                if not marked
            ]
            self._positions = array("H", [NO_PLACE]) * wire.MAX_ORIGINS
            for place, (origin, _, _) in enumerate(origins):
                self._positions[origin] = place
            version = self._announced.version + 1 if self._announced else 1
            self._announced = wire.Tables(
                version,
                tuple((name, epoch) for _, name, epoch in origins),
                tuple(self._table.all_definitions()),
            )
            self._key = key
        return self._announced, self._positions

    def resolve(self, tables: wire.Tables) -> Resolved:
        """A peer's tables in local numbers. Raises WireError when there is no room for its epochs."""
        origins = array("H")
        for name, epoch in tables.origins:
            origin = self._table.origin(self.node(name), epoch)
            if not origin:
                raise MeshError("more epochs than can be told apart")
            origins.append(origin)
        local = {row[1]: row for row in self._table.definitions()}
        definitions = []
        for name_hash, definition_hash, q, p in tables.definitions:
            mine = local.get(name_hash)
            definitions.append(
                (mine[0] if mine else -1, bool(mine and mine[2] == definition_hash), q, p)
            )
        return Resolved(origins, tuple(definitions))
