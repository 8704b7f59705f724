"""What honest nodes admit beside members that lie, while nodes begin anew, ways are cut, frames are
lost, and limits change."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import NamedTuple

from crdtbucket.spec.bucket_spec import BucketSpec
from tests.simulated.books import NEAR
from tests.simulated.network import LAST_RETRY_NS, Network
from tests.simulated.plan import Plan, Way
from tests.simulated.truth import IdealBucket
from tests.simulated.view import View
from tests.simulated.window import Window

SECOND = 10**9
FIFTHS = 5
"""Each bad member makes the others admit a fifth more at most."""


class State(NamedTuple):
    """What is the same in all of a time."""

    settled: bool
    """Whether what the last event brought with it is over."""
    silent: frozenset[Way]
    """The ways on which so many frames were lost that their source counts as silent."""
    specs: frozenset[BucketSpec]
    """The definitions that running nodes have."""


class Time(NamedTuple):
    """A time between two events."""

    groups: list[list[str]]
    """The running nodes, in groups each of which keeps to the limit by itself."""
    state: State
    largest: BucketSpec
    """The largest capacity, rate and debt of all definitions in force."""
    ceiling: int
    """The most tokens that a node could owe when it began; a reload keeps a larger ceiling until
    what was owed before must have refilled."""
    window: Window
    forgiven: int
    """What the nodes had dropped at the ceiling when it began."""


class BesideLies:
    """The limit in each time between two events.

    In a group of nodes, each linked with each other one, no lie raises a column of one at another:
    they know what they take within a round. So together they admit `C + r t`, in any time, and a
    fifth more for each bad member. Without lies, a mesh in `g` groups may admit as much as `g`
    meshes: so that is what cuts and restarts add. Where it is settled, the groups are the cliques
    of connected nodes, and a bad member may hide each from the others. For as long as an event has
    effects, each node is a group: links are made anew, of a new process nobody has an update, and
    what a process took that ended, no node has to know.

    A lost frame hides nothing: each round brings all that is not acknowledged. It only makes takes
    known later, up to the time after which a node counts as silent. A longer silence is a cut: the
    two are in different groups, and since lies of who is silent are believed, what was charged for
    it then may hide as much that it takes. Of that, up to a capacity has refilled in between: a
    time begins, with a full bucket. When it ends, nothing has to settle, because no link is made.

    A reload mints nothing: takes count under each definition, and of debts under another one none
    is believed. While nodes have different definitions, one bucket with the largest capacity and
    rate gives out as much. Nodes with a smaller one forgive at their own ceiling, so these take
    their own capacity once more. What is owed under a definition stays owed under the next one, or
    is forgiven; either way a time begins, with a full bucket. The budgets of debts that are said to
    be lower go on.
    """

    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self.plan, self.mesh, self.view = plan, mesh, view
        lag = plan.one_way + plan.gossip_interval
        self.settle_ns = 2 * LAST_RETRY_NS + round((2.0 + 10 * lag) * SECOND)
        self._lossy = plan.loss[0] > 0
        self._horizon = round(max(NEAR, 3 * plan.gossip_interval) * SECOND)
        self._late = round(2 * lag * SECOND) + self._lossy * self._horizon
        self._nodes = len(plan.nodes)
        self._disturbed = 0
        """As `view.disturbed`, of events that are no reloads."""
        self._time: Time | None = None

    def happens(self, what: str) -> None:
        """An event has begun: a time ends."""
        if what != "reload":
            self._time, self._disturbed = None, self.view.disturbed

    @property
    def time(self) -> Time:
        """The present time."""
        state = self._state()
        if self._time is None or self._time.state != state:
            self._nodes = max(self._nodes, len(self.mesh.nodes))
            groups = self._cliques(state) if state.settled else [[name] for name in self._up()]
            largest = self._largest(state)
            window = self._window(largest, max(1, len(groups)))
            ceiling = self._ceiling(largest)
            self._time = Time(groups, state, largest, ceiling, window, self._forgiven())
        return self._time

    def took(self, tokens: int) -> None:
        """A node admitted calls of the main bucket."""
        if not tokens:
            return
        groups, state, largest, _, window, forgiven = self.time
        window.give(tokens, self.mesh.now_ns)
        most = window.unseen + self._at_once(self.time)
        most += 0.1 * largest.capacity + self.plan.cost * self._nodes
        if any(node.table.stats()["evicted_indebted"] for node in self.mesh.nodes.values()):
            return  # more keys are in debt than the table holds, so some takes are not known
        if not window.explained(most, self._forgiven() - forgiven):
            seconds = (self.mesh.now_ns - window.since) / SECOND
            self.view.broken(
                "limit",
                f"{window.beyond:.1f} tokens beyond in {seconds:.1f} s, at most {most:.1f}, "
                f"{state}, groups: {groups}",
            )

    def sees_most(self, name: str) -> bool:
        """Whether this node is connected with all others, or is one of a group in which bad members
        cannot be most of whom it sees, and can hide nobody from it."""
        groups, state, *_ = self.time
        size = max(len(group) for group in groups if name in group or len(groups) == 1)
        return state.settled and (len(groups) == 1 or size > max(2, self.plan.bad))

    # ---- parts of the bound ----

    def _up(self) -> list[str]:
        return [name for name, node in self.mesh.nodes.items() if node.up]

    def _state(self) -> State:
        now, up = self.mesh.now_ns, self._up()
        settled = not self._disturbed or now >= self._disturbed + self.settle_ns
        silent = [way for way in permutations(up, 2) if self._lossy and self._is_silent(way)]
        specs = frozenset(self.mesh.nodes[name].buckets["main"].spec for name in up)
        return State(settled, frozenset(silent), specs)

    def _is_silent(self, way: Way) -> bool:
        """Whether the newest frame that has come this way on the present connection is too old."""
        line = self.mesh.open.get(way)
        if line is None:
            return False
        of, sent = self.mesh.newest.get(way, (line, line.heard[way[1]]))
        return self.mesh.now_ns - (sent if of is line else line.heard[way[1]]) > self._horizon

    def _largest(self, state: State) -> BucketSpec:
        specs = state.specs or {self.plan.main}
        return replace(
            self.plan.main,
            capacity=max(spec.capacity for spec in specs),
            refill_rate=max(spec.refill_rate for spec in specs),
            max_debt=max(spec.max_debt for spec in specs),
        )

    def _ceiling(self, largest: BucketSpec) -> int:
        buckets = [self.mesh.nodes[name].buckets["main"] for name in self._up()]
        kept = max((one.spec.capacity + one.max_debt for one in buckets), default=0)
        return max(kept, largest.capacity + self.plan.most_debt(largest))

    def _cliques(self, state: State) -> list[list[str]]:
        """The running nodes in few groups, in each of which all are connected."""
        groups: list[list[str]] = []
        for name in self._up():
            for group in groups:
                if all(self._connected(name, other, state) for other in group):
                    group.append(name)
                    break
            else:
                groups.append([name])
        return groups

    def _connected(self, here: str, there: str, state: State) -> bool:
        ways = ((here, there), (there, here))
        line = self.mesh.open.get((here, there))
        both = line is not None and line is self.mesh.open.get((there, here))
        return both and all(self.mesh.passes(*way) and way not in state.silent for way in ways)

    def _window(self, spec: BucketSpec, groups: int) -> Window:
        plan, now = self.plan, self.mesh.now_ns
        later = [event.args[2] for event in plan.events if event.what == "come"]
        ppm = round(max(0.0, *(ppm for _, ppm in plan.clocks), *later))
        part = (FIFTHS + plan.bad) * groups, FIFTHS
        true, capped = (
            IdealBucket(spec, most, ppm=ppm, part=part)
            for most in (2**53, groups * plan.most_debt(spec))
        )
        for bucket in (true, capped):
            bucket.debt(now)  # it is full at the beginning
        return Window(now, true, true, capped, self._late)

    def _at_once(self, time: Time) -> float:
        """What nodes believe at once of debts that are said to be lower, what they take out of the
        room that they keep for silent members, and what those have that forgive more."""
        plan, spec, groups = self.plan, time.largest, len(time.groups)
        # A process that has met nobody else believes the only other member as it believes two.
        alone = not (time.state.settled and groups == 1) and plan.has("come", "return")
        several = plan.bad > 1 or len(plan.nodes) == 1 or alone
        nodes = [self.mesh.nodes[name] for name in self._up()]
        room = max((node.buckets["main"].credit("key") for node in nodes), default=0.0)
        smaller = sum(one.capacity for one in time.state.specs) - spec.capacity
        each = plan.bad / FIFTHS * spec.capacity + min(time.ceiling, room) + max(0, smaller)
        return groups * each + several * self._nodes * time.ceiling

    def _forgiven(self) -> int:
        up = (self.mesh.nodes[name] for name in self._up())
        return sum(node.buckets["main"].counters()["forgiven"] for node in up)
