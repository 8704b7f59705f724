"""Notices that two processes have one name: that another one has the name of this node, or that two
peers have the same."""

from __future__ import annotations

from collections.abc import Callable

from crdtbucket.errors import NodeConflict, WireError
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.own_name import OR_KEEP_OUT


class UsedNames:
    """Introduces peers to the node, and refuses a second process under a name."""

    def __init__(self, node: MeshNode, clock_ns: Callable[[], int]) -> None:
        self._node = node
        self._clock = clock_ns

    def introduce(self, peer: NodeInfo, me: NodeInfo) -> None:
        """Reports to the node that a link with this peer is about to be made, to which this node
        introduced itself as `me`. Raises `HandshakeError` where the node refuses."""
        try:
            if peer.name == me.name:
                raise self._node.duplicate_name(peer, me)
            self._node.connected(peer, self._clock())
        except NodeConflict as error:
            raise HandshakeError(Reason.CONFLICT, str(error), peer) from error
        except WireError as error:
            text = f"no room for {peer.name}: {error}"
            raise HandshakeError(Reason.BUSY, text, peer) from error

    def reported(self, error: HandshakeError) -> None:
        """A peer reports that another process, perhaps the peer itself, uses this node's name."""
        peer, me = error.peer, error.me or self._node.info
        if peer is not None and peer.name == me.name:
            self._node.duplicate_name(peer, me)
        else:
            who = "a peer" if peer is None else f"{peer.name!r} at {peer.address or '?'}"
            conflict = NodeConflict(f"{who} says: {error}, {OR_KEEP_OUT}")
            self._node.name_reported(conflict, "" if peer is None else peer.name)
