"""Plays a plan on a simulated mesh, while an oracle keeps books and judges."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from crdtbucket.mesh.protocol import membership
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.bounded import Bounded
from tests.simulated.drawing import draw
from tests.simulated.hostile import NAMES, HostileMember
from tests.simulated.irregular_events import IrregularEvents, lacking
from tests.simulated.network import Network
from tests.simulated.observing import observe
from tests.simulated.oracle import Oracle
from tests.simulated.plan import BURST_PART, Phase, Plan
from tests.simulated.scattered import ScatteredOperations
from tests.simulated.truth import Place

SECOND = 10**9
MAIN: Place = ("main", "key")

Act = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Run:
    """One run. `mesh` and `oracle` may be looked at when it has ended."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = random.Random(f"{plan.seed} player")
        loss, duplication, reordering = plan.loss
        clocks = list(zip(plan.nodes, plan.clocks, strict=True))
        late = lacking(plan)
        self.mesh = Network(
            plan.nodes,
            [plan.main] if late else [plan.main, plan.side],
            linked=plan.linked,
            slow=plan.slow,
            hosts=plan.hosts,
            latency=plan.latency,
            jitter=plan.jitter,
            loss=loss,
            duplication=duplication,
            reordering=reordering,
            gossip_interval=plan.gossip_interval,
            forget_after=plan.forget_after,
            seed=plan.seed,
            clock_offsets={name: offset for name, (offset, _) in clocks},
            clock_drift_ppm={name: ppm for name, (_, ppm) in clocks},
            max_keys=plan.max_keys,
        )
        self.irregular = IrregularEvents(self)
        if late:
            self.mesh.specs = [plan.main, plan.side]
            for name in sorted({*plan.nodes} - late):
                self.irregular.add(name)
        liars = NAMES[: plan.bad] if plan.has("lie") else ()
        self.bad = [HostileMember(self.mesh, MAIN, name) for name in liars]
        believed = self.bad or plan.has("write")
        self.oracle: Oracle | Bounded = (
            Bounded(plan, self.mesh, self.bad) if believed else Oracle(plan, self.mesh)
        )
        self.scattered = ScatteredOperations(self)
        self.saved: dict[str, bytes] = {}
        self.step = plan.step
        self._reloaded: dict[str, int] = {}
        """When each node gets the newest definition, ns."""
        self._raised: dict[str, int] = {}
        """Until when (local ns) each node keeps a ceiling of debt that a reload has raised."""
        self._behind: dict[str, BucketSpec] = {}
        """Nodes whose file still has this older definition."""
        self._owing = {name: self.random.random() for name in plan.nodes}
        """The part of a call by which the demand of each node is ahead of its calls."""
        self._waiting: dict[str, int] = {}
        """Calls that wait for a node that stands still, where they wait at all."""

    def play(self) -> Run:
        log_kept = mock.patch.object(membership, "HOLD_NS", round(self.plan.log_kept * SECOND))
        with log_kept, self.oracle.view.listening():
            for at, _, act, args in heapq.merge(
                self._demands(), self._happenings(), self._operations()
            ):
                self.mesh.advance_to(round(at * SECOND))
                act(*args)
            self.mesh.advance_to(round(self.plan.seconds * SECOND))
            self._waiting.clear()
            self.mesh.mend_all()
            for name in sorted(self.mesh.leaderless):
                self.mesh.lead(name)
            self.mesh.change_network(loss=0.0, duplication=0.0, reordering=0.0)
            self.oracle.finish()
        self.scattered.forget()
        return self

    # ---- what a run is made of: (time, tie-breaker, act, arguments), each in order of time ----

    def _demands(self) -> Iterator[Act]:
        for i in range(1, int(self.plan.seconds / self.step) + 1):
            yield i * self.step, 0, self.demand, (i * self.step,)

    def _happenings(self) -> Iterator[Act]:
        for phase in self.plan.phases:
            self.oracle.changes(phase.at)
        for event in self.plan.events:
            yield event.at, 1, self._happens, (event.what, event.args)

    def _operations(self) -> Iterator[Act]:
        for at in self.scattered.times():
            yield at, 2, self.scattered.operate, ()

    def _happens(self, what: str, args: tuple[Any, ...]) -> None:
        if what not in ("look", "write"):  # an observer changes nothing in a mesh
            self.oracle.happens(what, args)
        player = self if hasattr(self, f"do_{what}") else self.irregular
        getattr(player, f"do_{what}")(*args)

    def ready(self, name: str) -> SimulatedNode | None:
        node = self.mesh.nodes.get(name)
        if node is None or not node.up or node.suspended_until > self.mesh.now_ns:
            return None
        return node if node.table.refusal is None else None  # a hostile member has its name, too

    def cost(self, node: SimulatedNode) -> int:
        """The cost of a call on this node, whose limit may be another one during a roll-out."""
        return min(self.plan.cost, node.peek(*MAIN).limit)

    # ---- demand ----

    def demand(self, at: float) -> None:
        """Makes the calls of every node in one step."""
        phase = max((p for p in self.plan.phases if p.at < at), key=lambda p: p.at)
        asked = [(name, self._calls(number, name, phase, at)) for number, name in self._asked()]
        self.random.shuffle(asked)
        for name, calls in asked:
            if name in self._waiting and self.mesh.nodes[name].suspended_until > self.mesh.now_ns:
                self._waiting[name] += calls
            else:
                self._demand_of(name, calls)

    def _demand_of(self, name: str, calls: int) -> None:
        node = self.ready(name)
        if calls and node is not None:
            cost = self.cost(node)
            allowed = node.take_burst(*MAIN, calls, cost)
            self.oracle.took(node, MAIN, calls, cost, allowed)

    def _asked(self) -> Iterator[tuple[int, str]]:
        """Yields (number of its weight, name) of each node; later nodes have the weight of the
        first ones."""
        for number, name in enumerate(list(self.mesh.nodes)[: 2 * len(self.plan.nodes)]):
            yield number if number < len(self.plan.nodes) else 0, name

    def _calls(self, number: int, name: str, phase: Phase, at: float) -> int:
        plan = self.plan
        kind = plan.arrivals[0]
        rate = phase.amount * phase.weights[number]
        if kind == "bursts":
            rate = rate / BURST_PART if plan.in_burst(at) else 0.0
        if plan.storm is not None and plan.storm[0] == number and name in plan.nodes:
            rate += plan.storm[1]
        mean = rate * plan.main.rate_per_second * self.step / plan.cost
        if kind == "random":
            return _poisson(self.random, mean)
        owing = self._owing.get(name, 0.0) + mean
        self._owing[name] = owing - int(owing)
        return int(owing)

    # ---- events ----

    def do_cut(self, how: str, ways: tuple[tuple[str, str], ...], leaderless: str = "") -> None:
        """`leaderless`: a host whose ways these are; the process that ran the mesh is killed."""
        if leaderless:
            self.mesh.lose_leader(leaderless)
        if how == "resets":
            self.mesh.reset_pairs(ways)
        else:
            self.mesh.cut_ways(ways, times_out=how == "times out")

    def do_mend(self, how: str, ways: tuple[tuple[str, str], ...], leaderless: str = "") -> None:
        self.mesh.mend(ways, resets=how == "resets")
        if leaderless:
            self.mesh.lead(leaderless)

    def do_stall(self, held: float, drain: float, ways: tuple[tuple[str, str], ...]) -> None:
        self.mesh.stall(held, drain, *ways)

    def do_flow(self, ways: tuple[tuple[str, str], ...]) -> None:
        """The mesh opens the ways by itself; the oracle only notes that they are open."""

    def do_lie(self, kind: str, number: int) -> None:
        for one in self.bad:
            one.act(kind, number)

    def do_look(self, kind: str, number: int) -> None:
        observe(self.mesh, MAIN, kind, number, writes=False)

    def do_write(self, kind: str, number: int) -> None:
        before = self._owed()
        observe(self.mesh, MAIN, kind, number, writes=True)
        for name, owes in self._owed().items():
            if kind != "columns" and owes < before[name]:  # columns may bring refunds
                self.oracle.view.broken("observer", f"{kind}: {name} owes less: {before[name]} ns")

    def _owed(self) -> dict[str, int]:
        """The debt (ns) of each running node that has evicted no keys in debt."""
        nodes = [node for name in self.mesh.nodes if (node := self.ready(name))]
        kept = (node for node in nodes if not node.table.stats()["evicted_indebted"])
        return {node.name: node.peek(*MAIN).debt for node in kept}

    def do_save(self, name: str) -> None:
        node = self.mesh.nodes[name]
        if node.up and name not in self.mesh.leaderless:
            node.table.set_time(node.local_ns(self.mesh.now_ns))
            self.saved[name] = b"".join(node.node.memory.snapshot())

    def do_die(self, name: str, ends: bool) -> None:
        if self.mesh.nodes[name].up:
            self.mesh.die(name, ends=ends)

    def do_leave(self, name: str) -> None:
        if self.ready(name):
            self.mesh.leave(name)

    def do_return(self, name: str, remembers: bool) -> None:
        if not self.mesh.nodes[name].up:
            newest = self.mesh.specs
            old = self._behind.get(name)
            self.mesh.specs = [old if old and s.name == old.name else s for s in newest]
            self.mesh.back(name, self.saved.get(name) if remembers else None)
            self.mesh.specs = newest
            self.irregular.stage(name)

    def do_come(self, name: str, beside: tuple[str, ...], ppm: float) -> None:
        self.mesh.come(name, beside, self.random.uniform(0, 9), ppm)
        self.irregular.stage(name)

    def do_pause(self, name: str, seconds: float, unread: float) -> None:
        """`unread`: for so many seconds after the pause the node reads nothing; it begins with the
        calls that waited."""
        if not self.ready(name):
            return
        self.mesh.suspend(name, seconds, unread=unread)
        if unread:
            self._waiting[name] = 0
            node = self.mesh.nodes[name]
            self.mesh.schedule(node.suspended_until, self._go_on, name, node.epochs)

    def _go_on(self, name: str, epochs: int) -> None:
        waiting = self._waiting.pop(name, 0)
        if self.mesh.nodes[name].epochs == epochs:
            self._demand_of(name, waiting)

    def do_reload(
        self, spec: BucketSpec, step: float, keeps: bool, order: int, last: float
    ) -> None:
        """The nodes get the definition in the order that `order` gives, and the last one `last`
        seconds later. Until then that one starts again with the definition that it had."""
        before = {s.name: s for s in self.mesh.specs}[spec.name]
        self.mesh.specs = [spec if s.name == spec.name else s for s in self.mesh.specs]
        nodes = list(self.mesh.nodes)
        random.Random(order).shuffle(nodes)
        for i, name in enumerate(nodes):
            late = last if i == len(nodes) - 1 else 0.0
            at = self.mesh.now_ns + round((i * step + late) * SECOND)
            at = self._reloaded[name] = max(at, self._reloaded.get(name, 0) + 1)
            self.mesh.schedule(at, self._define, name, spec, keeps)
            if late:
                self._behind[name] = before

    def _define(self, name: str, spec: BucketSpec, keeps: bool) -> None:
        """`keeps`: what is owed under the old definition stays owed, as `Limiter.reload` has it,
        and the ceiling is lowered once that has refilled."""
        node = self.mesh.nodes[name]
        if self.mesh.now_ns == self._reloaded[name]:
            self._behind.pop(name, None)
        if node.up and node.buckets[spec.name].spec != spec:
            node.table.set_time(node.local_ns(self.mesh.now_ns))
            bucket = node.buckets[spec.name]
            ceiling = max(spec.capacity + spec.max_debt, bucket.spec.capacity + bucket.max_debt)
            bucket.define(spec, min_debt=ceiling - spec.capacity if keeps else 0)
            if keeps:
                q, p = spec.emission
                until = node.local_ns(self.mesh.now_ns) + -(-q * ceiling // p)
                self._raised[name] = until
                self._relax(name, spec, until, node.epochs)

    def _relax(self, name: str, spec: BucketSpec, until: int, epochs: int) -> None:
        """Lowers the ceiling to that of the definition, once this node's clock shows that time."""
        node = self.mesh.nodes[name]
        if self._raised[name] != until or not node.up or node.epochs != epochs:
            return
        if node.local_ns(self.mesh.now_ns) < until:
            self.mesh.schedule(node.mesh_ns(until), self._relax, name, spec, until, epochs)
        elif node.buckets[spec.name].spec == spec:
            node.table.set_time(node.local_ns(self.mesh.now_ns))
            node.buckets[spec.name].define(spec, min_debt=self.plan.most_debt(spec))


def _poisson(rng: random.Random, mean: float) -> int:
    if mean > 50:
        return max(0, round(rng.gauss(mean, mean**0.5)))
    limit, product, count = 2.718281828459045**-mean, rng.random(), 0
    while product > limit:
        count += 1
        product *= rng.random()
    return count


def run(plan: Plan) -> Run:
    """Plays a plan. Raises Broken, or whatever the library raised."""
    return Run(plan).play()


def play(seed: int) -> str:
    """The trace of a seed's plan."""
    return run(draw(seed)).mesh.trace
