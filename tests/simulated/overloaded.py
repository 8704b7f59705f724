"""When all is over, the limit is the limit: of more than it, asked for on every node alike, all
together are given it, and each its part.

What has happened before may leave a mesh that serves a light load, and shares an overload wrongly:
a definition that is not the same everywhere, a member that is counted twice, rates that nobody has
any more. Few runs go on for long enough after something has happened.
"""

from __future__ import annotations

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.dropped import Dropped
from tests.simulated.network import Network
from tests.simulated.plan import LEAST_STEP, Phase, Plan
from tests.simulated.truth import IdealBucket
from tests.simulated.view import View
from tests.simulated.window import Window

SECOND = 10**9
MAIN = ("main", "key")
OVERLOAD = 3.0
"""Of the limit, all nodes together are asked for so much, each the same."""
TURNS = 120
FRAMES = 2500
"""It may cost so many, about."""
FULL = 2.0, 4.0
"""It lasts, once the bucket is empty, for so many times that in which it fills, at least and at
most."""
PARTS = 16
"""A bucket that holds so many calls of each node, and fills four times as slowly as updates
travel, is shared evenly."""
SHARE = 0.6
"""Of the mean, each node is given so much then at least."""
REMEMBERED_S, UNEVEN, SHARE_UNEVEN = 240.0, 4.0, 0.4
"""The same for so long after nodes were asked for more than others by this factor: shares go by
what each was asked for in the last minutes, up to twice the limit."""
FEW = 16
"""Calls of a node, of which chance gives some nodes several times as many as others."""
GIVEN = 0.85
"""Of what one bucket gives, all are given so much at least."""
GIVEN_LATE = 0.5
"""The same where the bucket fills nearly as quickly as updates travel, or more so: what others may
take meanwhile is left to them (rule 7 of the predictions in docs/model.md)."""
BEYOND = 0.1
"""Of the capacity, they are given no more beyond one bucket, what is taken unseen, a call on each,
and the debt that nodes drop: at its ceiling, and with keys that a full table evicts (see the bound
in docs/model.md)."""
APART_PPM = 500
"""Clocks run apart by so much."""


class Overloaded:
    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self._plan, self._mesh, self._view = plan, mesh, view
        self._lag = view.hops * (plan.gossip_interval + plan.one_way)
        self.judged = False
        """Whether it could be looked at."""

    def check(self) -> None:
        """Time passes."""
        nodes = [node for node in self._mesh.nodes.values() if node.up]
        specs = {node.bucket("main").spec for node in nodes}
        if len(specs) != 1 or not self._view.connected():
            return
        if any(node.bucket("main").credit("key") for node in nodes):
            return  # what is kept for who may still run is denied to the others
        (spec,) = specs
        owed = max(node.peek(*MAIN).debt for node in nodes) * spec.rate_per_second / SECOND
        self._lag = self._view.hops * (self._plan.gossip_interval + self._plan.one_way)
        seconds = self._lasts(spec, owed)
        if seconds > 0:
            self.judged = True
            self._play(nodes, spec, owed, seconds)

    def _lasts(self, spec: BucketSpec, owed: float) -> float:
        """Seconds, or 0 where that would cost too much."""
        left, full = spec.capacity - owed, spec.capacity / spec.rate_per_second
        empty = max(-left, left / (OVERLOAD - 1.0)) / spec.rate_per_second + 1.0 + 10 * self._lag
        affordable = FRAMES * self._plan.gossip_interval / max(1, 2 * len(self._plan.linked))
        least, most = (empty + times * full for times in FULL)
        return min(most, affordable) if affordable >= least else 0.0

    def _play(
        self, nodes: list[SimulatedNode], spec: BucketSpec, owed: float, seconds: float
    ) -> None:
        step = max(LEAST_STEP, seconds / TURNS)
        each = OVERLOAD * spec.rate_per_second * step / len(nodes)
        cost = max(1, min(round(each / 4), spec.capacity // (PARTS * len(nodes))))
        window = self._window(spec, round(owed))
        dropped, owing = Dropped(nodes, MAIN, window), 0.0
        while self._mesh.now_ns < window.since + seconds * SECOND:
            dropped.before()
            self._mesh.advance(step)
            dropped.after()
            now, owing = self._mesh.now_ns, owing + each / cost
            calls, owing = int(owing), owing % 1.0
            for node in nodes:
                tokens = node.take_burst(*MAIN, calls, cost) * cost
                window.give(tokens, now)
                window.given[node.name] = window.given.get(node.name, 0) + tokens
                window.ideal_given += window.ideal.admits(calls, cost, now) * cost
        self._judge(window, dropped, spec, cost)

    def _window(self, spec: BucketSpec, owed: int) -> Window:
        now, debts = self._mesh.now_ns, (2**53, self._plan.most_debt(spec))
        ideal = IdealBucket(spec, 2**53, ppm=-APART_PPM)
        ideal.charge(owed, now)
        true, capped = (IdealBucket(spec, debt, ppm=APART_PPM) for debt in debts)
        return Window(now, ideal, true, capped, round(2 * self._lag * SECOND))

    def _judge(self, window: Window, dropped: Dropped, spec: BucketSpec, cost: int) -> None:
        total, nodes = sum(window.given.values()), len(window.given)
        said = f"{window.given} of {spec.capacity} and {spec.rate_per_second:.3g}/s"
        most = window.unseen + cost * nodes + BEYOND * spec.capacity + dropped.evicted
        if not window.explained(most, dropped.forgiven):
            self._broken(
                f"{said}, {window.beyond:.1f} beyond the limit, at most {most:.1f} and "
                f"{dropped.forgiven} forgiven ones"
            )
        quick = 4 * self._lag * spec.rate_per_second <= spec.capacity
        if total < (GIVEN if quick else GIVEN_LATE) * window.ideal_given - cost * nodes:
            self._broken(f"{said}, one bucket would give {window.ideal_given}")
        roomy, mean = spec.capacity >= PARTS * cost * nodes, (total - dropped.evicted) / nodes
        if roomy and quick and min(window.given.values()) < self._share(window) * mean:
            self._broken(f"{said}, {mean:.1f} are the mean")  # who evicts the key is given more

    def _share(self, window: Window) -> float:
        lately = window.since / SECOND < self._plan.seconds + REMEMBERED_S
        uneven = any(self._uneven(phase) for phase in self._plan.phases)
        return SHARE_UNEVEN if lately and uneven else SHARE

    def _uneven(self, phase: Phase) -> bool:
        plan, most = self._plan, FEW * self._plan.cost * len(self._plan.nodes)
        few = plan.seconds * phase.amount * plan.main.rate_per_second < most
        by_chance = few and plan.arrivals[0] == "random"
        return by_chance or max(phase.weights) > UNEVEN * min(phase.weights)

    def _broken(self, text: str) -> None:
        self._view.broken("overloaded", text)
