"""What must hold when the demand is over and every way is open again."""

from __future__ import annotations

from itertools import pairwise

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.books import Books
from tests.simulated.deaths import kept_for_the_dead
from tests.simulated.network import LAST_RETRY_NS, Network
from tests.simulated.plan import Plan
from tests.simulated.truth import Place
from tests.simulated.view import View

SECOND = 10**9
PASS = 10.0
"""Seconds in which anti-entropy has compared all keys; or two rounds."""
GRACE = 15.0
"""Seconds for which a full key is kept, for the sake of messages that are late."""
LOOKS = 40
"""How often a wait checks whether it is over."""
LOWERED_PART = 0.2
"""The share of a capacity by which all members together may lower a debt without agreement."""
ONE_ALONE = 0.3
"""The share of a capacity that one node may owe less than all others after a cut."""
LONGEST = 600
"""The most rounds to wait until every key is full."""


class Ending:
    def __init__(self, plan: Plan, mesh: Network, view: View, books: Books) -> None:
        self.plan, self.mesh, self.view, self.books = plan, mesh, view, books
        self.round = plan.gossip_interval + 2 * plan.one_way
        self._met: set[tuple[Place, str, str]] = set()
        """Pairs of nodes that have had the same columns at some time since the last take."""

    def check(self) -> None:
        """Checks all rules, once everything is settled."""
        for node in self._live():
            stats = node.table.stats()
            if not len(node.table) == stats["keys"] <= stats["max_keys"]:
                self.view.broken("memory", f"{node.name}: {stats}")
        self._wait()
        for place in self.books.ideals:
            if place[0] == "side" and self.books.flooded:
                continue
            for part in self.view.components():
                nodes = [node for name in part if self._has(node := self.mesh.nodes[name], place)]
                if wrong := self._unequal(nodes, place):
                    self.view.broken("equal", f"{place}: not the same: {wrong}")
                if place[0] not in self.books.unbounded:
                    if debts := self._apart(nodes, place):
                        self.view.broken("converged", f"{place}: debts {debts} (ns) did not")
                    self._check_level(nodes, place)
        self._check_refill()
        if self.plan.idle:
            self._check_quiet()

    def settle(self) -> None:
        """Waits until pauses have ended, connections are made again, and two rounds have come
        everywhere."""
        mesh = self.mesh
        paused = max(node.suspended_until for node in mesh.nodes.values()) - mesh.now_ns
        mesh.advance(max(0, paused) / SECOND)
        until = mesh.now_ns + 2 * LAST_RETRY_NS
        while mesh.now_ns < until and not self._connected():
            mesh.advance(0.2)
        mesh.advance(1.0 + self.view.hops * 3 * self.round)

    def _wait(self) -> None:
        """Waits until columns and debts are the same everywhere, as long as that may take."""
        # What is lost comes late, and so does what is relayed. Full keys are not sent when nodes
        # meet: if one node has evicted such a key, or has a column of a key in which others are in
        # debt, only anti-entropy brings the columns of one to the other.
        tables = [node.table.stats() for node in self._live()]
        evicted = any(one["evicted_full"] or one["evicted_indebted"] for one in tables)
        # A node that does not hold a key ignores entries of it while it is full.
        ignored = any(node.node.counters["ignored"] for node in self._live())
        met = self.plan.has("return", "come", "cut", "pause", "stall", "still", "jump", "add")
        late = self.plan.loss[0] or self.view.hops > 1 or evicted or ignored or met
        # A node that has ended is given up in the first of two such spans, and charged for what it
        # may have taken unseen; others may know that it has taken nothing.
        wait = (2 * self.view.hops * max(PASS, 2 * self.round) + 2.0) * (1 + self.plan.has("die"))
        until = self.mesh.now_ns + round(wait * SECOND) if late else 0
        held = self._held()
        while self.mesh.now_ns < until and not self._all_equal():
            self.mesh.advance(wait / LOOKS)
            before, held = held, self._held()
            if any(self._owing(self._live(), place) for _, place in before - held):
                # A node that evicts a full key while others owe gets it anew from them: each brings
                # its own column, in a pass of its own.
                until = self.mesh.now_ns + round(wait * SECOND)

    def _held(self) -> set[tuple[str, Place]]:
        """The keys that each running node holds."""
        return {
            (node.name, place)
            for node in self._live()
            for place in self.books.ideals
            if place[0] in node.buckets and node.bucket(place[0]).debt(place[1]) is not None
        }

    def _connected(self) -> bool:
        """Whether all running nodes that are linked have a connection, the same at both ends."""
        up = [name for name, node in self.mesh.nodes.items() if node.up]
        pairs = [(a, b) for a in up for b in self.mesh.peers(a) if a < b and self.mesh.nodes[b].up]
        lines = [(self.mesh.open.get((a, b)), self.mesh.open.get((b, a))) for a, b in pairs]
        return all(one is not None and one is two for one, two in lines)

    def _live(self) -> list[SimulatedNode]:
        return [node for node in self.mesh.nodes.values() if node.up]

    def _all_equal(self) -> bool:
        for part in self.view.components():
            nodes = [self.mesh.nodes[name] for name in part]
            for place in self.books.ideals:
                if self._unequal(nodes, place) or self._apart(nodes, place):
                    return False
                owing = self._owing(nodes, place)
                if 0 < len(owing) < len(nodes) or self._counted_by_some(nodes, owing, place):
                    return False  # a node on which the key is full may lack columns
        return True

    def _counted_by_some(
        self, nodes: list[SimulatedNode], owing: list[SimulatedNode], place: Place
    ) -> bool:
        """Whether a node in debt has a column for whose epoch another node holds a tombstone, which
        may still be withdrawn."""
        epochs = {e for one in nodes for _, _, e, gone in one.table.epochs.origins() if gone}
        return any(owner[1] in epochs for n in owing for owner in self.books.columns(n, place))

    def _owing(self, nodes: list[SimulatedNode], place: Place) -> list[SimulatedNode]:
        """Nodes on which the key is not full; the others have nothing to send."""
        return [node for node in nodes if node.peek(*place).debt > 0]

    def _unequal(self, nodes: list[SimulatedNode], place: Place) -> str:
        """The first column in which two nodes differ; empty when there is none. A node that has
        evicted a full key no longer sends its own column, even if it later learns that others are
        still in debt. Two nodes that once had the same columns may differ, too: one of them has
        evicted the key since and gets it again, and the takes of a third node on which it is full
        come later."""
        owing = self._owing(nodes, place)
        marked = {epoch for n in owing for _, _, epoch, dead in n.table.epochs.origins() if dead}
        for node in nodes:
            own = (node.name, node.table.epochs.running)
            if own not in self.books.columns(node, place) and node.table.stats()["evicted_full"]:
                marked.add(own[1])
        shown = [(node.name, self.books.columns(node, place)) for node in owing]
        for (first, one), (second, two) in pairwise(shown):
            if one == two:
                self._met.add((place, first, second))
            elif (place, first, second) in self._met:
                continue
            for owner in one.keys() | two.keys():
                if one.get(owner) != two.get(owner) and owner[1] not in marked:
                    return f"{owner} is {one.get(owner)} on {first}, {two.get(owner)} on {second}"
        return ""

    def _apart(self, nodes: list[SimulatedNode], place: Place) -> dict[str, int] | None:
        """The debts, if they are further apart than travel, drift and anti-entropy explain; else
        None. While credit is kept for silent peers, what is owed lies between the debt with and
        without it.

        An advertised debt is not aged, so its receiver owes a travel time more than its sender.
        Quiet keys are sent again only when the sums of their debts differ by more than a second for
        each key; where debts were forgiven when a definition changed, the sum may hide that one key
        differs.
        """
        if len(nodes) < 2:
            return None
        debts = {node.name: node.peek(*place).debt for node in nodes}
        spec = self.plan.main if place[0] == "main" else self.plan.side
        more = max(len(node.table) for node in nodes) + self._charged_late(spec, len(nodes))
        if self.plan.returns or self.plan.has("reset"):
            # What was forgiven at the ceiling is not given back, and it is not the same on all
            # nodes.
            forgiven = sum(node.bucket(place[0]).counters()["forgiven"] for node in self._live())
            refunded = sum(self.books.ledger.refunded[place].values())
            more += (min(forgiven, refunded) + self.books.set_off(place)) / spec.rate_per_second
        view = self.view
        if view.mistaken >= 0 or view.began_beside_silent or not self._linked(nodes):
            # Credit for nodes that are never seen, for those that were given up, and what a
            # newcomer owes is charged to the others. The node that alone knows better is not
            # believed.
            more += self.books.slack(place) / spec.rate_per_second
        drift = max(1e-3, self.plan.drift) if self.plan.has("come") else self.plan.drift
        explained = 0.001 + self.view.hops * self.plan.one_way + drift * self.mesh.now_ns / SECOND
        decided = sorted(self._decided(node, place) for node in nodes)
        most = ONE_ALONE * spec.capacity / spec.rate_per_second * SECOND
        if self.plan.has("cut") and len(nodes) > 2 and decided[1] - decided[0] <= most:
            del decided[0]  # one node alone may advertise a lower debt within its budget
        apart = max(debts.values()) - decided[0]
        return debts if apart > (explained + more) * SECOND else None

    def _charged_late(self, spec: BucketSpec, nodes: int) -> float:
        """Seconds of refill that were charged since takes were held up on their way. The node that
        made them alone knows better, and is believed within the budget for lower debts, which
        refills in the time in which the bucket does."""
        full = spec.capacity / spec.rate_per_second
        now, budget = self.mesh.now_ns / SECOND, LOWERED_PART * full / nodes
        stalls = [event for event in self.plan.events if event.what == "stall"]
        held = [sum(e.args[:2]) for e in stalls if now < e.at + sum(e.args[:2]) + full]
        return max(0.0, max(held, default=0.0) - budget)

    def _decided(self, node: SimulatedNode, place: Place) -> int:
        """The debt (ns) by which a node decides: with the credit that it keeps for silent peers."""
        bucket, spec = node.bucket(place[0]), self.books.spec(place)
        credit = round(bucket.credit(place[1]) / spec.rate_per_second * SECOND)
        return max(0, (bucket.debt(place[1]) or 0) + credit)

    def _has(self, node: SimulatedNode, place: Place) -> bool:
        """Whether a node can know what is owed: a full table may have evicted the key."""
        held = node.bucket(place[0]).debt(place[1]) is not None
        return held or not node.table.stats()["evicted_indebted"]

    def _linked(self, nodes: list[SimulatedNode]) -> bool:
        """Whether all nodes are linked without a relay, also with those that are gone."""
        names, others = [node.name for node in nodes], self.mesh.nodes
        return all(frozenset((a, b)) in self.mesh.linked for a in names for b in others if a != b)

    def _check_level(self, nodes: list[SimulatedNode], place: Place) -> None:
        """No level is above what the ideal bucket has left, except for what no node here knows."""
        ideal = self.books.ideal(place)
        level, lost = ideal.level(self.mesh.now_ns), self.books.lost(nodes, place)
        spec = self.plan.main if place[0] == "main" else self.plan.side
        for node in nodes:
            shown = spec.capacity - node.peek(*place).debt * spec.refill_rate / spec.interval_ns
            self._check_history(node, place, shown)
            if self.books.flooded and node.table.stats()["evicted_indebted"]:
                continue  # the debt of this key may have been evicted
            if shown > level + lost + self.books.slack(place):
                self.view.broken(
                    "level",
                    f"{node.name} {place} shows {shown:.3f}, {level:.3f} are left, {lost} lost",
                )

    def _check_history(self, node: SimulatedNode, place: Place, shown: float) -> None:
        """No level is below what the ideal bucket has left on the slowest clock, except for what
        came late: neither history nor a snapshot costs anything."""
        spec = self.plan.main if place[0] == "main" else self.plan.side
        if (self.plan.returns and place[0] == "side") or self.plan.has("reset"):
            return  # a refund is worth less where the bucket has been full since
        if not self.plan.complete or self.plan.loss[0] or self.plan.has("cut", "pause", "stall"):
            return  # late takes are charged even if they have refilled meanwhile
        if self.plan.storm and self.plan.has("return"):
            return  # a new process that asks for much owes all that it took before it was linked
        began = {e.args[0] for e in self.plan.events if e.what in ("come", "return")}
        if self.view.gone_silently and node.name in began:
            return  # it owes what older nodes keep for silent ones
        least = self.books.slowest[place].level(self.mesh.now_ns)
        lag = self.plan.gossip_interval + 4 * self.plan.one_way
        kept = kept_for_the_dead(self.plan, self.view.ever_silent, self.mesh.now_ns / SECOND)
        # In overload, both sides charge what each has refilled by itself before a new process was
        # linked.
        kept += self.mesh.unlinked_ns / SECOND
        late = spec.rate_per_second * (0.01 + self.view.hops * lag + kept)
        if shown < least - late - 0.01:
            self.view.broken(
                "history",
                f"{node.name} {place} shows {shown:.3f}, {least:.3f} are left, {late:.3f} late",
            )

    def _check_refill(self) -> None:
        """Without demand a debt falls by the time that passes, whatever nodes send, except where
        credit is kept for silent peers. If two nodes owe different amounts, because only one
        advertises the lower debt, the other one sends its debt again once the first has evicted the
        key."""
        places = [place for place in self.books.ideals if place[0] not in self.books.unbounded]
        nodes = self._live()
        if len(nodes) < len(self.mesh.nodes):
            return
        before = {place: max(node.peek(*place).debt for node in nodes) for place in places}
        if not any(before.values()):
            return
        began = self.mesh.now_ns
        self.mesh.advance(1.0 + 3 * self.round)
        passed = self.mesh.now_ns - began
        late = round((0.05 + 2 * self.view.hops * self.plan.one_way) * SECOND)
        for place, owed in before.items():
            left, name = max((node.peek(*place).debt, node.name) for node in nodes)
            if left > max(0, owed - 0.8 * passed) + late:
                self.view.broken(
                    "refills",
                    f"{place}: {owed / SECOND:.3f} s were owed at most, and {left / SECOND:.3f} s "
                    f"by {name} after {passed / SECOND:.3f} s",
                )

    def _check_quiet(self) -> None:
        """Once nothing changes any more, no entry is sent, and every key is full and evicted."""
        nodes = self._live()
        if len(nodes) < len(self.mesh.nodes) or not self.books.ideals:
            return  # credit for the dead is kept until they are forgotten
        owed = max(node.peek(*place).debt for node in nodes for place in self.books.ideals)
        wait = owed / SECOND + GRACE + self.view.hops * 6 * self.round + 2.0
        if wait > LONGEST * self.plan.gossip_interval:
            return
        self.mesh.advance(wait)
        before = {node.name: node.node.entries_sent for node in nodes}
        self.mesh.advance(max(2.0, 3 * self.round))
        sent = {n.name: more for n in nodes if (more := n.node.entries_sent - before[n.name])}
        if sent:
            self.view.broken("quiet", f"entries sent though nothing changes: {sent}")
        patience = self.mesh.now_ns + round(4 * max(GRACE, 3 * self.round) * SECOND)
        while any(len(node.table) for node in nodes) and self.mesh.now_ns < patience:
            self.mesh.advance(self.round)
        held = {node.name: len(node.table) for node in nodes if len(node.table)}
        if held:
            self.view.broken("evicted", f"full keys are kept: {held}")
