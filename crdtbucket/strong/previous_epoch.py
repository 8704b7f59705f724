"""What a node with a state directory keeps for its next life of what Redis was not told of."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack

from crdtbucket.errors import MeshError
from crdtbucket.strong.unsettled import Row

FORMAT = 1


@dataclass(frozen=True)
class PreviousEpoch:
    """The end of a life: the counts themselves are in the snapshot of the table."""

    rows: tuple[Row, ...] = ()
    """Keys that Redis was still to be told of."""
    servers: tuple[tuple[str, str], ...] = ()
    """Each server by its address, and the text by which a restart of it is noticed."""


def dump(life: PreviousEpoch) -> bytes:
    """As bytes."""
    packed: bytes = msgpack.packb((FORMAT, life.rows, life.servers))
    return packed


def load(data: bytes) -> PreviousEpoch:
    """What was kept. Raises `MeshError` when it cannot be read, and says what to do."""
    try:
        form, rows, servers = msgpack.unpackb(data, use_list=False)
        if form != FORMAT:
            raise ValueError(f"format {form}, this version reads {FORMAT}")
        for row in rows:
            if len(row) != 4 or not all(type(n) is int and 0 <= n < 2**64 for n in row):
                raise ValueError("a key of it is none")
        for pair in servers:
            if len(pair) != 2 or not all(isinstance(one, str) for one in pair):
                raise ValueError("a server of it is none")
        return PreviousEpoch(rows, servers)
    except (ValueError, TypeError) as error:
        raise MeshError(
            f"what the last life had still to tell Redis cannot be read ({error}): remove the "
            "node's .owed file in mesh.state_dir to start without it"
        ) from error


__all__ = ["FORMAT", "PreviousEpoch", "dump", "load"]
