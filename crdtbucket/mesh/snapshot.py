"""Snapshots of a table: what was counted and owed, to start from after a restart.

A snapshot is merged like an own message that came late.
"""

from __future__ import annotations

import msgpack

from crdtbucket._core import Table
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh import wire
from crdtbucket.mesh.roster import Roster

FORMAT = 1
CHUNK = 1 << 20


def dump(table: Table, roster: Roster) -> bytes:
    """All indebted entries with their columns, and what the positions in them mean."""
    tables, positions = roster.announced()
    chunks, place = [], 0
    while place >= 0:
        payload, place, _ = table.encode_indebted(place, positions, CHUNK)
        chunks.append(payload)
    packed: bytes = msgpack.packb((FORMAT, table.epoch, tables.origins, tables.definitions, chunks))
    return packed


def load(table: Table, roster: Roster, data: bytes) -> int:
    """Restores a snapshot into a table that runs under a new epoch. Returns the entries restored.

    Raises MeshError, and restores nothing, when it is not one.
    """
    try:
        form, epoch, origins, definitions, chunks = msgpack.unpackb(
            data, use_list=False, strict_map_key=False
        )
        if form != FORMAT:
            raise MeshError(f"snapshot has format {form}, this version reads {FORMAT}")
        tables = wire.check_tables((1, origins, definitions))
        if epoch == table.epoch:
            raise MeshError("a snapshot of the running epoch cannot be restored")
        resolved = roster.resolve(tables)
        return sum(table.restore(chunk, resolved.definitions, resolved.origins) for chunk in chunks)
    except (ValueError, TypeError, WireError) as error:
        raise MeshError(f"not a snapshot: {error}") from error
