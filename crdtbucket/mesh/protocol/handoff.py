"""The record that the process which runs the mesh writes for the one that takes over from it.

Processes of one host may share a table, and with it one node name and one epoch; one of them runs
the mesh. When it ends, another goes on: the counts, the log of unsent changes, the levels and the
names of the nodes are in the table, and the rest is in this record. Nothing that is counted depends
on the record: without it the next process asks its peers.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crdtbucket.base.packing import pack, unpack
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.peer_state import PeerState

LOG = logging.getLogger("crdtbucket.mesh")
FORMAT = 2
Row = tuple[str, str, int, str, bool]


@dataclass(frozen=True)
class HandoffRecord:
    """The state that one process wrote for the next one."""

    began: int
    """When the node began, ns of the table's clock."""
    memory: bool
    """Whether it had received an update, so that the levels in the table are those of the mesh."""
    members: tuple[Row, ...]
    """Peers that are members: name, region, epoch, address, and whether the table's log has all
    that the peer may lack."""

    def links(self, now: int, number: Callable[[str], int]) -> Iterable[PeerState]:
        """The states of the links to these members, before any link is made again. `number`:
        returns the number of a name in the table."""
        for name, region, epoch, address, logged in self.members:
            info = NodeInfo(name, region, epoch, address, 0)
            link = PeerState(info, number(name), now, connected=False)
            if logged:  # from the log's beginning on: no member lacks what was before it
                link.sync_place = -1
            yield link


def dump(noted: HandoffRecord) -> bytes:
    """The record as bytes, with a checksum."""
    packed = pack((FORMAT, noted.began, noted.memory, noted.members))
    return zlib.crc32(packed).to_bytes(4, "big") + packed


def load(data: bytes) -> HandoffRecord | None:
    """The record in these bytes. None when nothing was written yet and, with a warning, when no
    process of this version has written them: the node then goes on as one that has just begun."""
    if not data:
        return None
    packed = data[4:]
    try:
        if int.from_bytes(data[:4], "big") != zlib.crc32(packed):
            raise ValueError("it is damaged")
        form, *fields = unpack(packed)
        if form != FORMAT:
            raise ValueError(f"it has format {form}, this version has {FORMAT}")
        return HandoffRecord(*fields)
    except (ValueError, TypeError) as error:
        LOG.warning(
            "the hand-over record in the shared table cannot be used, so peers are asked: %s",
            error,
        )
        return None


def member_rows(links: Iterable[PeerState]) -> tuple[Row, ...]:
    """The members among these links, as rows."""
    return tuple(
        (
            one.info.name,
            one.info.region,
            one.info.epoch,
            one.info.address,
            one.log_kept and one.synced,
        )
        for one in links
        if one.to_forget >= 0 or not one.gone
    )
