"""At the end of a run, the limit holds: when all nodes are asked for more than it, and each for the
same, together they admit the limit, and each its share.

What has happened before may leave a mesh that serves a light load, but shares an overload wrongly:
a definition that is not the same everywhere, a member that is counted twice, rates of nodes that
are gone. Few runs go on for long enough after something has happened.
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
"""The multiple of the limit that all nodes together are asked for, each for the same."""
TURNS = 120
FRAMES = 2500
"""About how many frames this check may cost."""
FULL = 2.0, 4.0
"""How long the overload lasts once the bucket is empty, at least and at most, as multiples of the
time in which the bucket fills."""
PARTS = 16
"""A bucket is shared evenly when it holds so many calls of each node, and takes four times as long
to fill as an update to travel."""
SHARE = 0.6
"""The least that each node must then admit, as a share of the mean."""
REMEMBERED_S, UNEVEN, SHARE_UNEVEN = 240.0, 4.0, 0.4
"""For so many seconds after some nodes were asked for more than others by the factor `UNEVEN`, the
least is `SHARE_UNEVEN`: shares follow the demand of the last minutes, up to twice the limit."""
FEW = 16
"""With this many calls of a node or fewer, chance gives some nodes several times as many as
others."""
GIVEN = 0.85
"""The least that all nodes must admit, as a share of what one bucket would."""
GIVEN_LATE = 0.5
"""The same where the bucket fills nearly as quickly as updates travel, or more quickly: what others
may take meanwhile is held back for them (rule 7 of the predictions in docs/model.md)."""
BEYOND = 0.1
"""The most over-admission, as a share of the capacity, beside what is taken unseen, a call on each
node, and the debt that nodes drop at its ceiling or with keys that a full table evicts (see the
bound in docs/model.md)."""
APART_PPM = 500
"""By how much the clocks run apart (ppm)."""


class Overloaded:
    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self._plan, self._mesh, self._view = plan, mesh, view
        self._lag = view.hops * (plan.gossip_interval + plan.one_way)
        self._hold_alike = True
        """Whether every node can hold what the others owe."""
        self.judged = False
        """Whether the end of this run could be judged."""

    def check(self) -> None:
        """Plays the overload and judges it; time passes."""
        nodes = [node for node in self._mesh.nodes.values() if node.up]
        specs = {node.bucket("main").spec for node in nodes}
        if len(specs) != 1 or not self._view.connected():
            return
        if any(node.bucket("main").credit("key") for node in nodes):
            return  # credit for nodes that may still run is denied to the others
        (spec,) = specs
        owed = max(node.peek(*MAIN).debt for node in nodes) * spec.rate_per_second / SECOND
        self._lag = self._view.hops * (self._plan.gossip_interval + self._plan.one_way)
        held = spec.capacity + min(node.bucket("main").max_debt for node in nodes)
        self._hold_alike = owed <= held
        seconds = self._lasts(spec, owed)
        if seconds > 0:
            self.judged = True
            self._play(nodes, spec, owed, seconds)

    def _lasts(self, spec: BucketSpec, owed: float) -> float:
        """How many seconds the overload lasts; 0 where that would cost too much."""
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
            self._broken(f"{said}, {mean:.1f} are the mean")  # one that evicts the key admits more

    def _share(self, window: Window) -> float:
        """The least share of the mean that is due to each node. After a limit was lowered, a node
        keeps a raised ceiling of debt until what it owed before has refilled. A process that has
        begun since then does not, and forgives what is beyond its own ceiling; so until then it
        admits what is refilled, and nothing is due to the others."""
        if not self._hold_alike:
            return 0.0
        lately = window.since / SECOND < self._plan.seconds + REMEMBERED_S
        uneven = any(self._uneven(phase) for phase in self._plan.phases)
        uneven |= self._unseen() * UNEVEN > (UNEVEN - 1) * window.since / SECOND
        return SHARE_UNEVEN if lately and uneven else SHARE

    def _unseen(self) -> float:
        """The longest time (s) that passed for the others while a machine stood still together with
        its clock. Without it this node's rate is that of a shorter time: two seconds in which all
        were asked for as much, and forty in which nobody was, are two seconds to it."""
        still = (event.args for event in self._plan.events if event.what == "still")
        return max((seconds for _, seconds in still), default=0.0)

    def _uneven(self, phase: Phase) -> bool:
        plan, most = self._plan, FEW * self._plan.cost * len(self._plan.nodes)
        few = plan.seconds * phase.amount * plan.main.rate_per_second < most
        by_chance = few and plan.arrivals[0] == "random"
        return by_chance or max(phase.weights) > UNEVEN * min(phase.weights)

    def _broken(self, text: str) -> None:
        self._view.broken("overloaded", text)
