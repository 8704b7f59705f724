"""What the process that runs the mesh notes beside the table, for the one that takes over from it.

Processes of one host may share a table, and with it one node name and one epoch; one of them runs
the mesh. When it ends, another goes on: the counts, the log of what is unsent and the levels are in
the table, and what the table does not know is here. A note about a number is written before the
table uses that number, so that whatever moment a process is killed at, the next one can read all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgpack

from crdtbucket.errors import MeshError
from crdtbucket.mesh.link import Link
from crdtbucket.mesh.nodeinfo import NodeInfo

FORMAT = 1
Row = tuple[str, str, int, str, bool]


class Notes(Protocol):
    """A place that outlives the process. A write is there whole or not at all."""

    def read(self) -> bytes:
        """What was written last; b"" before the first."""
        ...

    def write(self, data: bytes) -> None:
        """Replaces it."""
        ...


@dataclass(frozen=True)
class Noted:
    """What one process noted."""

    born: int
    """When the node began, ns of the table's clock: of two with one name the younger yields."""
    memory: bool
    """Whether it had heard the mesh, so that the levels in the table are the mesh's."""
    names: tuple[tuple[str, int], ...]
    """Every node name and its number in the table, this node's own included."""
    members: tuple[Row, ...]
    """Peers that are members: name, region, epoch, address, and whether all that it may lack stands
    in the table's log."""

    def links(self, now: int) -> Iterable[Link]:
        """The links to these members as they are before any of them is made again."""
        numbers = dict(self.names)
        for name, region, epoch, address, logged in self.members:
            info = NodeInfo(name, region, epoch, address, 0)
            link = Link(info, numbers[name], now, connected=False)
            if logged:  # from the log's beginning on: no member lacks what stood before that
                link.sync_place = -1
            yield link


def dump(noted: Noted) -> bytes:
    """The note as bytes."""
    packed: bytes = msgpack.packb((FORMAT, noted.born, noted.memory, noted.names, noted.members))
    return packed


def load(data: bytes, name: str) -> Noted | None:
    """The note in these bytes, None when nothing was written yet. Raises `MeshError` when it is of
    another version, or of another node than `name`."""
    if not data:
        return None
    try:
        form, born, memory, names, members = msgpack.unpackb(data, use_list=False)
        if form != FORMAT:
            raise MeshError(f"the notes of the mesh have format {form}, this version has {FORMAT}")
        noted = Noted(born, memory, names, members)
        if dict(names).get(name) != 0:
            own = next((known for known, number in names if number == 0), "")
            raise MeshError(f"this table is used by node {own!r}, not {name!r}: give it that name")
        return noted
    except (ValueError, TypeError) as error:
        raise MeshError(f"not the notes of a mesh: {error}") from error


def member_rows(links: Iterable[Link]) -> tuple[Row, ...]:
    """The members among these links, as rows."""
    return tuple(
        (one.info.name, one.info.region, one.info.epoch, one.info.address, one.held and one.synced)
        for one in links
        if not (one.left or one.forgotten)
    )


__all__ = ["Noted", "Notes", "dump", "load", "member_rows"]
