"""A mesh in memory: real core, real protocol, real codec; only clock and network are simulated.

    >>> from crdtbucket import BucketSpec
    >>> from crdtbucket.testing import SimulatedMesh
    >>> mesh = SimulatedMesh(["eu", "us"], [BucketSpec("api", capacity=100, refill_rate=1)])
    >>> mesh["eu"].take("api", "tenant-42", 60).allowed
    True
    >>> mesh.advance(1.0)
    >>> mesh["us"].peek("api", "tenant-42").remaining
    40

The same seed gives the same trace, byte for byte.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.errors import CrdtbucketError, NodeConflict, UnknownBucket
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.machine import Frames, MeshNode
from crdtbucket.spec.bucket_spec import BucketSpec, canonical_name

if TYPE_CHECKING:
    from crdtbucket.limiter.facade import Limiter

B = TypeVar("B", bound=BucketCore)
NS = 1_000_000_000
START_NS = 1_000 * NS
"""What a clock without an offset shows at the start."""
RETRY_NS = NS // 2
"""A connection that could not be made is tried again after this."""
CALL_NS = NS
"""A peer whose connection ended is called this often."""


class SimulatedNode:
    """One node: takes and looks at its buckets at the mesh's present time."""

    def __init__(self, mesh: SimulatedMesh, name: str, offset_ns: int, drift_ppm: float) -> None:
        self._mesh = mesh
        self.name = name
        self._offset, self._ppb = START_NS + offset_ns, round(drift_ppm * 1000)
        self.up = False
        self.suspended_until = 0
        self.life = 0
        self.held: list[Callable[[], None]] = []
        self.saved: bytes | None = None
        self.woken = 0
        self.start(None)

    # ---- for users ----

    def take(self, bucket: str, key: str | bytes, cost: int = 1) -> Decision:
        """A take of `cost` tokens here and now."""
        return self.bucket(bucket).take(key, cost)

    def take_burst(self, bucket: str, key: str | bytes, calls: int, cost: int = 1) -> int:
        """`calls` takes at once; how many were allowed."""
        return self.bucket(bucket).take_burst(key, calls, cost)

    def peek(self, bucket: str, key: str | bytes, cost: int = 1) -> Decision:
        """The Decision that a take would get; `remaining` is the level in whole tokens."""
        return self.bucket(bucket).peek(key, cost)

    def refund(self, decision: Decision, tokens: int | None = None) -> int:
        """Gives tokens of a decision back; how many came back."""
        self._present()
        return self._by_decision(decision).refund(decision, tokens)

    def settle(self, bucket: str, key: str | bytes, tokens: int) -> int:
        """Charges the true cost of something served."""
        return self.bucket(bucket).settle(key, tokens)

    def columns(self, bucket: str, key: str | bytes) -> dict[str, tuple[int, int]]:
        """What is counted here for the key: {node: (taken, refunded)}, a node's epochs summed."""
        names = self.node.names()
        out: dict[str, tuple[int, int]] = {}
        core = self.bucket(bucket)
        core = core.of(key) if isinstance(core, Bucket) else core
        for (number, _), (_, taken, refunded) in core.columns(key).items():
            before = out.get(names[number], (0, 0))
            out[names[number]] = (before[0] + taken, before[1] + refunded)
        return out

    def bucket(self, name: str) -> BucketCore:
        """The bucket itself, its clock set to the present."""
        self._present()
        try:
            return self.buckets[canonical_name(name)]
        except KeyError:
            raise UnknownBucket(name, self.buckets) from None

    # ---- for the mesh ----

    def local_ns(self, now: int) -> int:
        """This node's clock at a time of the mesh."""
        return self._offset + now + now * self._ppb // NS

    def mesh_ns(self, local: int) -> int:
        """The first time of the mesh at which this node's clock shows `local` or later."""
        return -(-(local - self._offset) * NS // (NS + self._ppb))

    def start(self, memory: bytes | None) -> None:
        """A new process, with or without a snapshot."""
        mesh = self._mesh
        self.life += 1
        self.woken = 0  # what the life before was to be woken for wakes nobody
        epoch = mesh.random.getrandbits(64) | 1
        self.table = Table(max_keys=mesh.max_keys, hash_key=bytes(16), virtual=True, epoch=epoch)
        self.table.set_time(self.local_ns(mesh.now_ns))
        self.buckets: dict[str, BucketCore] = {}
        for spec in mesh.specs:
            if spec.overrides:
                self._define(Bucket, spec).set_overrides(
                    (glob, self._define(Bucket, one)) for glob, one in spec.overrides
                )
            else:
                self._define(BucketCore, spec)
        seed = mesh.random.getrandbits(64)
        self.node = MeshNode(self.table, mesh.config, name=self.name, region=self.name, seed=seed)
        self.table.configure(predict=mesh.prediction)
        self.node.on_wake = self._wake
        if memory is not None:
            self.node.restore(memory, mesh.boots.get(self.name))
        self.up = True
        self._wake()

    def _define(self, kind: type[B], spec: BucketSpec) -> B:
        mesh = self._mesh
        debt = round(4 * spec.rate_per_second * (mesh.latency + mesh.config.gossip_interval))
        bucket = self.buckets[spec.key] = kind(self.table, spec, min_debt=debt)
        return bucket

    def _present(self) -> None:
        if not self.up:
            raise CrdtbucketError(f"node {self.name!r} is down")
        if self.suspended_until > self._mesh.now_ns:
            raise CrdtbucketError(f"node {self.name!r} is suspended")
        self.table.set_time(self.local_ns(self._mesh.now_ns))

    def _by_decision(self, decision: Decision) -> BucketCore:
        bucket: BucketCore = decision.bucket
        if bucket.table is not self.table:
            raise CrdtbucketError("the decision is another node's, or of an earlier life")
        return bucket

    def _wake(self) -> None:
        due = self.mesh_ns(self.node.next_tick(self.local_ns(self._mesh.now_ns)))
        if not self._mesh.now_ns < self.woken <= due:
            self.woken = max(due, self._mesh.now_ns)
            self._mesh.schedule(self.woken, self._tick, self.life)

    def _tick(self, life: int) -> None:
        mesh = self._mesh
        if life != self.life or not self.up or mesh.now_ns != self.woken:
            return
        if self.suspended_until > mesh.now_ns:
            self.woken = self.suspended_until
            mesh.schedule(self.woken, self._tick, life)
            return
        while self.held:
            self.held.pop(0)()
        local = self.local_ns(mesh.now_ns)
        self.table.set_time(local)
        mesh.send(self, self.node.tick(local))
        self.woken = 0
        self._wake()

    def receive(self, source: str, life: int, data: bytes) -> None:
        """A frame has arrived."""
        if life != self.life or not self.up or source not in self.node.links:
            return
        local = self.local_ns(self._mesh.now_ns)
        self.table.set_time(local)
        self._mesh.send(self, self.node.receive(source, data, local))
        self._wake()


class SimulatedMesh:
    """A mesh of nodes under simulated time and network. Times in seconds, the rest as fractions.

    Each frame takes `latency` one way, more or less `jitter` of it. It is lost or sent twice with
    the given probabilities; `reordering` of the frames may overtake earlier ones, the others wait
    for them as on a TCP connection. `clock_offsets` (s) and `clock_drift_ppm` are by node.
    `prediction=False` switches the prediction of peers off, for comparison.
    """

    def __init__(
        self,
        nodes: Iterable[str],
        buckets: Iterable[BucketSpec],
        *,
        latency: float = 0.08,
        jitter: float = 0.5,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        gossip_interval: float = 0.1,
        seed: int = 0,
        clock_offsets: Mapping[str, float] | None = None,
        clock_drift_ppm: Mapping[str, float] | None = None,
        partition_trust: float | None = None,
        partition_burst: Literal["whole", "share"] = "whole",
        forget_after: float = 900.0,
        ended_is_dead: float | Literal["never"] = 10.0,
        prediction: bool = True,
        max_keys: int = 10_000,
        down: Iterable[str] = (),
    ) -> None:
        """Raises `CrdtbucketError` for a number out of its range and for a name of no node."""
        _check_numbers(latency=(latency, 60.0), jitter=(jitter, 1.0), loss=(loss, 1.0),
                       duplication=(duplication, 1.0), reordering=(reordering, 1.0))  # fmt: skip
        self.latency, self.jitter, self.loss = latency, jitter, loss
        self.duplication, self.reordering = duplication, reordering
        self.prediction, self.max_keys = prediction, max_keys
        self.specs = list(buckets)
        self.random = random.Random(seed)
        self.now_ns = 0
        self.bytes_sent = self.frames_sent = 0
        self._queue: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0
        self._groups: list[set[str]] = []
        self.boots: dict[str, bytes] = {}
        """What names the boot of a node's machine, where that is not this machine's own."""
        self._resets = False
        self._deaf: set[tuple[str, str]] = set()
        self._arrived: dict[tuple[str, str], int] = {}
        self._trace = hashlib.blake2b(digest_size=16)
        names = list(nodes)
        if not names or len(set(names)) < len(names):
            raise CrdtbucketError(f"a mesh has one node or more, each with its own name: {names}")
        self.config = MeshConfig(
            peers=[f"127.0.0.1:{i + 1}" for i in range(len(names) - 1)],
            gossip_interval=gossip_interval,
            partition_trust=partition_trust,
            partition_burst=partition_burst,
            forget_after=forget_after,
            ended_is_dead=ended_is_dead,
        )
        offsets, drifts, down = clock_offsets or {}, clock_drift_ppm or {}, set(down)
        _check_names(names, *offsets, *drifts, *down)
        self.nodes: dict[str, SimulatedNode] = {}
        for name in names:
            offset_ns = round(offsets.get(name, 0.0) * NS)
            self.nodes[name] = SimulatedNode(self, name, offset_ns, drifts.get(name, 0.0))
            self.nodes[name].up = name not in down
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                self._connect(first, second, self.nodes[first].life, self.nodes[second].life)
        for node in self.nodes.values():
            if node.up:  # a mesh that has been running: only what starts later is cautious
                node.node.remember(node.local_ns(0))

    def __getitem__(self, name: str) -> SimulatedNode:
        _check_names(self.nodes, name)
        return self.nodes[name]

    @property
    def trace(self) -> str:
        """A digest of all that was delivered so far: times, nodes and bytes."""
        return self._trace.hexdigest()

    # ---- events ----

    def advance(self, seconds: float) -> None:
        """Lets time pass, and everything that falls due in it."""
        self.advance_to(self.now_ns + round(seconds * NS))

    def advance_to(self, until: int) -> None:
        """Lets time pass up to `until` ns since the start."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            at, _, act, args = heapq.heappop(queue)
            self.now_ns = max(self.now_ns, at)
            act(*args)
        self.now_ns = max(self.now_ns, until)

    def partition(self, *groups: Iterable[str]) -> None:
        """No frame passes between two of these groups; nodes that are in none hear everybody.
        Connections stay as they are, and calls get no answer: nobody can tell it from silence."""
        sides = [set(group) for group in groups]
        _check_names(self.nodes, *(name for side in sides for name in side))
        self._groups, self._resets = sides, False

    def sever(self, *groups: Iterable[str]) -> None:
        """A device between these groups resets every connection, and refuses every call: either
        side sees what it would see if the other had died. `heal` ends it."""
        self.partition(*groups)
        self._resets = True
        at = self.now_ns + round(self.latency * NS)
        for one in self.nodes:
            for other in self.nodes:
                if self.cut(one, other):
                    self.schedule(at, self._end, one, other)

    def drop_frames(self, *ways: tuple[str, str]) -> None:
        """Every frame from the first to the second node of each of these is lost, until `heal`."""
        _check_names(self.nodes, *(name for way in ways for name in way))
        self._deaf |= set(ways)

    def heal(self) -> None:
        """Frames pass everywhere again."""
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
        dead.saved = dead.node.snapshot()
        self.boots.pop(node, None)
        dead.up = False
        at = self.now_ns + round(self.latency * NS)
        for name in self.nodes:
            if name != node:
                self.schedule(at, self._gone, name, node, dead.life)

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
        sides = [group for group in self._groups if first in group or second in group]
        return len(sides) > 1

    def send(self, source: SimulatedNode, frames: Frames) -> None:
        """Puts frames on the way."""
        for target, data in frames:
            self.frames_sent += 1
            self.bytes_sent += len(data)
            way, lives = (source.name, target), (source.life, self.nodes[target].life)
            copies = 2 if self.duplication and self.random.random() < self.duplication else 1
            for _ in range(copies):
                if self.loss and self.random.random() < self.loss:
                    continue
                at = self.now_ns + self._delay()
                if not self.reordering or self.random.random() >= self.reordering:
                    at = self._arrived[way] = max(at, self._arrived.get(way, 0))
                self.schedule(at, self._deliver, way, lives, data)

    def _delay(self) -> int:
        return round(self.latency * (1 - self.jitter + 2 * self.jitter * self.random.random()) * NS)

    def _deliver(self, way: tuple[str, str], lives: tuple[int, int], data: bytes) -> None:
        (source, target), (source_life, target_life) = way, lives
        node = self.nodes[target]
        if self.cut(source, target) or way in self._deaf:
            return
        if source_life != self.nodes[source].life:
            return
        self._trace.update(f"{self.now_ns} {source} {target} {len(data)} ".encode() + data)
        if node.suspended_until > self.now_ns:
            node.held.append(lambda: node.receive(source, target_life, data))
        else:
            node.receive(source, target_life, data)

    def _connect(self, first: str, second: str, first_life: int, second_life: int) -> None:
        one, two = self.nodes[first], self.nodes[second]
        if one.life != first_life or two.life != second_life or not one.up or not two.up:
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
        at = self.now_ns + round(3 * self.latency * NS)
        lives = self.nodes[first].life, self.nodes[second].life
        self.schedule(at, self._connect, first, second, *lives)

    def _connect_later(self, first: str, second: str) -> None:
        lives = self.nodes[first].life, self.nodes[second].life
        self.schedule(self.now_ns + RETRY_NS, self._connect, first, second, *lives)

    def _gone(self, name: str, dead: str, life: int) -> None:
        """The kernel of a process that was killed ends its connections: `name` sees that."""
        node = self.nodes[name]
        link = node.node.links.get(dead)
        if not node.up or link is None:
            return
        again = self.nodes[dead]
        if again.up and link.info.epoch == again.node.info.epoch:
            return
        if again.life - life > 1:
            return
        if self.cut(name, dead) and not self._resets:
            self.schedule(self.now_ns + RETRY_NS, self._gone, name, dead, life)
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
        self.schedule(self.now_ns + CALL_NS, self._call, name, other, node.life)

    def _call(self, name: str, other: str, life: int) -> None:
        """Calls a peer that is not linked; where that could be, `_connect` makes the link."""
        node, peer = self.nodes[name], self.nodes[other]
        link = node.node.links.get(other)
        if node.life != life or not node.up or link is None or link.connected:
            return
        if link.left or link.forgotten:
            return
        self.schedule(self.now_ns + CALL_NS, self._call, name, other, life)
        if node.suspended_until > self.now_ns:
            return
        answered = peer.up and not self.cut(name, other) and peer.suspended_until <= self.now_ns
        if not answered:
            silent = peer.suspended_until > self.now_ns if peer.up else False
            refused = self._resets if self.cut(name, other) else not silent
            node.node.call_failed(other, "", node.local_ns(self.now_ns), refused=refused)


def _check_names(known: Iterable[str], *names: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise CrdtbucketError(f"no node {name!r}; there are: {', '.join(known)}")


def _check_numbers(**fields: tuple[float, float]) -> None:
    for field, (value, most) in fields.items():
        if not 0 <= value <= most:
            raise CrdtbucketError(f"{field} is {value!r}: it must be 0 to {most:g}")


def reset_fixture(limiter: Limiter) -> Any:
    """A pytest fixture that gives every limit of `limiter` back before and after each test.

    In `conftest.py`: `fresh_limits = reset_fixture(app.limiter)`. The tests need not name it.
    """
    import pytest  # only those who test have it

    @pytest.fixture(autouse=True)
    def fresh_limits() -> Iterator[None]:
        limiter.reset_all()
        yield
        limiter.reset_all()

    return fresh_limits
