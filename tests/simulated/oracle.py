"""Judges a run by what its callers saw: it keeps its own books, and reads from the nodes only what
they show to users (levels, columns, counters). Each rule has a name, which a failure names."""

from __future__ import annotations

from typing import Any

from crdtbucket.testing import SimulatedNode
from tests.simulated.afterwards import Afterwards
from tests.simulated.books import Books
from tests.simulated.ending import Ending
from tests.simulated.network import Network
from tests.simulated.overloaded import Overloaded
from tests.simulated.plan import ENDINGS, Plan
from tests.simulated.reloads import Reloads
from tests.simulated.service import Service
from tests.simulated.truth import Owner, Place
from tests.simulated.view import View

SECOND = 10**9
APART = 0.002
"""The fraction by which a node must expect clocks to run apart; they do by half of it at most."""
EPSILON = 0.05
REMEMBERED_NS = 30 * SECOND
"""A node knows the travel time of its quickest frame for half a minute at least, while frames
come."""
ANEW = ("reset", "flood", "surge", "stage", "unstage", "jump", "still")
"""After these events the demand is judged anew, once all that may be owed has refilled."""
LOOKS = 60
"""How often the columns of the main key are compared with the books, at most."""
BURST = 2
"""They are also compared after each burst of this part (a half) of the capacity or more."""


class Ages:
    """The rule `age`: a node takes no update for younger than it is, except for what nobody can
    know: the travel time of the quickest frame, and how far the clocks have drifted since that
    came."""

    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self._plan, self._mesh, self._view = plan, mesh, view

    def look(self, node: SimulatedNode) -> None:
        """Compares the ages that this node shows of its peers with when their frames were sent."""
        mesh, now = self._mesh, self._mesh.now_ns
        for name, (lag, _) in node.node.members.lags(node.local_ns(now)).items():
            line, way = mesh.open.get((node.name, name)), (name, node.name)
            newest, timely = mesh.newest.get(way), mesh.timely.get(way)
            if line is None or newest is None or newest[0] is not line:
                continue
            if timely is None or timely[0] is not line or now - timely[1] > REMEMBERED_NS:
                continue  # the travel time on this connection is not known yet, or no longer
            unsure = self._plan.one_way + APART * (now - timely[1]) / SECOND + EPSILON
            age, shown = (now - newest[1]) / SECOND, lag / SECOND
            if shown < age - unsure:
                self._view.broken(
                    "age",
                    f"{node.name} takes its news of {name} for {shown:.3f} s old, and they are "
                    f"{age:.3f} s old at {now / SECOND:.3f} s, {unsure:.3f} s cannot be known",
                )


class Oracle:
    """Is given everything that callers do and get and that happens to the mesh, and judges it."""

    def __init__(self, plan: Plan, mesh: Network) -> None:
        self.plan, self.mesh = plan, mesh
        self.view = View(plan, mesh)
        self.books = Books(plan, mesh, self.view)
        self.service = Service(plan, mesh, self.view)
        self.ages = Ages(plan, mesh, self.view)
        self.reloads = Reloads(plan, mesh)
        self.afterwards = Afterwards(plan, mesh, self.view)
        self.overloaded = Overloaded(plan, mesh, self.view)
        self.denied = self.allowed = 0
        self._due = 0
        self._jumped = False
        """Whether a clock has jumped, which shows again whenever a node is seen again."""

    # ---- what callers do ----

    def took(self, node: SimulatedNode, place: Place, calls: int, cost: int, allowed: int) -> None:
        """So many calls at once, and how many of them were allowed."""
        self.allowed += allowed
        self.denied += calls - allowed
        self.books.book(node, place, allowed * cost, 0)
        if place[0] == "main":
            if not self._jumped:
                self.ages.look(node)
            if (spec := self.reloads.in_force()) is not None:
                self.service = self.service.under(spec)
            self.service.took(node, calls, cost, allowed)
            large = BURST * allowed * cost >= node.bucket("main").spec.capacity
            if self.mesh.now_ns < self._due and not large:
                return
            self._due = self.mesh.now_ns + round(self.plan.seconds / LOOKS * SECOND)
        self.books.look(node, place, admitted=allowed > 0)

    def charged(self, node: SimulatedNode, place: Place, tokens: int) -> None:
        """A caller settles tokens that were used already."""
        self.books.book(node, place, tokens, 0)
        self.books.look(node, place, admitted=False)

    def refunded(self, node: SimulatedNode, owner: Owner, place: Place, tokens: int) -> None:
        self.books.refund(owner, place, tokens)
        self.books.look(node, place, admitted=False)

    # ---- what happens ----

    def changes(self, at: float) -> None:
        """The demand changes at this time (s)."""
        self.service.changes(at)

    def happens(self, what: str, args: tuple[Any, ...]) -> None:
        """An event of the plan is about to happen."""
        rolled_out = what in ("stage", "unstage")
        staged = self.reloads.staged(what, args) if rolled_out else None
        if rolled_out and staged is None:
            return  # other keys get another limit
        self.view.happens(what, args)
        self.books.happens(what, args)
        self._jumped |= what in ("jump", "still")
        anew = what in ("reload", *ANEW) or self._jumped
        self.service.happens(what, args, anew=anew)
        if what == "reload":
            self.reloads.begins(*args)
        elif staged is not None:
            self.reloads.begins(staged, args[2], True, args[3], 0.0)
        elif anew:
            self.reloads.anew(args[1] if what == "still" else 0.0)

    def finish(self) -> None:
        """The demand is over and all ways are open: checks what must hold at the end. Time
        passes."""
        self.service.finish()
        ending = Ending(self.plan, self.mesh, self.view, self.books)
        ending.settle()
        self.service.check_owed()
        ending.check()
        for name, ending in zip(ENDINGS, (self.afterwards, self.overloaded), strict=True):
            if name in self.plan.endings:
                ending.check()
