"""A simulated mesh in which several processes have one name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from crdtbucket.mesh.links.session import HandshakeError, Reason
from crdtbucket.mesh.node_info import NodeInfo
from crdtbucket.mesh.protocol.rounds import Frames
from crdtbucket.mesh.transport.used_names import UsedNames
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedMesh
from crdtbucket.testing.simulated_mesh import RETRY_NS
from crdtbucket.testing.simulated_node import SimulatedNode


class Namesakes(SimulatedMesh):
    """A mesh whose processes are named by the first letter of their keys: "X1" and "X2" are both
    called X.

    A process without a link to another one dials it every half second, in a handshake that informs
    the nodes as the transport does. `pairs`: those that may dial each other; all by default.
    """

    def __init__(
        self,
        processes: Iterable[str],
        buckets: Iterable[BucketSpec],
        pairs: Collection[str] | None = None,
        **changes: Any,
    ) -> None:
        self._pairs = pairs if pairs is None else {frozenset(pair.split("-")) for pair in pairs}
        self.lines: set[frozenset[str]] = set()
        """The pairs of processes that have a link."""
        super().__init__(processes, buckets, **changes)
        for process, node in self.nodes.items():
            if node.up:
                self.begin(process)
                node.node.memory.remember(node.local_ns(0))

    def begin(self, process: str) -> None:
        """Starts a process, under a new epoch and without memory."""
        node = self.nodes[process]
        node.name = process[0]
        node.start(None)
        node.name = process

    def peers(self, process: str) -> set[str]:
        """The processes that it has a link with."""
        return {other for line in self.lines if process in line for other in line - {process}}

    def serves(self, process: str) -> bool:
        return self[process].table.refusal is None

    def _connect(self, first: str, second: str, *_: int) -> None:
        if self._pairs is None or frozenset((first, second)) in self._pairs:
            self.schedule(self.now_ns, self._dial, first, second)

    def _dial(self, first: str, second: str) -> None:
        self.schedule(self.now_ns + RETRY_NS, self._dial, second, first)
        pair, ends = frozenset((first, second)), (self.nodes[first], self.nodes[second])
        if not (self.passes(first, second) and self.passes(second, first)):
            return
        if pair in self.lines or not all(node.up for node in ends):
            return
        said = []
        for node in ends:
            node.table.set_time(node.local_ns(self.now_ns))
            said.append(node.node.info)
        for here, peer, me in ((1, said[0], said[1]), (0, said[1], said[0])):
            error = self._refusal(ends[here], peer, me)
            if error is not None:
                if here == 0:  # the other side has linked it already
                    local = ends[1].local_ns(self.now_ns)
                    ends[1].node.disconnected(me.name, local, ended=True)
                told = HandshakeError(Reason.CONFLICT, str(error), me, from_peer=True, me=peer)
                self._names(ends[1 - here]).reported(told)
                return
        for end, other in ((first, second), (second, first)):  # the nodes believe these processes
            before = {peer for peer in self.peers(end) if peer[0] == other[0]}
            self.lines -= {frozenset((end, peer)) for peer in before}
        self.lines.add(pair)

    def _refusal(self, node: SimulatedNode, peer: NodeInfo, me: NodeInfo) -> HandshakeError | None:
        try:
            self._names(node).introduce(peer, me)
        except HandshakeError as error:
            return error
        return None

    def _names(self, node: SimulatedNode) -> UsedNames:
        return UsedNames(node.node, lambda: node.local_ns(self.now_ns))

    def send(self, source: SimulatedNode, frames: Frames) -> None:
        here = source.name
        for target, data in frames:
            ends = [peer for peer in self.peers(here) if peer[0] == target]
            super().send(source, [(peer, data) for peer in ends])

    def _deliver(self, way: tuple[str, str], epochs: tuple[int, int], data: bytes) -> None:
        (source, target), (began, _) = way, epochs
        if self.passes(source, target) and began == self.nodes[source].epochs:
            self.nodes[target].arrive(source[0], epochs[1], data)
