"""What honest nodes admit beside members that lie, while nodes begin anew and ways are cut."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulated.network import LAST_RETRY_NS, Network
from tests.simulated.plan import Plan
from tests.simulated.truth import IdealBucket
from tests.simulated.view import View
from tests.simulated.window import Window

SECOND = 10**9
FIFTHS = 5
"""Each bad member makes the others admit a fifth more at most."""


class Time(NamedTuple):
    """A time between two events."""

    groups: list[list[str]]
    """The running nodes, in groups each of which keeps to the limit by itself."""
    settled: bool
    """Whether what the last event brought with it is over."""
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
    """

    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self.plan, self.mesh, self.view = plan, mesh, view
        lag = plan.one_way + plan.gossip_interval
        self.settle_ns = 2 * LAST_RETRY_NS + round((2.0 + 10 * lag) * SECOND)
        self._late = round(2 * lag * SECOND)
        self._nodes = len(plan.nodes)
        self._time: Time | None = None
        self.judged = not plan.has("reload") and not plan.loss[0]
        """Limits that change, and frames that are lost, are judged without lies alone."""

    def happens(self) -> None:
        """An event: a time ends."""
        self._time = None

    @property
    def time(self) -> Time:
        """The present time."""
        settled = not self.view.disturbed or (
            self.mesh.now_ns >= self.view.disturbed + self.settle_ns
        )
        if self._time is None or self._time.settled != settled:
            self._nodes = max(self._nodes, len(self.mesh.nodes))
            groups = self._cliques() if settled else [[name] for name in self._up()]
            window = self._window(max(1, len(groups)))
            self._time = Time(groups, settled, window, self._forgiven())
        return self._time

    def took(self, tokens: int) -> None:
        """A node admitted calls of the main bucket."""
        if not self.judged or not tokens:
            return
        groups, settled, window, forgiven = self.time
        window.give(tokens, self.mesh.now_ns)
        most = window.unseen + self._at_once(len(groups), settled)
        most += 0.1 * self.plan.main.capacity + self.plan.cost * self._nodes
        if not window.explained(most, self._forgiven() - forgiven):
            seconds = (self.mesh.now_ns - window.since) / SECOND
            self.view.broken(
                "limit",
                f"{window.beyond:.1f} tokens beyond in {seconds:.1f} s, at most {most:.1f}, "
                f"settled: {settled}, groups: {groups}",
            )

    def sees_most(self, name: str) -> bool:
        """Whether this node is connected with all others, or is one of a group in which bad members
        cannot be most of whom it sees, and can hide nobody from it."""
        groups, settled, *_ = self.time
        size = max(len(group) for group in groups if name in group or len(groups) == 1)
        return settled and (len(groups) == 1 or size > max(2, self.plan.bad))

    # ---- parts of the bound ----

    def _up(self) -> list[str]:
        return [name for name, node in self.mesh.nodes.items() if node.up]

    def _cliques(self) -> list[list[str]]:
        """The running nodes in few groups, in each of which all are connected."""
        groups: list[list[str]] = []
        for name in self._up():
            for group in groups:
                if all(self._connected(name, other) for other in group):
                    group.append(name)
                    break
            else:
                groups.append([name])
        return groups

    def _connected(self, here: str, there: str) -> bool:
        ways = ((here, there), (there, here))
        line = self.mesh.open.get((here, there))
        both = line is not None and line is self.mesh.open.get((there, here))
        return both and all(self.mesh.passes(*way) for way in ways)

    def _window(self, groups: int) -> Window:
        plan, now = self.plan, self.mesh.now_ns
        later = [event.args[2] for event in plan.events if event.what == "come"]
        ppm = round(max(0.0, *(ppm for _, ppm in plan.clocks), *later))
        part = (FIFTHS + plan.bad) * groups, FIFTHS
        true, capped = (
            IdealBucket(plan.main, most, ppm=ppm, part=part)
            for most in (2**53, groups * plan.most_debt(plan.main))
        )
        for bucket in (true, capped):
            bucket.debt(now)  # it is full at the beginning
        return Window(now, true, true, capped, self._late)

    def _at_once(self, groups: int, settled: bool) -> float:
        """What nodes believe at once of debts that are said to be lower, and what they take out of
        the room that they keep for silent members."""
        plan, spec = self.plan, self.plan.main
        ceiling = spec.capacity + plan.most_debt(spec)
        # A process that has met nobody else believes the only other member as it believes two.
        alone = not (settled and groups == 1) and plan.has("come", "return")
        several = plan.bad > 1 or len(plan.nodes) == 1 or alone
        nodes = [self.mesh.nodes[name] for name in self._up()]
        room = max((node.buckets["main"].credit("key") for node in nodes), default=0.0)
        at_once = groups * (plan.bad / FIFTHS * spec.capacity + min(ceiling, room))
        return at_once + several * self._nodes * ceiling

    def _forgiven(self) -> int:
        up = (self.mesh.nodes[name] for name in self._up())
        return sum(node.buckets["main"].counters()["forgiven"] for node in up)
