"""Saves what a node with a state directory needs for its next epoch: the keys still to be
settled."""

from __future__ import annotations

from dataclasses import dataclass

from crdtbucket.base.packing import pack, unpack
from crdtbucket.strong.unsettled import Row

FORMAT = 1


@dataclass(frozen=True)
class PreviousEpoch:
    """The keys that an epoch left unsettled at its end. The counts themselves are in the snapshot
    of the table."""

    rows: tuple[Row, ...] = ()
    """Keys that were still to be settled with Redis."""
    servers: tuple[tuple[str, str], ...] = ()
    """The address of each server and its run id, which shows whether it was restarted."""


def dump(epoch: PreviousEpoch) -> bytes:
    """The bytes that `load` reads."""
    return pack((FORMAT, epoch.rows, epoch.servers))


def load(data: bytes) -> PreviousEpoch:
    """Reads what `dump` has written. Raises `ValueError` when it cannot be read."""
    try:
        form, rows, servers = unpack(data)
        if form != FORMAT:
            raise ValueError(f"format {form}, this version reads {FORMAT}")
        for row in rows:
            if len(row) != 4 or not all(type(n) is int and 0 <= n < 2**64 for n in row):
                raise ValueError("a row is malformed")
        for pair in servers:
            if len(pair) != 2 or not all(isinstance(one, str) for one in pair):
                raise ValueError("a server is malformed")
        return PreviousEpoch(rows, servers)
    except TypeError as error:
        raise ValueError(f"not what an epoch left to settle with Redis: {error}") from error
