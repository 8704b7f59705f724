"""Plays a plan on a simulated mesh, keeps the books beside it, and checks them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from crdtbucket._core import Decision
from crdtbucket.policy import BucketSpec
from crdtbucket.testing import SimulatedMesh, SimulatedNode
from tests.simulated.plan import Plan, draw
from tests.simulated.truth import IdealBucket, Ledger, Place

SECOND = 10**9
NEAR = 0.5
"""Silence up to this grants no credit, in seconds."""
PATIENCE = 12.0
"""In this time anti-entropy has gone over all keys, in seconds."""
EPSILON = Fraction(1, 1000)


class Broken(AssertionError):
    """A rule does not hold in a run."""


class Run:
    """One run. `mesh` may be looked at when it has ended."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.mesh = SimulatedMesh(plan.nodes, plan.specs, **plan.options)
        self.ledger = Ledger()
        self.specs = {spec.name: spec for spec in plan.specs}
        self.ideals: dict[Place, IdealBucket] = {}
        self.decisions: list[tuple[str, int, Place, Decision]] = []
        self.seen: dict[tuple[str, int, Place], dict[Any, tuple[int, int, int]]] = {}
        self.denied = self.allowed = 0
        self.bounded = plan.style not in ("redefinition", "flood")

    # ---- the history ----

    def play(self) -> Run:
        for at, what, args in self.plan.events:
            self.mesh.advance_to(round(at * SECOND))
            getattr(self, f"do_{what}")(*args)
        self.mesh.heal()
        self.mesh.loss = self.mesh.duplication = 0.0
        self.mesh.advance_to(round((self.plan.seconds + self.plan.quiet) * SECOND))
        self.check_end()
        return self

    def ready(self, name: str) -> SimulatedNode | None:
        node = self.mesh[name]
        return node if node.up and node.suspended_until <= self.mesh.now_ns else None

    def do_take(self, name: str, bucket: str, key: str, cost: int) -> None:
        node = self.ready(name)
        if node is None:
            return
        cost = min(cost, self.specs[bucket].capacity, node.bucket(bucket).spec.capacity)
        decision = node.take(bucket, key, cost)
        place = (bucket, key)
        if decision.allowed:
            self.allowed += 1
            self.book(node, place, cost, 0)
            self.decisions.append((name, node.life, place, decision))
            self.check_admitted(node, place)
        else:
            self.denied += 1
            if self.plan.style == "light":
                raise Broken(f"{name} denied a light load: {decision}")
        self.check_columns(node, place)

    def do_refund(self, which: int, tokens: int | None) -> None:
        if not self.decisions:
            return
        name, life, place, decision = self.decisions.pop(-1 - which % len(self.decisions))
        node = self.ready(name)
        if node is not None and node.life == life:
            owner = (name, node.table.epoch)
            returned = node.refund(decision, tokens)
            self.ledger.book(owner, place, 0, returned)
            self.ideal(place).charge(-returned, self.mesh.now_ns)
            self.check_columns(node, place)

    def do_settle(self, name: str, bucket: str, key: str, tokens: int) -> None:
        node = self.ready(name)
        if node is not None:
            charged = node.settle(bucket, key, tokens)
            self.book(node, (bucket, key), charged, 0)
            self.check_columns(node, (bucket, key))

    def do_partition(self, one: list[str], other: list[str]) -> None:
        self.mesh.partition(one, other)

    def do_heal(self) -> None:
        self.mesh.heal()

    def do_suspend(self, name: str, seconds: float) -> None:
        if self.ready(name):
            self.mesh.suspend(name, seconds)

    def do_crash(self, name: str) -> None:
        self.mesh.crash(name)

    def do_restart(self, name: str, memory: Any) -> None:
        self.mesh.restart(name, memory)

    def do_define(self, name: str, spec: BucketSpec) -> None:
        node = self.ready(name)
        if node is not None:
            node.bucket(spec.name).define(spec)
        self.mesh.specs = [spec if s.name == spec.name else s for s in self.mesh.specs]

    # ---- the books ----

    def book(self, node: SimulatedNode, place: Place, taken: int, refunded: int) -> None:
        self.ideal(place).charge(taken - refunded, self.mesh.now_ns)
        self.ledger.book((node.name, node.table.epoch), place, taken, refunded)

    def ideal(self, place: Place) -> IdealBucket:
        """On the fastest clock: no node may ever see more than what that one refilled."""
        if place not in self.ideals:
            spec = self.specs[place[0]]
            most = round(
                4 * spec.rate_per_second * (self.mesh.latency + self.mesh.config.gossip_interval)
            )
            debt = max(spec.max_debt, most)
            ppm = max(self.plan.options["clock_drift_ppm"].values())
            self.ideals[place] = IdealBucket(spec, debt, 1 + Fraction(round(ppm), 10**6))
        return self.ideals[place]

    def columns(
        self, node: SimulatedNode, place: Place
    ) -> dict[tuple[str, int], tuple[int, int, int]]:
        names = node.node._roster.names()
        found = node.bucket(place[0]).columns(place[1])
        return {(names[number], epoch): column for (number, epoch), column in found.items()}

    def unheard(self, node: SimulatedNode, place: Place) -> int:
        """Tokens taken anywhere, ever, of which this node has not heard."""
        held, total = self.columns(node, place), 0
        for owner, taken in self.ledger.taken.items():
            total += max(0, taken[place] - held.get(owner, (0, 0, 0))[1])
        return total

    def slack(self, place: Place) -> Fraction:
        """By how much a level may be above the ideal beside what is unheard: credit, refunds."""
        silence = self.plan.silence + (3.0 if self.plan.style == "lossy" else 0.0)
        silence += 2 * self.plan.one_way + self.mesh.config.gossip_interval
        credit = Fraction(max(0.0, silence - NEAR) * self.specs[place[0]].rate_per_second)
        refunded = sum(amounts[place] for amounts in self.ledger.refunded.values())
        return credit + refunded + EPSILON

    # ---- the rules ----

    def check_admitted(self, node: SimulatedNode, place: Place) -> None:
        """What is admitted is there, but for what this node could not know: over any window
        at most C + r t and the largest such amount are admitted."""
        if not self.bounded:
            return
        level = self.ideal(place).level(self.mesh.now_ns)
        allowance = self.unheard(node, place) + self.slack(place)
        if level < -allowance:
            raise Broken(
                f"{node.name} {place}: admitted at {float(level)}, allowed {float(-allowance)}"
            )

    def check_columns(self, node: SimulatedNode, place: Place) -> None:
        """Columns never shrink in an entry's life, and only their owner raises them."""
        if self.plan.style == "flood":
            return
        now = self.columns(node, place)
        before = self.seen.get((node.name, node.life, place), {})
        for owner, (birth, taken, refunded) in before.items():
            column = now.get(owner)
            if column is None or column[0] < birth:
                raise Broken(
                    f"{node.name} {place}: column {owner} went from {before[owner]} to {column}"
                )
            if column[0] == birth and (column[1] < taken or column[2] < refunded):
                raise Broken(f"{node.name} {place}: column {owner} shrank to {column}")
        for owner, (_, taken, refunded) in now.items():
            booked = self.ledger.taken[owner][place], self.ledger.refunded[owner][place]
            if taken > booked[0] or refunded > booked[1]:
                raise Broken(
                    f"{node.name} {place}: {owner} is {(taken, refunded)}, it took {booked}"
                )
        self.seen[node.name, node.life, place] = now

    def check_end(self) -> None:
        for node in self.live():
            table = node.table
            stats = table.stats()
            if not len(table) == stats["keys"] <= stats["max_keys"]:
                raise Broken(f"{node.name}: {stats}")
        if self.plan.style == "flood":
            return
        if any(self.uncounted(place) or self.apart(place) for place in self.ideals):
            self.mesh.advance(PATIENCE)
        for place in self.ideals:
            if wrong := self.uncounted(place):
                raise Broken(f"{place}: not counted after anti-entropy: {wrong}")
            several = max(len(node.table) for node in self.live())
            if self.bounded and (debts := self.apart(place, several)):
                raise Broken(f"{place}: debts {debts} did not converge")
            if self.bounded:
                self.check_level(place)

    def live(self) -> list[SimulatedNode]:
        return [node for node in self.mesh.nodes.values() if node.up]

    def holders(self, place: Place) -> list[SimulatedNode]:
        return [n for n in self.live() if n.bucket(place[0]).debt(place[1]) is not None]

    def uncounted(self, place: Place) -> list[Any]:
        """Columns of running lives that a node with the key shows otherwise than their owner
        counted them; where the key is full there is nothing to tell."""
        wrong: list[Any] = []
        for node in self.holders(place):
            if node.peek(*place).debt == 0:
                continue
            held = self.columns(node, place)
            for owner in self.live():
                mine = (owner.name, owner.table.epoch)
                due = self.ledger.taken[mine][place], self.ledger.refunded[mine][place]
                if due[0] and held.get(mine, (0, 0, 0))[1:] != due:
                    wrong.append((node.name, mine, held.get(mine), due))
        return wrong

    def apart(self, place: Place, more: float = 0.0) -> dict[str, int] | None:
        """The debts when they are further apart than travel and drift explain, and `more` seconds.

        A statement is not aged, so who hears it owes a travel time more than who made it. Quiet
        keys are stated again only when their debts, summed up, differ by more than a second each;
        where debts were forgiven in a change of definition, the sum may hide what one key differs.
        """
        debts = {n.name: n.peek(*place).debt for n in self.holders(place)}
        explained = 0.001 + self.plan.one_way + self.plan.drift * self.mesh.now_ns / SECOND
        if not debts or max(debts.values()) - min(debts.values()) <= (explained + more) * SECOND:
            return None
        return debts

    def check_level(self, place: Place) -> None:
        ideal = self.ideal(place).level(self.mesh.now_ns)
        known: dict[Any, int] = {}
        for node in self.live():
            for owner, column in self.columns(node, place).items():
                known[owner] = max(known.get(owner, 0), column[1])
        lost = sum(t[place] - known.get(owner, 0) for owner, t in self.ledger.taken.items())
        for node in self.live():
            level = (
                self.specs[place[0]].capacity
                - Fraction(node.peek(*place).debt) / self.ideal(place).emission
            )
            if level > ideal + lost + self.slack(place):
                raise Broken(
                    f"{node.name} {place}: level {float(level)}, ideal {float(ideal)}, lost {lost}"
                )


def play(seed: int) -> str:
    """Runs a seed; its trace. Raises Broken, or whatever the library raised."""
    return Run(draw(seed)).play().mesh.trace
