"""Exact books of one run: columns show what was taken, and no level is above what is left, except
for what its node could not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.network import Network
from tests.simulated.plan import Plan
from tests.simulated.truth import IdealBucket, Ledger, Owner, Place
from tests.simulated.view import View

SECOND = 10**9
NEAR = 0.5
"""A silence of up to so many seconds grants no credit."""
EPSILON = 0.001
LOSSY = 3.0
"""Seconds for which takes may stay unmerged where frames are lost."""

WITHDRAWN = 10.0, 8
"""No node withdraws a tombstone that it has held for less than so many seconds or, if that is
longer, so many rounds."""

Column = tuple[int, int, int]
"""(generation of the entry, taken, refunded)."""


class Books:
    part = (1, 1)
    """The fraction of the limit that an ideal bucket has."""

    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self.plan, self.mesh, self.view = plan, mesh, view
        self.ledger = Ledger()
        self.ideals: dict[Place, IdealBucket] = {}
        self.slowest: dict[Place, IdealBucket] = {}
        """As `ideals`, on the slowest clock: the least that may be left."""
        self.asked: dict[Place, int] = {}
        """When each key was last asked for, ns."""
        self._alone: dict[tuple[str, int, Place], IdealBucket] = {}
        """As `ideals`, for what one process alone has taken."""
        self._seen: dict[tuple[str, int, Place], tuple[int, int, dict[Owner, Column]]] = {}
        """By process and key: when it was last looked at (ns), how many keys it had evicted, and
        its columns."""
        self._known: dict[tuple[str, int], dict[Place, dict[Owner, int]]] = {}
        """The most tokens that a process was seen to count for each owner."""
        self._marked: dict[tuple[str, int], dict[int, int]] = {}
        """When a process of a node was last seen to hold a tombstone of an epoch, ns."""
        self._passed: dict[tuple[str, int, str], int] = {}
        """How many calls a process had admitted by its guaranteed share, by bucket."""
        self._moved = self._parted = False
        """Whether something has happened since the last look; and whether there was ever a running
        node that did not reach another one, even by relays."""
        self._refilled: dict[Place, tuple[float, int]] = {}
        """By key, when a second node got the bucket: what had refilled of the takes of the first
        one, and what was refunded by then."""
        self._first: int | None = None if plan.complete else 0
        self.unbounded: set[str] = {"side"} if self.flooded else set()
        """Buckets whose levels are not judged, since their limit changed or their keys were
        evicted."""

    @property
    def flooded(self) -> bool:
        return self.plan.keys > self.plan.max_keys or self.plan.has("flood")

    def happens(self, what: str, args: tuple[Any, ...]) -> None:
        self._moved = True
        for place in self.ideals:
            for node in self._awake(place):
                self._know(node, place, self.columns(node, place))
        if self._first is None:
            self._first = self.mesh.now_ns
        if what == "add" and len(self._awake(("side", ""))) < 2:
            self._refilled = {p: self._refilled_of(p) for p in self.ideals if p[0] == "side"}
        if what in ("reload", "stage", "unstage", "jump", "still"):
            self.unbounded.add("main")
        if what in ("jump", "still", "limit"):
            self.unbounded.add("side")

    def _awake(self, place: Place) -> list[SimulatedNode]:
        """The nodes that run now and have this bucket."""
        now = self.mesh.now_ns
        up = [one for one in self.mesh.nodes.values() if one.up and one.suspended_until <= now]
        return [one for one in up if place[0] in one.buckets]

    def _refilled_of(self, place: Place) -> tuple[float, int]:
        refunded = sum(self.ledger.refunded[place].values())
        owed = self.spec(place).capacity - self.ideal(place).level(self.mesh.now_ns)
        return sum(self.ledger.taken[place].values()) - refunded - owed, refunded

    def set_off(self, place: Place) -> float:
        """Tokens of refunds that may be worth nothing on all nodes but one. What one node had taken
        when a second one got the bucket, and what had refilled by then, was never charged on any
        other node, and they set refunds off against that first. Two that were charged agree how
        much less is owed, and of two members the other one is believed."""
        if len(self.mesh.nodes) < 3:
            return 0.0
        refilled, before = self._refilled.get(place, (0.0, 0))
        return min(refilled, sum(self.ledger.refunded[place].values()) - before)

    # ---- books ----

    def book(self, node: SimulatedNode, place: Place, taken: int, refunded: int) -> None:
        self.asked[place] = self.mesh.now_ns
        self._alone_of(node.name, node.table.epochs.running, place).charge(taken, self.mesh.now_ns)
        self.ideal(place).charge(taken - refunded, self.mesh.now_ns)
        self.slowest[place].charge(taken - refunded, self.mesh.now_ns)
        self.ledger.book((node.name, node.table.epochs.running), place, taken, refunded)

    def refund(self, owner: Owner, place: Place, tokens: int) -> None:
        self._alone_of(*owner, place).charge(-tokens, self.mesh.now_ns)
        self.ideal(place).charge(-tokens, self.mesh.now_ns)
        self.slowest[place].charge(-tokens, self.mesh.now_ns)
        self.ledger.book(owner, place, 0, tokens)

    def ideal(self, place: Place) -> IdealBucket:
        """The ideal bucket on the fastest clock: no node may see more left than that one has."""
        if place not in self.ideals:
            self.ideals[place], self.slowest[place] = (
                self._bucket(place, max),
                self._bucket(place, min),
            )
        return self.ideals[place]

    def _bucket(self, place: Place, which: Callable[[list[float]], float]) -> IdealBucket:
        spec = self.spec(place)
        lag = self.mesh.settings.latency + self.mesh.config.gossip_interval
        debt = max(spec.max_debt, round(4 * spec.rate_per_second * lag))
        ppm = [0.0, *(ppm for _, ppm in self.plan.clocks), *self._later()]
        return IdealBucket(spec, debt, ppm=round(which(ppm)), part=self.part)

    def spec(self, place: Place) -> BucketSpec:
        return self.plan.main if place[0] == "main" else self.plan.side

    def _alone_of(self, name: str, epoch: int, place: Place) -> IdealBucket:
        return self._alone.setdefault((name, epoch, place), self._bucket(place, max))

    def _later(self) -> list[float]:
        return [event.args[2] for event in self.plan.events if event.what == "come"]

    def columns(self, node: SimulatedNode, place: Place) -> dict[Owner, Column]:
        names = node.node.roster.names()
        found = node.bucket(place[0]).columns(place[1])
        return {(names[number], epoch): column for (number, epoch), column in found.items()}

    def _know(self, node: SimulatedNode, place: Place, columns: dict[Owner, Column]) -> None:
        known = self._known.setdefault((node.name, node.epochs), {}).setdefault(place, {})
        for owner, (_, taken, _) in columns.items():
            known[owner] = max(known.get(owner, 0), taken)

    def lost(self, nodes: list[SimulatedNode], place: Place) -> float:
        """Tokens that were taken and that none of these processes has ever counted. Added are
        tokens that only one of them has counted, and then evicted with the key: in a silence each
        of them refills by itself, and a key that is full is evicted once the log is no longer kept
        for silent peers. Of each owner these are no more than what was refilled since the silence
        began."""
        nodes = [node for node in nodes if place[0] in node.buckets]
        shown = [self.columns(node, place) for node in nodes]
        for node, columns in zip(nodes, shown, strict=True):
            self._know(node, place, columns)
        known = [self._known[node.name, node.epochs][place] for node in nodes]
        since = self.mesh.now_ns if self._first is None else self._first
        refilled = (self.mesh.now_ns - since) / SECOND * self.spec(place).rate_per_second
        lost = 0.0
        for owner, taken in self.ledger.taken[place].items():
            *_, by_others, most = sorted((0, 0, *(one.get(owner, 0) for one in known)))
            held = max((one.get(owner, (0, 0, 0))[1] for one in shown), default=0)
            lost += taken - most + min(max(0, most - max(by_others, held)), refilled)
        return lost

    # ---- rules ----

    def look(self, node: SimulatedNode, place: Place, *, admitted: bool) -> None:
        """Checks the rules after an operation of this node."""
        if self._moved:
            self._moved, self._parted = False, self._parted or not self.view.connected()
        if self.flooded and place[0] == "side":
            return
        columns = self.columns(node, place)
        if admitted and place[0] not in self.unbounded:
            self._check_admitted(node, place, columns)
        self._check_columns(node, place, columns)

    def _check_admitted(
        self, node: SimulatedNode, place: Place, columns: dict[Owner, Column]
    ) -> None:
        """What is admitted is there, except for what this node could not know: in any window at
        most C + r t, and the largest such amount, are admitted. In any case one process admits no
        more than a bucket of its own would, beside guaranteed calls and refunds, whatever room it
        keeps for silent peers. Where it stood still it does not know until its next round which of
        its takes it made before that; until then they may count as refilled."""
        alone = self._alone_of(node.name, node.table.epochs.running, place).level(self.mesh.now_ns)
        spec = self.spec(place)
        guaranteed = max(1, spec.capacity // 20)  # such a call passes at any level
        calls = node.bucket(place[0]).counters()["guaranteed"]
        least = -guaranteed * (1 + calls) - sum(self.ledger.refunded[place].values()) - EPSILON
        least -= self.at_once(place) + spec.capacity * self.plan.has("pause", "still")
        if alone < least and not node.table.stats()["evicted_indebted"]:
            self.view.broken("alone", f"{node.name} {place} has taken to {alone:.3f} by itself")
        level = self.ideal(place).level(self.mesh.now_ns)
        process = node.name, node.table.epochs.running, place[0]
        passed, self._passed[process] = self._passed.get(process, 0), calls
        if level >= 0 or calls > passed:
            return  # a guaranteed call passes also where a settlement has left a large debt
        allowance = self.not_merged(place, columns) + self.slack(place)
        let_pass = (n.bucket(place[0]).counters()["guaranteed"] for n in self._awake(place))
        allowance += guaranteed * sum(let_pass)
        if level < -allowance:
            self.view.broken(
                "admitted", f"{node.name} {place} at {level:.3f}, allowed {-allowance:.3f}"
            )

    def not_merged(self, place: Place, columns: dict[Owner, Column]) -> int:
        """All tokens ever taken on any node that these columns do not show."""
        return sum(
            max(0, taken - columns.get(owner, (0, 0, 0))[1])
            for owner, taken in self.ledger.taken[place].items()
        )

    def slack(self, place: Place) -> float:
        """By how much a level may be above the ideal beside `not_merged`: credit and refunds."""
        rounded = 2 * self.spec(place).rate_per_second / SECOND  # clocks show whole nanoseconds
        refunded = sum(self.ledger.refunded[place].values())
        return self._credit(place) + refunded + rounded + EPSILON

    def at_once(self, place: Place) -> float:
        """Tokens by which a node may lower a debt at once because members say so."""
        return 0.0

    def _credit(self, place: Place) -> float:
        """The most tokens that may have been kept for silent peers."""
        silence = 2 * self.plan.one_way + self.plan.gossip_interval
        silence += LOSSY if self.plan.loss[0] else 0.0
        if self._first is not None:
            silence += (self.mesh.now_ns - self._first) / SECOND
        return max(0.0, silence - NEAR) * self.spec(place).rate_per_second

    def _check_columns(
        self, node: SimulatedNode, place: Place, columns: dict[Owner, Column]
    ) -> None:
        """A column never shrinks while its entry is held, and shows no more than its owner took."""
        for owner, (_, taken, refunded) in columns.items():
            booked = self.ledger.of(owner, place)
            if taken > booked[0] or refunded > booked[1]:
                self.view.broken(
                    "columns",
                    f"{node.name} {place}: {owner} is {(taken, refunded)}, it took {booked}",
                )
        marked = self._marks(node)
        stats = node.table.stats()
        evicted = stats["evicted_full"] + stats["evicted_indebted"]
        before = self._seen.get((node.name, node.epochs, place))
        if before is not None and before[1] == evicted:
            for owner, old in before[2].items():
                new = columns.get(owner)
                if new is None and (
                    self._began_anew(owner, place, old)
                    or (self._parted and marked.get(owner[1], -1) >= before[0])
                    or (self._parted and self._may_have_missed(before[0]))
                    or (self._parted and self.plan.forget_after < 900)  # its owner was forgotten
                    or self.view.mistaken >= 0  # it had a tombstone until it was seen again
                ):
                    continue
                if new is None or (new < old and not self._may_be_anew(owner, before[0])):
                    self.view.broken("columns", f"{node.name} {place}: {owner} went {old} to {new}")
        self._seen[node.name, node.epochs, place] = self.mesh.now_ns, evicted, columns
        self._know(node, place, columns)

    def _began_anew(self, owner: Owner, place: Place, old: Column) -> bool:
        """Whether the owner no longer has this column: it has ended, so that its epoch may have got
        a tombstone and been released, or it has evicted the entry and counts in a later
        generation."""
        if self._has_ended(owner):
            return True
        node = self.mesh.nodes[owner[0]]
        names = node.node.roster.names()
        for (number, epoch), column in node.buckets[place[0]].columns(place[1]).items():
            if (names[number], epoch) == owner:
                return column[0] > old[0]
        return True

    def _has_ended(self, owner: Owner) -> bool:
        """Whether this process no longer runs."""
        node = self.mesh.nodes[owner[0]]
        return not node.up or node.table.epochs.running != owner[1]

    def _may_be_anew(self, owner: Owner, since: int) -> bool:
        """Whether the column of a process that has ended may have gone and come again after this
        time (ns). While a node was cut off, its epoch got a tombstone. That node comes back with
        what it has counted, which is less, so the tombstone is withdrawn, and the columns count as
        at first sight."""
        least = max(WITHDRAWN[0], WITHDRAWN[1] * self.plan.gossip_interval)
        apart = self.mesh.now_ns - since
        return self._has_ended(owner) and self._parted and apart >= least * SECOND

    def _may_have_missed(self, since: int) -> bool:
        """Whether an epoch may have got a tombstone after this time (ns), which the next round of
        its owner withdrew."""
        return self.mesh.now_ns - since > self.plan.gossip_interval * SECOND

    def _marks(self, node: SimulatedNode) -> dict[int, int]:
        """When this node was last seen to hold a tombstone of each epoch. A running epoch may get
        one only where the mesh was in parts: if nobody has named it in its first rounds, and no
        relay sees it then, it gets one within half a minute. Its next update withdraws the
        tombstone, and its columns come again later."""
        marked = self._marked.setdefault((node.name, node.epochs), {})
        origins = node.table.epochs.origins()
        marked.update((epoch, self.mesh.now_ns) for _, _, epoch, gone in origins if gone)
        return marked
