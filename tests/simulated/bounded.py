"""Judges a run with hostile members by the bounds of docs/security.md, summed up over all of them.
What they take, admit and advertise themselves is not judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from crdtbucket.mesh.protocol.member_directory import ALIVE_NS
from crdtbucket.mesh.protocol.own_name import MET_NS
from crdtbucket.mesh.protocol.wire import MAX_MEMBERS, MAX_ORIGINS
from crdtbucket.testing import SimulatedNode
from tests.simulated.beside_lies import FIFTHS, BesideLies
from tests.simulated.books import Books, Column
from tests.simulated.ending import Ending
from tests.simulated.hostile import HostileMember
from tests.simulated.network import Network
from tests.simulated.plan import Plan
from tests.simulated.reloads import Reloads
from tests.simulated.truth import Owner, Place
from tests.simulated.view import View

SECOND = 10**9
PATIENCE = 5.0
"""Seconds, beside the time in which the largest debt refills, after which a node must have its
guaranteed share."""
DEAD = 14.0
"""Seconds after which a member counts as dead whose connections have ended and that refuses
dials."""
LONGEST = 400
"""The most rounds to wait until every key is full."""
PRUNED = 120.0, 100
"""Seconds or rounds, whichever are more, within which the epochs of dead members get tombstones."""


class BoundedBooks(Books):
    """Books of the honest nodes, with the fifth that may be added; they judge only columns of nodes
    that run."""

    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        super().__init__(plan, mesh, view)
        self.part = FIFTHS + plan.bad, FIFTHS
        self._room: dict[Place, float] = {}
        """The most room that any node was seen to keep free for silent peers."""

    def look(self, node: SimulatedNode, place: Place, *, admitted: bool) -> None:
        room = (one.bucket(place[0]).credit(place[1]) for one in self._awake(place))
        self._room[place] = max(self._room.get(place, 0.0), *room, 0.0)
        super().look(node, place, admitted=admitted)

    def slack(self, place: Place) -> float:
        """Adds the debts that nodes may lower at once, and what a node takes out of the room that
        it alone keeps for a bad member, as the others take that room for full."""
        room = min(self.spec(place).capacity, self._room.get(place, 0.0))
        return super().slack(place) + self.at_once(place) + room

    def at_once(self, place: Place) -> float:
        """Two bad members that agree lower each debt by the ceiling, once; so does one that nobody
        else can contradict."""
        spec, several = self.spec(place), self.plan.bad > 1 or len(self.plan.nodes) == 1
        ceilings = several * len(self.plan.nodes) * (spec.capacity + self.plan.most_debt(spec))
        return self.plan.bad / FIFTHS * spec.capacity + ceilings

    def columns(self, node: SimulatedNode, place: Place) -> dict[Owner, Column]:
        running = {(n.name, n.table.epochs.running) for n in self.mesh.nodes.values() if n.up}
        found = super().columns(node, place)
        return {owner: column for owner, column in found.items() if owner in running}


class BoundedView(View):
    """Where a node is cut off, the bad member may be most of its peers, so a jump of the clock is
    no fault then."""

    jumped = "levels stay where they were"  # it has moved its table: more than a claim of another
    strict = False

    def broken(self, rule: str, text: str) -> None:
        if rule != "jump" or self.strict:
            super().broken(rule, text)


class Bounded:
    """Is given what callers do and get, as `Oracle` is, and judges only what no member can change.

    Where nothing else happens in a plan and all nodes see each other from the beginning on, it is
    strict: no lie raises a column of an honest node, and no more than a fifth is added. If the
    first frame of a node comes when the node already counts as silent, relays are believed until
    then.
    """

    def __init__(self, plan: Plan, mesh: Network, bad: Sequence[HostileMember]) -> None:
        self.plan, self.mesh, self.bad = plan, mesh, bad
        self.view = BoundedView(plan, mesh)
        self.books = BoundedBooks(plan, mesh, self.view)
        only_lies = all(event.what in ("lie", "look", "write") for event in plan.events)
        met = plan.one_way + plan.gossip_interval < ALIVE_NS / SECOND
        self._undisturbed = only_lies and plan.complete and not plan.loss[0] and met
        # With a single honest node, nobody else can say whose name is whose.
        self.strict = self._undisturbed and len(plan.nodes) > 1
        self.view.strict = self.strict
        self.limit = BesideLies(plan, mesh, self.view)
        self._began = {node.table.epochs.running for node in mesh.nodes.values()}
        self.denied = self.allowed = 0
        # Of groups of nodes whose first frames are late, or who relay, no share is judged.
        self._shares = plan.complete and met and len(plan.nodes) > 1
        self._reloads = Reloads(plan, mesh)
        self._begin_share()

    # ---- what callers do ----

    def _begin_share(self) -> None:
        self._given: dict[str, int] = defaultdict(int)
        self._offered: dict[str, int] = defaultdict(int)
        since = self.view.disturbed + (self.limit.settle_ns if self.view.disturbed else 0)
        since = max(since, self._reloads.refilled)
        self._counted_from = since + round(2 * self._patience() * SECOND)

    def took(self, node: SimulatedNode, place: Place, calls: int, cost: int, allowed: int) -> None:
        self.allowed += allowed
        self.denied += calls - allowed
        self.books.book(node, place, allowed * cost, 0)
        if place[0] == "main":
            self.limit.took(allowed * cost)
        if place[0] == "main" and self.mesh.now_ns >= self._counted_from:
            self._given[node.name] += allowed * cost
            self._offered[node.name] += calls * cost
        self._look(node, place, admitted=allowed > 0)

    def charged(self, node: SimulatedNode, place: Place, tokens: int) -> None:
        self.books.book(node, place, tokens, 0)
        self._look(node, place, admitted=False)

    def refunded(self, node: SimulatedNode, owner: Owner, place: Place, tokens: int) -> None:
        self.books.refund(owner, place, tokens)
        self._look(node, place, admitted=False)

    def _look(self, node: SimulatedNode, place: Place, *, admitted: bool) -> None:
        if self._undisturbed and not node.table.stats()["evicted_indebted"]:
            self.books.look(node, place, admitted=admitted)

    # ---- what happens ----

    def changes(self, at: float) -> None:
        """The demand changes, which no rule here depends on."""

    def happens(self, what: str, args: tuple[Any, ...]) -> None:
        if what == "lie":
            self._check_tables()
            return
        self._check_share()
        self.view.happens(what, args)
        self.books.happens(what, args)
        self.limit.happens(what)
        if what == "reload":
            self._reloads.begins(*args)
        self._begin_share()

    def finish(self) -> None:
        """The demand is over and all ways are open: the bad members end."""
        self._check_tables()
        self._check_share()
        for one in self.bad:
            one.end()
        self._check_recovery()

    # ---- rules ----

    def _live(self) -> list[SimulatedNode]:
        return [node for node in self.mesh.nodes.values() if node.up]

    def _check_tables(self) -> None:
        """No table grows beyond its places, and no running epoch has a tombstone."""
        running = {node.table.epochs.running for node in self._live()}
        for node in self._live():
            stats, origins = node.table.stats(), node.table.epochs.origins()
            known = node.node.members.directory.known
            if not len(node.table) == stats["keys"] <= stats["max_keys"]:
                self.view.broken("memory", f"{node.name}: {stats}")
            if len(origins) > MAX_ORIGINS or len(known) >= MAX_MEMBERS:
                self.view.broken(
                    "places", f"{node.name}: {len(origins)} epochs, {len(known)} members"
                )
            if self.strict and node.table.refusal is not None:
                self.view.broken("name", f"{node.name} gave its name up: {node.table.refusal}")
            dead = {epoch for _, _, epoch, gone in origins if gone} & running
            if dead and self.strict:
                self.view.broken("dead", f"{node.name} takes {dead} for dead, which run")
            if self.strict and node.table.epochs.running not in self._began:
                self.view.broken("epoch", f"{node.name} was made to open a new epoch")

    def _check_share(self) -> None:
        """Each node gets half of what it asks for, up to half of an equal share, but for as long as
        an honest debt may deny it; while ways are cut, where most of those that it sees are honest,
        and see each other."""
        plan, seconds = self.plan, self.mesh.now_ns / SECOND - self._counted_from / SECOND
        members = plan.bad + max(len(plan.nodes), len(self.mesh.nodes))
        steady = len(plan.phases) == 1 and plan.arrivals[0] != "bursts"
        # This holds only if no more than a small burst is saved up between two steps of the demand.
        spec = self._reloads.newest
        saved = 0.5 * plan.step * spec.rate_per_second / members
        small = saved + plan.cost <= max(1, spec.capacity // 20)
        if not (self._shares and steady and small) or seconds < 2 * self._patience():
            return
        share = spec.rate_per_second * seconds / members
        for name, offered in self._offered.items():
            if not self.limit.sees_most(name):
                continue
            part = 1 - self._patience() / seconds
            least = 0.5 * part * min(0.9 * offered, share)
            least -= spec.capacity / 20 + 4 * plan.cost
            if self._given[name] < least - 3 * max(0.0, least) ** 0.5:
                self.view.broken(
                    "share",
                    f"{name} got {self._given[name]} tokens of {offered} in {seconds:.1f} s, "
                    f"{least:.1f} are guaranteed",
                )

    def _cut_off(self, node: SimulatedNode) -> bool:
        """Whether a bad member that has ended may still run for this node: of those that it has
        invented, most are missing."""
        links = (node.node.links.get(one.name) for one in self.bad)
        return any(link is not None and not link.forgotten for link in links)

    def _patience(self) -> float:
        spec = self._reloads.newest
        return PATIENCE + (spec.capacity + self.plan.most_debt(spec)) / spec.rate_per_second

    def _check_recovery(self) -> None:
        """Once the bad members count as dead and all debts have refilled, every bucket is full."""
        if any(not node.up for node in self.mesh.nodes.values()) or not self.view.connected():
            return  # a share is kept for those that are missing
        if any(node.table.nodes.relayed_members() for node in self._live()):
            return  # and for invented members, until they are forgotten
        wait = DEAD + 2 * self._patience()
        wait += max(0.0, (self._reloads.refilled - self.mesh.now_ns) / SECOND)
        if any(node.table.refusal for node in self._live()):
            wait = max(wait, MET_NS / SECOND + 1.0)  # another process had the name of this one
        if wait > LONGEST * self.plan.gossip_interval:
            return
        Ending(self.plan, self.mesh, self.view, self.books).settle()
        self.mesh.advance(wait)
        if any(node.bucket("main").credit("key") for node in self._live()):
            return  # its connections did not end, so its share is kept as long as that may be a cut
        if any(self._cut_off(node) for node in self._live()):
            return  # and what relays state of it is charged, as far as it may have taken it since
        if self._owing():
            self._wait_for_tombstones()
        for name, left, least in self._owing():
            self.view.broken("recovered", f"{name} shows {left} of {least} tokens")

    def _owing(self) -> list[tuple[str, int, int]]:
        """Of the nodes whose bucket is not full: name, tokens left, capacity."""
        shown = (
            (node.name, node.peek("main", "key").remaining, node.bucket("main").spec.capacity)
            for node in self._live()
        )
        return [(name, left, least) for name, left, least in shown if left < least]

    def _wait_for_tombstones(self) -> None:
        """A bad member that has stated other counts of itself to each node leaves columns that
        differ. What relays state of it is charged, as far as it may have taken it since its last
        update: more with every second, until its epoch has a tombstone, because a node that counts
        as dead may still run elsewhere. Then all debts refill."""
        seconds, rounds = PRUNED
        until = self.mesh.now_ns + max(seconds, rounds * self.plan.gossip_interval) * SECOND
        bad = {one.epoch for one in self.bad}
        while self.mesh.now_ns < until and any(
            epoch in bad and not gone
            for node in self._live()
            for _, _, epoch, gone in node.table.epochs.origins()
        ):
            self.mesh.advance(1.0)
        self.mesh.advance(self._patience())
