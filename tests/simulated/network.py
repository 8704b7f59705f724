"""A simulated network on which connections end as those of TCP do, and links form any graph.

A connection is one object at both ends. It ends at one end when a FIN or a reset comes, or when the
transport there gives it up after `SILENT_NS` without a frame. A frame to an end that is not there
is answered by a reset, unless the host is lost or the way back is cut. A node that has lost a
connection dials again; the answer is a new connection, a refusal, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from crdtbucket._core import Table
from crdtbucket.errors import NodeConflict
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing.simulated_mesh import RETRY_NS
from crdtbucket.testing.simulated_node import NS, SimulatedNode
from tests.simulated.shared_tables import SharedTables
from tests.simulated.ways import Way, Ways

if TYPE_CHECKING:
    from tests.simulated.hostile import HostileMember

SILENT_NS = 15 * NS
"""After so long without a frame, the transport gives a connection up."""
LAST_RETRY_NS = 2 * NS


class Connection:
    """One connection, known by identity. `epochs`: by name, the number of the process at each
    end."""

    def __init__(self, epochs: dict[str, int]) -> None:
        self.epochs = epochs
        self.heard: dict[str, int] = {}


class Network(Ways):
    """A mesh with given links; ways may be cut one by one, and nodes come and go."""

    def __init__(
        self,
        names: Iterable[str],
        buckets: Iterable[BucketSpec],
        *,
        linked: Iterable[Way],
        slow: Iterable[tuple[Way, float]] = (),
        hosts: Iterable[str] = (),
        **options: Any,
    ):
        """`hosts`: nodes that are hosts whose processes share a table."""
        self.linked = {frozenset(pair) for pair in linked}
        self.slow = dict(slow)
        """Seconds that every frame takes longer on a way."""
        self.hostile: dict[str, HostileMember] = {}
        """Members that keep to no rule, by name; what is sent to them arrives at once."""
        self.hosts = frozenset(hosts)
        self.leaderless: set[str] = set()
        """Hosts on which no process runs the mesh, while others go on taking."""
        self._tables = SharedTables()
        self.lost: set[str] = set()
        """Nodes whose host is gone: nothing there says that a process has ended."""
        self.open: dict[Way, Connection] = {}
        """The connection of the first node of a way with the second, as the first one sees it."""
        self.timed_out: set[Way] = set()
        """Ways whose first node gave up its connection with the second one, since that was silent;
        they have no other connection yet."""
        self.newest: dict[Way, tuple[Connection, int]] = {}
        """Of each way, the connection of the newest frame that has arrived, and when it was sent
        (ns)."""
        self.timely: dict[Way, tuple[Connection, int]] = {}
        """The same for the newest frame that was not held."""
        self.unlinked_ns = 0
        """The sum of the times (ns) for which pairs had no connection after one of the two
        began."""
        self._unlinked: dict[frozenset[str], int] = {}
        self._dialling: set[frozenset[str]] = set()
        self._peers: dict[str, list[str]] = {}
        """The answers of `peers`, until a link is added."""
        super().__init__(names, buckets, None, **options)

    # ---- what a plan does ----

    def cut_ways(self, ways: Iterable[Way], *, times_out: bool) -> None:
        """From now on no frame passes these ways. `times_out`: the transports notice the
        silence."""
        for way in ways:
            self._cut[way] += 1
            if times_out:
                self.schedule(self.now_ns + SILENT_NS, self._silence, *way)

    def reset_pairs(self, ways: Iterable[Way]) -> None:
        """A device in between resets the connections of these pairs, and answers their dials by
        resets."""
        for pair in dict.fromkeys(map(frozenset, ways)):  # in an order that is always the same
            self._resetting[pair] += 1
            for here, there in (sorted(pair), sorted(pair, reverse=True)):
                self._lose(here, there, self.open.get((here, there)))

    def link(self, first: str, second: str) -> None:
        """Two running nodes learn of each other."""
        self._add_links(first, [second])
        self._dial_all(first)

    def come(self, name: str, linked: Iterable[str], offset: float, ppm: float) -> None:
        """Starts a process under a new name, which dials these nodes."""
        self.nodes[name] = SimulatedNode(self, name, round(offset * NS), ppm)
        self._add_links(name, linked)
        self._dial_all(name)

    def _add_links(self, name: str, others: Iterable[str]) -> None:
        for other in others:
            self.linked.add(frozenset((name, other)))
            self._peers.pop(other, None)
        self._peers.pop(name, None)

    def back(self, name: str, memory: bytes | None) -> None:
        """Starts a process under a name that was there before, with or without a snapshot."""
        self.lost.discard(name)
        self.leaderless.discard(name)
        self.nodes[name].suspended_until = 0
        self.nodes[name].start(memory)
        self._dial_all(name)

    def die(self, name: str, *, ends: bool) -> None:
        """The process ends at once. `ends`: its host ends its connections; else all is silent."""
        self.nodes[name].up = False
        if not ends:
            self._tables.lose(name)
        self._end_all(name, ends=ends)

    def lose_leader(self, name: str) -> None:
        """The process of a host that runs the mesh is killed. The others go on taking."""
        node = self.nodes[name]
        if self._runs(name):
            node.use(
                self._tables.join(name, self.settings.max_keys),
                [bucket.spec for bucket in node.buckets.values()],
            )
            self.leaderless.add(name)
            self._end_all(name, ends=True)

    def lead(self, name: str) -> None:
        """Another process of the host runs the mesh."""
        if name in self.leaderless:
            self.leaderless.remove(name)
            if self.nodes[name].up:
                self.nodes[name].run_mesh()
                self.nodes[name]._wake()
                self._dial_all(name)

    def _end_all(self, name: str, *, ends: bool) -> None:
        """All connections of a process end, as its host says, or are silent."""
        for there in self.peers(name):
            self._linked_at_last(name, there)
            line = self.open.pop((name, there), None)
            if ends:
                self._say_end(name, there, line)
            else:
                self.lost.add(name)
                self.schedule(self.now_ns + SILENT_NS, self._silence, name, there)

    def leave(self, name: str) -> None:
        """The process says goodbye and ends."""
        if self._runs(name):
            node = self.nodes[name]
            local = node.local_ns(self.now_ns)
            node.table.set_time(local)
            for frames in node.node.leave(local):
                self.send(node, frames)
        self.die(name, ends=True)

    def new_table(self, name: str, epoch: int) -> Table:
        if name not in self.hosts:
            return super().new_table(name, epoch)
        most = self.settings.max_keys
        now = self.nodes[name].local_ns(self.now_ns) if name in self.nodes else 0
        return self._tables.begin(name, max_keys=most, epoch=epoch, now=now)

    # ---- what is so ----

    def _runs(self, name: str) -> bool:
        """Whether the node has a process that runs the mesh."""
        return self.nodes[name].up and name not in self.leaderless

    def peers(self, name: str) -> list[str]:
        """The nodes that this one is linked with, connected or not."""
        if (known := self._peers.get(name)) is None:
            known = [other for other in self.nodes if frozenset((name, other)) in self.linked]
            self._peers[name] = known
        return known

    # ---- frames ----

    def send(self, source: SimulatedNode, frames: Iterable[tuple[str, bytes]]) -> None:
        for target, data in frames:
            if target in self.hostile:
                self.hostile[target].arrive(source.name, 0, data)
                continue
            way = (source.name, target)
            line = self.open.get(way)
            if line is None:
                continue  # there is no connection, as in the transport
            self.frames_sent += 1
            for at in self.arrivals(way):
                self.schedule(at, self._arrive, way, line, data, self.now_ns)

    def _arrive(self, way: Way, line: Connection, data: bytes, sent: int) -> None:
        source, target = way
        if not self.passes(source, target):
            return
        node = self.nodes[target]
        if not node.up or self.open.get((target, source)) is not line:
            if target not in self.lost:
                self._say_end(target, source, line)
            return
        line.heard[target] = self.now_ns
        if (before := self.newest.get(way)) is None or before[0] is not line or before[1] < sent:
            self.newest[way] = line, sent
        held = not node.reads  # a node that stands still reads its frames later
        longest = self.settings.latency * (1 + self.settings.jitter) + self.slow.get(way, 0.0)
        if not held and self.now_ns - sent <= longest * NS:
            self.timely[way] = line, sent
        self._trace.update(f"{self.now_ns} {source} {target} {len(data)} ".encode() + data)
        node.arrive(source, line.epochs[target], data)

    def _arrival(self, way: Way) -> int:
        return super()._arrival(way) + round(self.slow.get(way, 0.0) * NS)

    # ---- connections ----

    def _connect(self, first: str, second: str, first_epochs: int, second_epochs: int) -> None:
        """Connects every linked pair; this is used at the start alone."""
        if frozenset((first, second)) in self.linked:
            self._join(first, second)

    def _dial_all(self, name: str) -> None:
        for other in self.peers(name):
            if self._runs(other) and (name, other) not in self.open:
                self._unlinked[frozenset((name, other))] = self.now_ns
            self._dial_later(name, other, 3 * round(self.settings.latency * NS))

    def _dial_later(self, first: str, second: str, after: int = RETRY_NS) -> None:
        pair = frozenset((first, second))
        if pair not in self._dialling:
            self._dialling.add(pair)
            self.schedule(self.now_ns + after, self._dial, first, second, after)

    def _dial(self, first: str, second: str, pause: int) -> None:
        """Each of the two that has no connection dials once."""
        self._dialling.discard(frozenset((first, second)))
        one, two = self.nodes[first], self.nodes[second]
        line = self.open.get((first, second))
        ups = self._runs(first), self._runs(second)
        if not any(ups) or (line and line is self.open.get((second, first))):
            return
        stopped = max(one.suspended_until, two.suspended_until) > self.now_ns
        both = self.flows(first, second) and self.flows(second, first)
        if all(ups) and both and not stopped and self._join(first, second):
            return
        for here, there in ((first, second), (second, first)):
            if self._runs(here) and (here, there) not in self.open:
                self._dial_failed(here, there, refused=self._refuses(here, there))
        self._dial_later(first, second, max(RETRY_NS, min(2 * pause, LAST_RETRY_NS)))

    def _refuses(self, here: str, there: str) -> bool:
        """Whether a dial is answered by a reset, of a device or of a host without the process."""
        nobody = not self._runs(there) and there not in self.lost
        answers = self.flows(here, there) and self.flows(there, here)
        return bool(self._resetting[frozenset((here, there))]) or (answers and nobody)

    def _join(self, first: str, second: str) -> bool:
        """Makes a connection. Returns False where a node refuses it, since two have the same
        name."""
        line = Connection({name: self.nodes[name].epochs for name in (first, second)})
        line.heard = {first: self.now_ns, second: self.now_ns}
        for here, there in ((first, second), (second, first)):
            if (here, there) in self.open:
                self._lose(here, there, self.open[here, there])  # the new one takes its place
            self.nodes[there].table.set_time(self.nodes[there].local_ns(self.now_ns))
            try:
                self.nodes[here].node.connected(self.nodes[there].node.info, self._at(here))
            except NodeConflict:
                self._lose(there, here, self.open.get((there, here)))
                return False
            self.open[here, there] = line
            self.timed_out.discard((here, there))
        self._linked_at_last(first, second)
        return True

    def _linked_at_last(self, first: str, second: str) -> None:
        pair = frozenset((first, second))
        self.unlinked_ns += self.now_ns - self._unlinked.pop(pair, self.now_ns)

    def _say_end(self, here: str, there: str, line: Connection | None) -> None:
        """A FIN or a reset goes from `here` to `there` after all frames, if it gets through."""
        if line is not None and self.passes(here, there):
            due = self._arrival((here, there))
            at = max(due, self._arrived.get((here, there), 0))
            self.schedule(at, self._end_comes, here, there, line)

    def _end_comes(self, here: str, there: str, line: Connection) -> None:
        if self.passes(here, there):
            self._lose(there, here, line)

    def _silence(self, source: str, target: str) -> None:
        """The transport of the target gives up its connection to the source, if it has been
        silent."""
        line = self.open.get((target, source))
        if line is None or not self.nodes[target].up:
            return
        due = line.heard[target] + SILENT_NS
        if due > self.now_ns:
            if not self.passes(source, target) or source in self.lost:
                self.schedule(due, self._silence, source, target)
            return
        self._lose(target, source, line, by_silence=True)
        if source not in self.lost:
            self._say_end(target, source, line)

    # ---- the one place where the protocol machine is told how connections end ----

    def _lose(
        self, here: str, there: str, line: Connection | None, *, by_silence: bool = False
    ) -> None:
        """The connection has ended at this end: the peer or a device ended it, or, `by_silence`,
        the transport here gave it up."""
        if line is None or self.open.get((here, there)) is not line:
            return
        del self.open[here, there]
        if by_silence:
            self.timed_out.add((here, there))
        node = self.nodes[here]
        if node.up:
            node.node.disconnected(there, self._at(here), ended=not by_silence)
            self._dial_later(here, there)

    def _dial_failed(self, here: str, there: str, *, refused: bool) -> None:
        """A dial failed: it was refused at once, or nothing answered."""
        self.nodes[here].node.dial_failed(there, "", self._at(here), refused=refused)

    def _at(self, name: str) -> int:
        node = self.nodes[name]
        local = node.local_ns(self.now_ns)
        node.table.set_time(local)
        return local
