"""Plays the events that `irregular` draws."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from crdtbucket._core import BucketCore
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.meshes import jump, stand_still
from tests.simulated.plan import Plan
from tests.simulated.truth import Owner, Place

if TYPE_CHECKING:
    from tests.simulated.run import Run

SECOND = 10**9
MOST_CALLS = 20_000
SPENT = 3
QUIET = 4.0
"""Seconds after which digests have compared every key of a bucket that was added."""
OWED_LESS = 0.05
"""A node may owe so many seconds less than others, since clocks run apart."""


class IrregularEvents:
    """The player of one run for these events; each `do_<what>` is one of them."""

    def __init__(self, run: Run) -> None:
        self._run, self._mesh, self._plan = run, run.mesh, run.plan
        self._rolled_out: tuple[BucketSpec, float] | None = None
        """The candidate that is rolled out, and its share of the keys."""

    def do_jump(self, name: str, seconds: float) -> None:
        jump(self._mesh, name, seconds)

    def do_still(self, name: str, seconds: float) -> None:
        if self._run.ready(name):
            stand_still(self._mesh, name, seconds)

    def do_reset(self, name: str, place: Place) -> None:
        node = self._run.ready(name)
        if node is not None and place[0] in node.buckets:
            owner = (name, node.table.epochs.running)
            given = node.bucket(place[0]).reset(place[1])
            self._run.oracle.refunded(node, owner, place, given)

    def do_surge(self, name: str, times: float) -> None:
        node = self._run.ready(name)
        if node is None:
            return
        cost = self._run.cost(node)
        rate = node.bucket("main").spec.rate_per_second
        tokens = times * rate * self._plan.gossip_interval
        calls = min(MOST_CALLS, int(tokens / cost))
        if calls:
            allowed = node.take_burst("main", "key", calls, cost)
            self._run.oracle.took(node, ("main", "key"), calls, cost, allowed)

    def do_flood(self, name: str, many: int, cost: int) -> None:
        node = self._run.ready(name)
        if node is not None and "side" in node.buckets:
            cost = min(cost, node.bucket("side").spec.capacity)  # a later definition may have less
            for i in range(many):
                node.take("side", f"flood-{self._mesh.now_ns}-{i}", cost)

    def do_stage(self, spec: BucketSpec, share: float, step: float, order: int) -> None:
        self._rolled_out = spec, share
        self._in_turns(order, step, self.stage)

    def stage(self, name: str) -> None:
        """The stage of the roll-out reaches a node; also one that starts again, which has it from
        its store."""
        if self._rolled_out is None:
            return
        spec, share = self._rolled_out
        bucket = self._mesh.nodes[name].buckets[spec.name]
        if bucket.candidate is None and bucket.spec != spec:
            least = max(0, bucket.spec.capacity + bucket.max_debt - spec.capacity)
            bucket.stage(spec, share, min_debt=least)

    def do_unstage(self, spec: BucketSpec, keeps: bool, step: float, order: int) -> None:
        self._rolled_out = None
        if keeps:
            self._mesh.specs = [spec if s.name == spec.name else s for s in self._mesh.specs]

        def unstage(name: str) -> None:
            bucket = self._mesh.nodes[name].buckets[spec.name]
            before = bucket.spec.capacity + bucket.max_debt
            if bucket.candidate is not None:
                bucket.unstage(keep=keeps)
            elif keeps and bucket.spec != spec:
                bucket.define(spec, min_debt=max(0, before - spec.capacity))

        self._in_turns(order, step, unstage)

    def do_spend(self, name: str) -> None:
        """Some keys are emptied at once."""
        for i in range(SPENT):
            self._run.scattered.take(name, ("side", f"spent-{i}"), self._plan.side.capacity)

    def do_add(self, name: str) -> None:
        if self.add(name):
            taken = self._run.oracle.books.ledger.taken
            before = {place: dict(by) for place, by in taken.items() if place[0] == "side"}
            lag = 2 * self._plan.gossip_interval + 4 * self._plan.one_way
            at = self._mesh.now_ns + round((QUIET + 2 * lag) * SECOND)
            self._mesh.schedule(at, self._check_added, name, before, self._mesh.now_ns)

    def add(self, name: str) -> bool:
        """Gives a node the side bucket, if it has none."""
        node = self._mesh.nodes[name]
        if not node.up or "side" in node.buckets:
            return False
        node.table.set_time(node.local_ns(self._mesh.now_ns))
        side = next(spec for spec in self._mesh.specs if spec.name == "side")
        node._define(BucketCore, side)
        return True

    def _check_added(self, name: str, before: dict[Place, dict[Owner, int]], since: int) -> None:
        """A bucket that was added has the columns of earlier takes of others, for keys that nobody
        has asked for since and that the others are in debt of."""
        view, books, node = self._run.oracle.view, self._run.oracle.books, self._run.ready(name)
        calm = view.disturbed <= since and view.connected() and self._plan.complete
        if node is None or not calm or self._plan.loss[0] or books.flooded:
            return
        others = [one for one in self._mesh.nodes.values() if self._run.ready(one.name)]
        others = [one for one in others if one is not node and "side" in one.buckets]
        for place, taken in before.items():
            rested = taken == books.ledger.taken[place] and books.asked[place] <= since
            if rested and others and all(one.peek(*place).debt > SECOND for one in others):
                self._compare(node, others, place)

    def _compare(self, node: SimulatedNode, others: list[SimulatedNode], place: Place) -> None:
        """Compares with the columns that all others have, not with all that was ever taken: a key
        that was full and evicted begins again without columns."""
        view, books = self._run.oracle.view, self._run.oracle.books
        shown, known = books.columns(node, place), [books.columns(one, place) for one in others]
        for owner in set.intersection(*map(set, known)):
            least = min(columns[owner][:2] for columns in known)
            if shown.get(owner, (0, 0, 0))[:2] < least:
                view.broken("added", f"{node.name} {place}: {owner} took {least}, {shown}")
        if "side" not in books.unbounded:
            debt, least_owed = node.peek(*place).debt, min(o.peek(*place).debt for o in others)
            if debt < least_owed - OWED_LESS * SECOND:
                view.broken("added", f"{node.name} {place} owes {debt} ns, others {least_owed}")

    def do_limit(self, spec: BucketSpec, step: float, order: int) -> None:
        self._mesh.specs = [spec if s.name == spec.name else s for s in self._mesh.specs]

        def define(name: str) -> None:
            if spec.name in self._mesh.nodes[name].buckets:
                self._mesh.nodes[name].buckets[spec.name].define(spec)

        self._in_turns(order, step, define)

    def _in_turns(self, order: int, step: float, act: Callable[[str], None]) -> None:
        """Does `act` to one running node after the other."""

        def do(name: str) -> None:
            node = self._mesh.nodes[name]
            if node.up:
                node.table.set_time(node.local_ns(self._mesh.now_ns))
                act(name)

        nodes = list(self._mesh.nodes)
        random.Random(order).shuffle(nodes)
        for i, name in enumerate(nodes):
            self._mesh.schedule(self._mesh.now_ns + round(i * step * SECOND), do, name)


def lacking(plan: Plan) -> set[str]:
    """Nodes that begin without the side bucket."""
    return {event.args[0] for event in plan.events if event.what == "add"}
