"""Strong nodes of a simulated mesh with a Redis; only clock, network and server are simulated."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from crdtbucket._core import BucketCore, Decision, Table
from crdtbucket.spec.bucket_spec import BucketSpec, OnOutage
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.ledger import Ledger
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis.script import Arguments, ScriptAnswer
from crdtbucket.strong.redis.shares import Division
from crdtbucket.strong.store_names import StoreNames
from crdtbucket.strong.store_request import StoreRequest
from crdtbucket.strong.store_rules import RuleBook, Rules
from crdtbucket.testing import SimulatedMesh, SimulatedNode
from tests.strong.script_model import ScriptModel

NS = 1_000_000_000
SETTLE_NS = NS // 10
RETENTION_MS = 3_600_000
Done = Callable[[Decision], None]


class KeyInFlight:
    """A request in flight."""

    def __init__(self, ask: StoreRequest, done: Done | None) -> None:
        self.ask, self.done, self.over = ask, done, False

    def end(self, decision: Decision | None) -> None:
        if self.done is not None and decision is not None:
            self.done(decision)


class StrongNode:
    """One node: its ledger, and whether it reaches Redis."""

    def __init__(self, world: World, sim: SimulatedNode, on_outage: OnOutage) -> None:
        self.world, self.sim = world, sim
        self.away = False
        self.rtt_ns = world.rtt_ns
        self.fence = 1
        self.quotas = Table(max_keys=10_000, virtual=True)
        self.bucket: BucketCore = sim.bucket(world.spec.name)
        spec, debt = world.spec, self.bucket.max_debt
        quota = Quota(self.quotas, spec, Fraction(1, 10), fleet=False)
        self.arguments = Arguments(spec, debt, RETENTION_MS)
        self.ledger = Ledger(
            sim.table,
            StoreNames(sim.table, sim.node.roster, sim.name),
            RuleBook({self.bucket: Rules(self.arguments, on_outage, quota)}),
            division=lambda: Division(known := sim.node.members.known(), known),
        )
        sim.node.subscribe(entries_without_store=self.ledger.unsettled.push)
        self.in_flight: list[KeyInFlight] = []
        self._settle_later()

    def acquire(self, key: str, cost: int, done: Done) -> None:
        """Makes a decision, now or when the answer is here."""
        self._present()
        if self.away:
            done(self.ledger.decide_here(self.bucket, key, cost, Mode.FALLBACK))
            return
        opened = self.ledger.open(self.bucket, key, cost, self.fence)
        if isinstance(opened, Decision):
            done(opened)
        else:
            self._ask(opened, done)

    def lose_redis(self) -> None:
        """The connection to Redis ends: requests in flight are given up, and run without an
        answer."""
        self.away = True
        self.sim.node.advertise_store(reachable=False)
        self.fence += 1
        for flight in self._give_up():
            self.ledger.connection_ended(flight.ask)

    def time_out(self) -> None:
        """Redis does not answer for too long: requests in flight are given up, and their answers
        come late."""
        self.away = True
        self.sim.node.advertise_store(reachable=False)
        self._give_up()

    def find_redis(self) -> None:
        """Redis answers again."""
        self.away = False
        self.sim.node.advertise_store(reachable=True)

    def _give_up(self) -> list[KeyInFlight]:
        self._present()
        given_up, self.in_flight = self.in_flight, []
        for flight in given_up:
            flight.over = True
            flight.end(self.ledger.give_up(flight.ask, Mode.FALLBACK))
        return given_up

    def _ask(self, ask: StoreRequest, done: Done | None) -> None:
        flight = KeyInFlight(ask, done)
        self.in_flight.append(flight)
        fence = self.fence
        half = self.world.rtt_ns // 2

        def run() -> None:
            answer = self.world.redis.run(self.arguments, ask.call)
            self.world.later(half, receive, answer)

        def receive(answer: ScriptAnswer) -> None:
            self._present()
            if fence != self.fence:
                return
            if flight.over:
                self.ledger.ended(ask, answer)
                return
            self.in_flight.remove(flight)
            result = self.ledger.book(ask, answer, fence)
            if isinstance(result, StoreRequest):
                self._ask(result, done)
            else:
                flight.end(result)

        self.world.later(half, self.world.arrive, self, run)

    def settle_all(self) -> None:
        """Sends Redis what it lacks."""
        self._present()
        self.ledger.unsettled.carry()
        for item in list(self.ledger.unsettled.pending):
            ask = self.ledger.settle(*item, self.fence)
            if ask is not None:
                self._ask(ask, None)

    def _settle_later(self) -> None:
        if not self.away:
            self.settle_all()
        mesh = self.world.mesh
        mesh.schedule(mesh.now_ns + SETTLE_NS, self._settle_later)

    def _present(self) -> None:
        self.sim.bucket(self.world.spec.name)  # sets its clock
        self.quotas.set_time(self.sim.table.now())


class World:
    """A mesh of strong nodes. Times in seconds."""

    def __init__(
        self,
        nodes: int,
        spec: BucketSpec,
        *,
        rtt: float = 0.01,
        on_outage: OnOutage = "quota",
        seed: int = 0,
    ) -> None:
        self.spec, self.rtt_ns = spec, round(rtt * NS)
        names = [f"n{i}" for i in range(nodes)]
        self.mesh = SimulatedMesh(names, [spec], seed=seed)
        self.redis = ScriptModel(lambda: 1_700_000_000_000_000 + self.mesh.now_ns // 1_000)
        self.nodes = [StrongNode(self, self.mesh[name], on_outage) for name in names]
        self.random = random.Random(seed)
        self.admitted = [0] * nodes
        self.offered = [0] * nodes
        self.frozen: dict[StrongNode, list[Callable[[], None]]] | None = None

    def later(self, ns: int, call: Callable[..., None], *args: Any) -> None:
        self.mesh.schedule(self.mesh.now_ns + ns, call, *args)

    def arrive(self, node: StrongNode, run: Callable[[], None]) -> None:
        """A call arrives at Redis, which runs it unless it is frozen."""
        if self.frozen is None:
            run()
        else:
            self.frozen.setdefault(node, []).append(run)

    def freeze(self) -> None:
        """Freezes Redis; what arrives waits on its connection."""
        self.frozen = {}

    def thaw(self) -> None:
        """Runs what waits, connection by connection, the later nodes last."""
        waiting, self.frozen = self.frozen or {}, None
        for node in self.nodes:
            for run in waiting.get(node, []):
                run()

    def load(self, number: int, per_second: float, cost: int, until: float, key: str = "k") -> None:
        """Makes the calls of one node, at random times, up to a time."""
        if per_second <= 0:
            return
        mesh, node = self.mesh, self.nodes[number]

        def call() -> None:
            if mesh.now_ns >= until * NS:
                return
            self.offered[number] += cost
            node.acquire(key, cost, done)
            again()

        def done(decision: Decision) -> None:
            self.admitted[number] += decision.cost if decision.allowed else 0

        def again() -> None:
            mesh.schedule(mesh.now_ns + round(self.random.expovariate(per_second) * NS), call)

        again()
