"""A node `me` without a network: its members, and a table that records its calls."""

from __future__ import annotations

from typing import Any

from crdtbucket._core import (
    BucketCore,
    Merged,
    Table,
    TableDefinitions,
    TableEpochs,
    TableInbox,
    TableNodes,
    TableOutbox,
)
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol import wire
from crdtbucket.mesh.protocol.clock_watch import OwnClock
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.peer_state import PeerState
from crdtbucket.mesh.protocol.roster import Roster
from crdtbucket.spec.bucket_spec import BucketSpec

SECOND = 1_000_000_000
CONFIG = MeshConfig(peers=["127.0.0.1:1", "127.0.0.1:2"], forget_after=200.0)
ME = NodeInfo("me", "eu", 7, "10.0.0.1:1", 0)
PEER = NodeInfo("peer", "us", 9, "10.0.0.2:1", 0)
NOTHING = Merged(0, 0, 0, 0, 0, 0, 0, False, 0, 0, 0, 0, 0, 0, 0, (), (), (), 0, -1)  # type: ignore[arg-type]
"""The result of a merge that has found nothing."""


PARTS = TableDefinitions, TableEpochs, TableInbox, TableNodes, TableOutbox


class RecordingTable:
    """A table that records all calls of its methods, also of those of its parts."""

    def __init__(self, max_keys: int = 64) -> None:
        self.table = Table(max_keys=max_keys, hash_key=bytes(16), virtual=True, epoch=ME.epoch)
        self.bucket = BucketCore(self.table, BucketSpec("b", 100, 100))
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.merges: list[Merged] = []
        """The results of the next merges, which then merge nothing; after these, entries are
        merged."""

    def __getattr__(self, name: str) -> Any:
        return self.recording(self.table, name)

    def recording(self, of: object, name: str) -> Any:
        """A member of the table or of a part, which records its calls."""
        found = getattr(of, name)
        if isinstance(found, PARTS):
            return RecordedPart(self, found)
        if not callable(found):
            return found

        def recorded(*args: Any, **values: Any) -> Any:
            self.calls.append((name, args, values))
            stubbed = name == "merge" and self.merges
            return self.merges.pop(0) if stubbed else found(*args, **values)

        return recorded

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of this method so far, which are then forgotten."""
        found = [(*args, *values.values()) for method, args, values in self.calls if method == name]
        self.calls = [call for call in self.calls if call[0] != name]
        return found


class RecordedPart:
    """A part of such a table."""

    def __init__(self, table: RecordingTable, part: object) -> None:
        self._table, self._part = table, part

    def __getattr__(self, name: str) -> Any:
        return self._table.recording(self._part, name)


def membership(config: MeshConfig = CONFIG) -> tuple[Membership, RecordingTable]:
    """The members of `me`, which has met nobody."""
    table: Any = RecordingTable()
    return Membership(table, config, Roster(table, "me"), "me", OwnClock(SECOND), 0), table


def linked(members: Membership, *infos: NodeInfo) -> list[PeerState]:
    """Makes links to these peers at the time 0."""
    for info in infos:
        members.connected(info, 0)
    return [members.links[info.name] for info in infos]


def named(name: str, epoch: int, address: str = "") -> NodeInfo:
    """The info of a process that has just started, without a region."""
    return NodeInfo(name, "", epoch, address, 0)


def frame(**values: Any) -> wire.Frame:
    """A frame of `PEER`."""
    return wire.Frame(**{"epoch": PEER.epoch, "to_epoch": ME.epoch, "seq": 1, "sent": 0, **values})
