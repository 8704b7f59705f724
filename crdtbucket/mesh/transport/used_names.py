"""Notices that two processes have one name: another one this node's, or two peers the same."""

from __future__ import annotations

from collections.abc import Callable

from crdtbucket.errors import NodeConflict, WireError
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.protocol_node import ProtocolNode


class UsedNames:
    """Introduces peers to the node, which believes one process of each name."""

    def __init__(self, node: ProtocolNode, clock_ns: Callable[[], int]) -> None:
        self._node = node
        self._clock = clock_ns

    def introduce(self, peer: NodeInfo) -> None:
        """There is to be a link with this peer. Raises `HandshakeError` where the node refuses."""
        try:
            self._node.connected(peer, self._clock())
        except NodeConflict as error:
            raise HandshakeError(Reason.CONFLICT, str(error), peer) from error
        except WireError as error:
            text = f"no room for {peer.name}: {error}"
            raise HandshakeError(Reason.BUSY, text, peer) from error

    def reported(self, error: HandshakeError) -> None:
        """A peer says that this node's name is used by another process, perhaps by itself."""
        peer, own = error.peer, self._node.info.name
        if peer is not None and peer.name == own:
            self._node.duplicate_name(peer)
        else:
            conflict = NodeConflict(f"{own!r}: {error}: give each node its own name")
            self._node.name_reported(conflict)
