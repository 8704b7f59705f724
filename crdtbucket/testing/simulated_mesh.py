"""A mesh in memory: real core, real protocol, real codec; clock and network are simulated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from crdtbucket.errors import CrdtbucketError, NodeConflict
from crdtbucket.limiter.factory import checked_specs
from crdtbucket.mesh.protocol.rounds import Frames
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing.simulated_network import check_names
from crdtbucket.testing.simulated_node import NS, NodeNetwork, SimulatedNode
from crdtbucket.testing.simulation_settings import SimulationSettings

RETRY_NS = NS // 2
"""Time (ns) after which a connection that could not be made is tried again."""
CALL_NS = NS
"""Time (ns) between two calls of a peer whose connection has ended."""


class SimulatedMesh(NodeNetwork):
    """A mesh of nodes under simulated time and network.

    `SimulationSettings` says what can be set, and the defaults.
    """

    def __init__(
        self,
        nodes: Iterable[str],
        buckets: Iterable[BucketSpec],
        settings: SimulationSettings | None = None,
        **changes: Any,
    ) -> None:
        """`changes` are fields of `SimulationSettings` that differ from `settings`.

        Raises `CrdtbucketError` for a number out of its range and for a name of no node."""
        self.nodes: dict[str, SimulatedNode] = {}
        settings = replace(settings or SimulationSettings(), **changes)
        super().__init__(self.nodes, settings)
        self.specs = list(checked_specs(buckets))
        self.bytes_sent = self.frames_sent = 0
        self.boots = {}
        self._resets = False
        self._trace = hashlib.blake2b(digest_size=16)
        names = list(nodes)
        if not names or len(set(names)) < len(names):
            raise CrdtbucketError(f"a mesh has one node or more, each with its own name: {names}")
        self.config = settings.mesh_config(len(names))
        offsets, drifts, down = settings.clock_offsets, settings.clock_drift_ppm, set(settings.down)
        check_names(names, *offsets, *drifts, *down)
        for name in names:
            offset_ns = round(offsets.get(name, 0.0) * NS)
            self.nodes[name] = SimulatedNode(self, name, offset_ns, drifts.get(name, 0.0))
            self.nodes[name].up = name not in down
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                self._connect(first, second, self.nodes[first].epochs, self.nodes[second].epochs)
        for node in self.nodes.values():
            if node.up:  # as in a mesh that has been running: only nodes that start later warm up
                node.node.memory.remember(node.local_ns(0))

    def __getitem__(self, name: str) -> SimulatedNode:
        check_names(self.nodes, name)
        return self.nodes[name]

    @property
    def trace(self) -> str:
        """A digest of all that was delivered so far: times, nodes and bytes."""
        return self._trace.hexdigest()

    # ---- events ----

    def partition(self, *groups: Iterable[str]) -> None:
        super().partition(*groups)
        self._resets = False

    def sever(self, *groups: Iterable[str]) -> None:
        """A device between these groups resets every connection, and refuses every call: either
        side sees what it would see if the other had died. `heal` ends it."""
        self.partition(*groups)
        self._resets = True
        at = self.now_ns + round(self.settings.latency * NS)
        for one in self.nodes:
            for other in self.nodes:
                if self.cut(one, other):
                    self.schedule(at, self._end, one, other)

    def heal(self) -> None:
        severed = self._groups if self._resets else []
        super().heal()
        self._resets = False
        names = [name for name in self.nodes if any(name in side for side in severed)]
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                self._connect_soon(one, other)

    def crash(self, node: str) -> None:
        """The process is killed. What it held is saved as a snapshot that a restart may use."""
        dead = self[node]
        dead.table.set_time(dead.local_ns(self.now_ns))
        dead.saved = b"".join(dead.node.memory.snapshot())
        self.boots.pop(node, None)
        dead.up = False
        at = self.now_ns + round(self.settings.latency * NS)
        for name in self.nodes:
            if name != node:
                self.schedule(at, self._gone, name, node, dead.epochs)

    def restart(
        self,
        node: str,
        memory: Literal["empty", "snapshot"] = "empty",
        *,
        rebooted: bool = False,
    ) -> None:
        """Starts a process again, under a new epoch, and connects it. `rebooted`: its machine has
        started anew, too, so the age of the snapshot is unknown."""
        again = self[node]
        if again.up:
            self.crash(node)
        if rebooted:
            self.boots[node] = b"another boot"
        again.start(again.saved if memory == "snapshot" else None)
        self._connect_to_all(node)

    def join(self, node: str) -> None:
        """Starts a process under a name that is new, and connects it. Raises `CrdtbucketError` for
        a name that the mesh knows."""
        if node in self.nodes:
            raise CrdtbucketError(f"there is a node {node!r} already: `restart` starts it again")
        self.nodes[node] = SimulatedNode(self, node, 0, 0.0)
        self._connect_to_all(node)

    def suspend(self, node: str, seconds: float, *, unread: float = 0.0) -> None:
        """The process stands still while its clock goes on. What arrives is read afterwards: at
        once, or `unread` seconds later. In these seconds it decides calls, and half way through it
        sends a round, as an event loop may do that serves timers and callers before its sockets."""
        self[node].stop(round(seconds * NS), round(unread * NS))

    # ---- network ----

    def send(self, source: SimulatedNode, frames: Frames) -> None:
        """Puts frames on the way."""
        for target, data in frames:
            self.frames_sent += 1
            self.bytes_sent += len(data)
            way, epochs = (source.name, target), (source.epochs, self.nodes[target].epochs)
            for at in self.arrivals(way):
                self.schedule(at, self._deliver, way, epochs, data)

    def _deliver(self, way: tuple[str, str], epochs: tuple[int, int], data: bytes) -> None:
        (source, target), (source_epochs, target_epochs) = way, epochs
        node = self.nodes[target]
        if not self.passes(source, target):
            return
        if source_epochs != self.nodes[source].epochs:
            return
        self._trace.update(f"{self.now_ns} {source} {target} {len(data)} ".encode() + data)
        node.arrive(source, target_epochs, data)

    def _connect(self, first: str, second: str, first_epochs: int, second_epochs: int) -> None:
        one, two = self.nodes[first], self.nodes[second]
        if one.epochs != first_epochs or two.epochs != second_epochs or not one.up or not two.up:
            return
        open_ = self.passes(first, second) and self.passes(second, first)
        if not open_ or max(one.suspended_until, two.suspended_until) > self.now_ns:
            self._connect_later(first, second)
            return
        for here, there in ((one, two), (two, one)):
            local = here.local_ns(self.now_ns)
            here.table.set_time(local)
            there.table.set_time(there.local_ns(self.now_ns))
            try:
                here.node.connected(there.node.info, local)
            except NodeConflict:
                self._connect_later(first, second)
                return

    def _connect_to_all(self, node: str) -> None:
        for name in self.nodes:
            if name != node:
                self._connect_soon(node, name)

    def _connect_soon(self, first: str, second: str) -> None:
        at = self.now_ns + round(3 * self.settings.latency * NS)
        epochs = self.nodes[first].epochs, self.nodes[second].epochs
        self.schedule(at, self._connect, first, second, *epochs)

    def _connect_later(self, first: str, second: str) -> None:
        epochs = self.nodes[first].epochs, self.nodes[second].epochs
        self.schedule(self.now_ns + RETRY_NS, self._connect, first, second, *epochs)

    def _gone(self, name: str, dead: str, epochs: int) -> None:
        """The node `name` sees that the connections of a killed process end, which its kernel
        does."""
        node = self.nodes[name]
        link = node.node.links.get(dead)
        if not node.up or link is None:
            return
        again = self.nodes[dead]
        if again.up and link.info.epoch == again.node.info.epoch:
            return
        if again.epochs - epochs > 1:
            return
        if self.cut(name, dead) and not self._resets:
            self.schedule(self.now_ns + RETRY_NS, self._gone, name, dead, epochs)
            return
        self._end(name, dead)

    def _end(self, name: str, other: str) -> None:
        """The connection of `name` with `other` has ended from the other side; it calls again."""
        node = self.nodes[name]
        link = node.node.links.get(other)
        if not node.up or link is None or not link.connected:
            return
        local = node.local_ns(self.now_ns)
        node.table.set_time(local)
        node.node.disconnected(other, local, ended=True)
        self.schedule(self.now_ns + CALL_NS, self._call, name, other, node.epochs)

    def _call(self, name: str, other: str, epochs: int) -> None:
        """Calls a peer that is not linked. Where they can reach each other, `_connect` makes the
        link."""
        node, peer = self.nodes[name], self.nodes[other]
        link = node.node.links.get(other)
        if node.epochs != epochs or not node.up or link is None or link.connected:
            return
        if link.gone:
            return
        self.schedule(self.now_ns + CALL_NS, self._call, name, other, epochs)
        if node.suspended_until > self.now_ns:
            return
        answered = peer.up and not self.cut(name, other) and peer.suspended_until <= self.now_ns
        if not answered:
            silent = peer.suspended_until > self.now_ns if peer.up else False
            refused = self._resets if self.cut(name, other) else not silent
            node.node.dial_failed(other, "", node.local_ns(self.now_ns), refused=refused)
