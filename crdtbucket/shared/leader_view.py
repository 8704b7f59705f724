"""Writes what the leader knows of the mesh into the shared table, and reads it in other processes.

Only one process talks to the peers, but any process may be asked about them. The leader writes what
it knows into the table every second; the others read it whole, and add the time since then.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from crdtbucket._core import MAX_VIEW_BYTES, Table
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.packing import pack, unpack
from crdtbucket.errors import CrdtbucketError

LOG = logging.getLogger("crdtbucket")


def publish(table: Table, mesh: dict[str, Any], fleet: Sequence[Sequence[Any]]) -> None:
    """Writes the stats of the mesh and the rows of the fleet. If not all of it fits, the last peers
    by name are left out, and `omitted` says how many."""
    rows = [
        (name, state, *(mesh[of].get(name) for of in ("lag", "longest_lag", "keys")))
        for name, state in mesh["peers"].items()
    ]
    packed = _packed(table, mesh, rows, fleet)
    kept = len(fleet)
    while len(packed) > MAX_VIEW_BYTES:
        kept //= 2
        packed = _packed(table, mesh, rows[:kept], fleet[:kept], len(fleet) - kept)
    try:
        table.sharing.write_view(packed)
    except CrdtbucketError as error:  # the others show an older one, and its age
        LOG.warning("the other processes keep an older view of the peers: %s", error)


def read(table: Table) -> dict[str, Any] | None:
    """What the leader wrote last: the stats of the mesh as they are here, with `view_age` (s),
    `omitted` (peers) and `fleet` (rows). None before the first, in this epoch of the node."""
    data = table.sharing.read_view()
    if not data:
        return None
    at, omitted, mesh, identity, rows, fleet = unpack(data)
    age = max(0, table.now() - at) / NS_PER_SECOND
    unreached = mesh.get("unreached", ())  # an earlier version writes none
    mesh["unreached"] = [{**one, "seconds": one["seconds"] + age} for one in unreached]
    if mesh.get("snapshot_age") is not None:
        mesh["snapshot_age"] += age
    view: dict[str, Any] = {
        "peers": {name: state for name, state, *_ in rows},
        "lag": {name: lag + age for name, _, lag, _, _ in rows if lag is not None},
        "longest_lag": {name: lag + age for name, _, _, lag, _ in rows if lag is not None},
        "keys": {name: key for name, *_, key in rows if key is not None},
        "identity": identity,
        "mesh": mesh,
        "view_age": age,
        "omitted": omitted,
        "fleet": fleet,
    }
    return view


def _packed(
    table: Table,
    mesh: dict[str, Any],
    rows: Sequence[Sequence[Any]],
    fleet: Sequence[Sequence[Any]],
    omitted: int = 0,
) -> bytes:
    return pack((table.now(), omitted, mesh["mesh"], mesh["identity"], rows, fleet))
