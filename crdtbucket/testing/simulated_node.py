"""One node of a simulated mesh: the real table and protocol, under the mesh's simulated time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.base.clock import WallClock
from crdtbucket.errors import CrdtbucketError, UnknownBucket
from crdtbucket.limiter.bucket import Bucket
from crdtbucket.limiter.calendar_bucket import CalendarBucket
from crdtbucket.limiter.slots import SlotBucket
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.mesh.protocol.mesh_node import MeshNode
from crdtbucket.mesh.protocol.rounds import Frames
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import canonical_name
from crdtbucket.spec.globs import Choice
from crdtbucket.testing.simulated_network import SimulatedNetwork

B = TypeVar("B", bound=BucketCore)
NS = 1_000_000_000
START_NS = 1_000 * NS
"""The time that a clock without an offset shows at the start."""
WALL_NS = 1_800_000_000 * NS
"""The time that a right wall clock shows at the start."""


class NodeNetwork(SimulatedNetwork):
    """A network between nodes."""

    specs: list[BucketSpec]
    """The buckets of each node."""
    config: MeshConfig
    boots: dict[str, bytes]
    """Boot ids of nodes whose machine has started anew; all others have that of this machine."""

    @abstractmethod
    def send(self, source: SimulatedNode, frames: Frames) -> None:
        """Puts frames on the way."""

    def new_table(self, name: str, epoch: int) -> Table:
        """The table of a new process of this node."""
        most = self.settings.max_keys
        return Table(max_keys=most, hash_key=bytes(16), virtual=True, epoch=epoch)


class SimulatedNode:
    """One node: takes and looks at its buckets at the mesh's present time."""

    def __init__(self, mesh: NodeNetwork, name: str, offset_ns: int, drift_ppm: float) -> None:
        self._mesh = mesh
        self.name = name
        self._offset, self._ppb = START_NS + offset_ns, round(drift_ppm * 1000)
        self.up = False
        self.suspended_until = 0
        self.wall = WallClock(lambda: mesh.now_ns + self.wall_ahead_ns)
        """The wall clock of the node, for calendar quotas."""
        self.wall_ahead_ns = WALL_NS
        """How far the wall clock of its machine is ahead of the mesh's time."""
        self.epochs = 0
        """How many processes there have been under this name."""
        self.saved: bytes | None = None
        """The memory of the process that was killed last, as a snapshot."""
        self._waiting: list[Callable[[], None]] = []
        """Calls that receive the frames which arrived while the process stands still."""
        self._reads_at = 0
        """The time (ns of the mesh) from which the process reads arriving frames."""
        self._tick_at = 0
        """When the next tick is scheduled; 0 for never."""
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
        """The columns of the key that this node holds: {node: (taken, refunded)}, a node's epochs
        summed."""
        names = self.node.roster.names()
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
        """Starts a new process under this name, with or without a snapshot."""
        mesh = self._mesh
        self.use(mesh.new_table(self.name, mesh.random.getrandbits(64) | 1), mesh.specs)
        self.run_mesh()
        if memory is not None:
            self.node.memory.restore(memory, mesh.boots.get(self.name))
        self.up = True
        self._wake()

    def use(self, table: Table, specs: Iterable[BucketSpec]) -> None:
        """A new process takes from this table; nothing of the one before does anything any more."""
        self.epochs += 1
        self._tick_at = self._reads_at = 0
        self.table = table
        self.table.set_time(self.local_ns(self._mesh.now_ns))
        self.buckets: dict[str, BucketCore] = {}
        for spec in specs:
            if spec.slots is not None:
                self._define(SlotBucket, spec)
            elif spec.period is not None:
                self._define(partial(CalendarBucket, wall=self.wall), spec)
            elif spec.overrides:
                bucket = self._define(Bucket, spec)
                pairs = [(glob, self._define(Bucket, one)) for glob, one in spec.overrides]
                bucket.choose_by(Choice(pairs, bucket).of, [one for _, one in pairs])
            else:
                self._define(BucketCore, spec)
        defined = self.buckets.values()
        self._calendars = [one for one in defined if isinstance(one, CalendarBucket)]

    def run_mesh(self) -> None:
        """The process runs the mesh on its table."""
        mesh = self._mesh
        self.node = MeshNode(
            self.table,
            mesh.config,
            name=self.name,
            region=self.name,
            seed=mesh.random.getrandbits(64),
            shared=self.table.shared,
        )
        self.table.nodes.configure(predict=mesh.settings.prediction)
        self.node.set_waker(self._wake)

    def _define(self, kind: Callable[..., B], spec: BucketSpec) -> B:
        mesh = self._mesh
        lag = mesh.settings.latency + mesh.config.gossip_interval
        debt = round(4 * spec.rate_per_second * lag)
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
            raise CrdtbucketError("the decision is another node's, or of an earlier process")
        return bucket

    def _wake(self) -> None:
        due = self.mesh_ns(self.node.next_tick(self.local_ns(self._mesh.now_ns)))
        if not self._mesh.now_ns < self._tick_at <= due:
            self._tick_at = max(due, self._mesh.now_ns)
            self._mesh.schedule(self._tick_at, self._tick, self.epochs)

    def _tick(self, epochs: int) -> None:
        mesh = self._mesh
        if epochs != self.epochs or not self.up or mesh.now_ns != self._tick_at:
            return
        if (goes_on := self._goes_on) > mesh.now_ns:
            self._tick_at = goes_on
            mesh.schedule(self._tick_at, self._tick, epochs)
            return
        self._read()
        local = self.local_ns(mesh.now_ns)
        self.table.set_time(local)
        if self._calendars:
            shows = self.wall.machine_ns()
            self.wall.follow(shows - local + self.node.follow_wall(shows, local))
        for bucket in self._calendars:
            bucket.beat()
        mesh.send(self, self.node.tick(local))
        self._tick_at = 0
        self._wake()

    def stop(self, ns: int, unread: int) -> None:
        """The process stands still for so long, and then reads no frame for as long as `unread`."""
        self.suspended_until = self._mesh.now_ns + ns
        self._reads_at = self.suspended_until + unread
        if unread:
            self._mesh.schedule(self._reads_at, self._read)

    @property
    def _goes_on(self) -> int:
        """The time (ns of the mesh) of the first tick after the last pause."""
        return (self.suspended_until + max(self.suspended_until, self._reads_at)) // 2

    @property
    def reads(self) -> bool:
        """Whether a frame that arrives now is read at once."""
        return max(self.suspended_until, self._reads_at) <= self._mesh.now_ns

    def _read(self) -> None:
        """Reads what has arrived meanwhile, in its order."""
        while self._waiting and self.reads:
            self._waiting.pop(0)()

    def arrive(self, source: str, epochs: int, data: bytes) -> None:
        """A frame arrives that was sent to the process of this number: it is received now, or when
        the process reads again."""
        if not self.reads:
            self._waiting.append(lambda: self.receive(source, epochs, data))
        else:
            self.receive(source, epochs, data)

    def receive(self, source: str, epochs: int, data: bytes) -> None:
        """Receives a frame now, if it is still for the process that runs."""
        if epochs != self.epochs or not self.up or source not in self.node.links:
            return
        local = self.local_ns(self._mesh.now_ns)
        self.table.set_time(local)
        if frames := self.node.receive(source, data, local):
            self._mesh.send(self, frames)
