"""A mesh in memory: real core, real protocol, real codec; clock and network are simulated."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

from crdtbucket.errors import CrdtbucketError, NodeConflict
from crdtbucket.limiter.factory import checked_specs
from crdtbucket.mesh.protocol.protocol_node import Frames
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing.held_frames import HeldFrames
from crdtbucket.testing.simulated_node import NS, SimulatedNode
from crdtbucket.testing.simulation_settings import SimulationSettings

RETRY_NS = NS // 2
"""A connection that could not be made is tried again after this."""
CALL_NS = NS
"""A peer whose connection ended is called this often."""


class SimulatedMesh:
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
        self.settings = settings = replace(settings or SimulationSettings(), **changes)
        self.specs = list(checked_specs(buckets))
        self.random = random.Random(settings.seed)
        self.now_ns = 0
        self.bytes_sent = self.frames_sent = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0
        self._groups: list[set[str]] = []
        self.boots: dict[str, bytes] = {}
        """What names the boot of a node's machine, where that is not this machine's own."""
        self._resets = False
        self._deaf: set[tuple[str, str]] = set()
        self._held = HeldFrames()
        self._arrived: dict[tuple[str, str], int] = {}
        self._trace = hashlib.blake2b(digest_size=16)
        names = list(nodes)
        if not names or len(set(names)) < len(names):
            raise CrdtbucketError(f"a mesh has one node or more, each with its own name: {names}")
        self.config = settings.mesh_config(len(names))
        offsets, drifts, down = settings.clock_offsets, settings.clock_drift_ppm, set(settings.down)
        _check_names(names, *offsets, *drifts, *down)
        self.nodes: dict[str, SimulatedNode] = {}
        for name in names:
            offset_ns = round(offsets.get(name, 0.0) * NS)
            self.nodes[name] = SimulatedNode(self, name, offset_ns, drifts.get(name, 0.0))
            self.nodes[name].up = name not in down
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                self._connect(first, second, self.nodes[first].epochs, self.nodes[second].epochs)
        for node in self.nodes.values():
            if node.up:  # a mesh that has been running: only what starts later is warming up
                node.node.remember(node.local_ns(0))

    def __getitem__(self, name: str) -> SimulatedNode:
        _check_names(self.nodes, name)
        return self.nodes[name]

    @property
    def trace(self) -> str:
        """A digest of all that was delivered so far: times, nodes and bytes."""
        return self._trace.hexdigest()

    # ---- events ----

    def change_network(self, **changes: float) -> None:
        """Frames that are sent from now on meet another network: `changes` are `latency`, `jitter`,
        `loss`, `duplication` and `reordering`, as in `SimulationSettings`."""
        self.settings = replace(self.settings, **changes)  # type: ignore[arg-type]

    def advance(self, seconds: float) -> None:
        """Lets so much time pass, 0 or more, and everything that falls due in it."""
        if not seconds >= 0:
            raise CrdtbucketError(f"time does not go back: seconds is {seconds!r}")
        self.advance_to(self.now_ns + round(seconds * NS))

    def advance_to(self, until: int) -> None:
        """Lets time pass up to `until` ns since the start."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            at, _, act, args = heapq.heappop(queue)
            if at > self.now_ns:
                self.now_ns = at
            act(*args)
        self.now_ns = max(self.now_ns, until)

    def partition(self, *groups: Iterable[str]) -> None:
        """No frame passes between two of these groups; nodes that are in none see everybody.
        Connections stay as they are, and calls get no answer: nobody can tell it from silence."""
        sides = [set(group) for group in groups]
        _check_names(self.nodes, *(name for side in sides for name in side))
        self._groups, self._resets = sides, False

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

    def drop_frames(self, *ways: tuple[str, str]) -> None:
        """Every frame from the first to the second node of each of these is lost, until `heal`."""
        _check_names(self.nodes, *(name for way in ways for name in way))
        self._deaf |= set(ways)

    def stall(self, seconds: float, drain: float = 0.0, *ways: tuple[str, str]) -> None:
        """Frames from the first to the second node of each of these, or all frames, are held for so
        long. Then they come in their order: at once, or within `drain` seconds, so that each is a
        little less late than the one before. None is lost."""
        _check_names(self.nodes, *(name for way in ways for name in way))
        self._held.add(ways or None, self.now_ns, round(seconds * NS), round(drain * NS))

    def heal(self) -> None:
        """Frames pass everywhere again. What stalls goes on to stall."""
        severed = self._groups if self._resets else []
        self._groups, self._resets, self._deaf = [], False, set()
        names = [name for name in self.nodes if any(name in side for side in severed)]
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                self._connect_soon(one, other)

    def crash(self, node: str) -> None:
        """The process is killed. What it held is saved as a snapshot that a restart may use."""
        dead = self[node]
        dead.table.set_time(dead.local_ns(self.now_ns))
        dead.saved = b"".join(dead.node.snapshot())
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
        started anew, too, so that nobody can tell how old the snapshot is."""
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

    def suspend(self, node: str, seconds: float) -> None:
        """The process stands still; its clock goes on, and what arrives is read afterwards."""
        stopped = self[node]
        stopped.suspended_until = self.now_ns + round(seconds * NS)

    # ---- network ----

    def schedule(self, at: int, act: Callable[..., None], *args: object) -> None:
        """Something happens at `at` ns; what was scheduled first comes first."""
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, act, args))

    def cut(self, first: str, second: str) -> bool:
        """Whether a partition lies between two nodes."""
        if not self._groups:
            return False
        sides = [group for group in self._groups if first in group or second in group]
        return len(sides) > 1

    def send(self, source: SimulatedNode, frames: Frames) -> None:
        """Puts frames on the way."""
        for target, data in frames:
            self.frames_sent += 1
            self.bytes_sent += len(data)
            way, epochs = (source.name, target), (source.epochs, self.nodes[target].epochs)
            for at in self.arrivals(way):
                self.schedule(at, self._deliver, way, epochs, data)

    def arrivals(self, way: tuple[str, str]) -> Iterator[int]:
        """The times (ns) at which a frame that is sent now arrives: none when it is lost, two when
        it is duplicated."""
        settings, draw = self.settings, self.random.random
        copies = 2 if settings.duplication and draw() < settings.duplication else 1
        for _ in range(copies):
            if settings.loss and draw() < settings.loss:
                continue
            at = self._held.arrival(way, self.now_ns + self._delay())
            if not settings.reordering or draw() >= settings.reordering:
                at = self._arrived[way] = max(at, self._arrived.get(way, 0))
            yield at

    def _delay(self) -> int:
        latency, jitter = self.settings.latency, self.settings.jitter
        return round(latency * (1 - jitter + 2 * jitter * self.random.random()) * NS)

    def _deliver(self, way: tuple[str, str], epochs: tuple[int, int], data: bytes) -> None:
        (source, target), (source_epochs, target_epochs) = way, epochs
        node = self.nodes[target]
        if self.cut(source, target) or way in self._deaf:
            return
        if source_epochs != self.nodes[source].epochs:
            return
        self._trace.update(f"{self.now_ns} {source} {target} {len(data)} ".encode() + data)
        node.arrive(source, target_epochs, data)

    def _connect(self, first: str, second: str, first_epochs: int, second_epochs: int) -> None:
        one, two = self.nodes[first], self.nodes[second]
        if one.epochs != first_epochs or two.epochs != second_epochs or not one.up or not two.up:
            return
        cut = self.cut(first, second) or {(first, second), (second, first)} & self._deaf
        if cut or max(one.suspended_until, two.suspended_until) > self.now_ns:
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
        """The kernel of a process that was killed ends its connections: `name` sees that."""
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
        """The connection of `name` with `other` has ended, and not on this side; it calls again."""
        node = self.nodes[name]
        link = node.node.links.get(other)
        if not node.up or link is None or not link.connected:
            return
        local = node.local_ns(self.now_ns)
        node.table.set_time(local)
        node.node.disconnected(other, local, ended=True)
        self.schedule(self.now_ns + CALL_NS, self._call, name, other, node.epochs)

    def _call(self, name: str, other: str, epochs: int) -> None:
        """Calls a peer that is not linked; where that could be, `_connect` makes the link."""
        node, peer = self.nodes[name], self.nodes[other]
        link = node.node.links.get(other)
        if node.epochs != epochs or not node.up or link is None or link.connected:
            return
        if link.left or link.forgotten:
            return
        self.schedule(self.now_ns + CALL_NS, self._call, name, other, epochs)
        if node.suspended_until > self.now_ns:
            return
        answered = peer.up and not self.cut(name, other) and peer.suspended_until <= self.now_ns
        if not answered:
            silent = peer.suspended_until > self.now_ns if peer.up else False
            refused = self._resets if self.cut(name, other) else not silent
            node.node.dial_failed(other, "", node.local_ns(self.now_ns), refused=refused)


def _check_names(known: Iterable[str], *names: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise CrdtbucketError(f"no node {name!r}; there are: {', '.join(known)}")
