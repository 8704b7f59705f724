"""Notices that two processes have one name: another one this node's, or two peers the same."""

from __future__ import annotations

from collections.abc import Callable

from crdtbucket.errors import NodeConflict, WireError
from crdtbucket.mesh.links.counters import LOG
from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.protocol_node import ProtocolNode


class UsedNames:
    """Introduces peers to the node, which believes one process of each name."""

    def __init__(
        self,
        node: ProtocolNode,
        clock_ns: Callable[[], int],
        on_conflict: Callable[[NodeConflict], None] | None,
    ) -> None:
        """`on_conflict` is called whenever another process has this node's name."""
        self._node = node
        self._clock = clock_ns
        self._on_conflict = on_conflict
        self._logged = False

    def introduce(self, peer: NodeInfo) -> None:
        """There is to be a link with this peer. Raises `HandshakeError` where the node refuses."""
        own = peer.name == self._node.info.name
        try:
            self._node.connected(peer, self._clock())
            if own:
                raise NodeConflict(
                    f"two running processes are called {peer.name!r}: give each node its own name"
                )
        except NodeConflict as error:
            if own:
                self._own_is_used(error)
            raise HandshakeError(Reason.CONFLICT, str(error), peer) from error
        except WireError as error:
            text = f"no room for {peer.name}: {error}"
            raise HandshakeError(Reason.BUSY, text, peer) from error

    def reported(self, error: HandshakeError) -> None:
        """A peer says that this node's name is used by another process."""
        peer, own = error.peer, self._node.info.name
        if peer is not None and peer.name == own:
            self._own_is_used(self._node.duplicate_name(peer))
        else:
            self._own_is_used(NodeConflict(f"{own!r}: {error}: give each node its own name"))

    def _own_is_used(self, error: NodeConflict) -> None:
        if not self._logged:  # it is found again at every attempt to link
            LOG.error("%s", error)
        self._logged = True
        if self._on_conflict is not None:
            self._on_conflict(error)
