"""Decides whether this node goes on when another process says that it has the node's name.

A process that any peer is linked with goes on: that peer counts its takes, and relays them to the
peers that are linked with the other process, so the limit holds as if both processes had names of
their own. No statement changes that: the other process may be a bad member, and the names of peers
may be invented.

Of those without a link one goes on: the one whose process began first by its wall clock, unless
somebody is linked with the other one. Both judge by what each has said in the handshake, and when a
process began never changes: so they agree, and so do any number of processes of one name. A process
stops refusing when it no longer meets the other one, or when a peer is linked with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from crdtbucket._core import Table
from crdtbucket.errors import NodeConflict
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.membership import Membership
from crdtbucket.mesh.protocol.peer_warnings import OTHERS

LOG = logging.getLogger("crdtbucket.mesh")

OR_KEEP_OUT = (
    "or keep a stranger out: by `crdtbucket identity eject` with its key, or by another mesh.secret"
)
"""The advice against a process that has this node's name and is not one of your nodes."""
MET_NS = 30_000_000_000
"""Time (ns) after which a node that refused to serve begins again, if the other process was not met
meanwhile."""


class OwnName:
    """Decides whether this node serves while another process has its name. Times are local ns."""

    def __init__(self, table: Table, members: Membership, name: str) -> None:
        self._table, self._members, self._name = table, members, name
        self._met = 0
        """When the other process was last met, while this one refuses."""
        if table.sharing.refused:  # by the process that spoke to the peers before this one
            self._met = table.now()
            table.refuse(
                NodeConflict(
                    f"another running process was called {name!r}, too: give each node its own name"
                )
            )
        self._on_refusal: Callable[[NodeConflict], None] | None = None

    def subscribe(self, on_refusal: Callable[[NodeConflict], None]) -> None:
        """From now on this is called when this node refuses to serve."""
        self._on_refusal = on_refusal

    def met(self, me: NodeInfo, peer: NodeInfo, now: int) -> NodeConflict:
        """The process `peer`, to which this one introduced itself as `me`, has this node's name.
        Returns the error to send it."""
        where = f" in region {peer.region!r}" if peer.region else ""
        where += f", at {peer.address}" if peer.address else ""
        conflict = NodeConflict(
            f"another running process is called {self._name!r}{where}: give each node its own "
            f"name, {OR_KEEP_OUT}"
        )
        if _rank(me) > _rank(peer):
            self._yield(peer.name, f"is the name of another process{where}, too", conflict, now)
        return conflict

    def reported(self, conflict: NodeConflict, by: str, now: int, *, memory: bool) -> None:
        """The peer `by`, "" for an unknown one, says that another process has this node's name. Of
        the two, the one that never was a part of the mesh, and so has no memory, came later."""
        if not memory or self._table.refusal is not None:
            text = f"says that another process is called {self._name!r}"
            self._yield(by or OTHERS, text, conflict, now)

    def look(self, now: int) -> None:
        """Serves again when the other process is gone, or a peer is linked with this one."""
        if not self._met or not isinstance(self._table.refusal, NodeConflict):
            return
        if now - self._met < MET_NS and not self.established(now):
            return
        self._met = 0
        self._table.admit(NodeConflict)
        self._table.sharing.refused = False
        LOG.warning("%s serves again: the other process of this name was not met again", self._name)

    def established(self, now: int) -> bool:
        """Whether any peer is linked with this process and not silent. Safe in any thread."""
        links = list(self._members.links.values())
        return any(self._members.status(link, now) == "alive" for link in links)

    def _yield(self, peer: str, text: str, conflict: NodeConflict, now: int) -> None:
        if self.established(now):
            text += ": peers are linked with this one, which goes on"
            self._members.bounded.count(peer, "own_name", 1, now, text)
            return
        if self._table.refusal is None:
            LOG.error("%s makes no more decisions: %s", self._name, conflict)
        self._met = now
        self._table.refuse(conflict)
        self._table.sharing.refused = True  # the other processes that share the table refuse, too
        if self._on_refusal is not None:
            self._on_refusal(conflict)


def _rank(info: NodeInfo) -> tuple[bool, int, int]:
    """The rank of a process: of two, the one with the smaller rank goes on."""
    return not info.established, info.began, info.epoch
