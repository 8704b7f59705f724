"""The exact bound of a run: what the mesh may admit over the limit, from what was delivered when.

Why it is a bound. Write d(X, b) for the debt at time b of one bucket, without a cap on debt, that
is charged every take in X at the moment of that take. The worst over-admission (what is beyond
`capacity + rate * t`) in any window is max over b of d(all, b) - capacity, and the maximum lies at
an admission. Let node i admit at b, let K be the takes that it knows of by then (its own among
them) and U the others.

1. d(all, b) <= d(K, b) + |U|: one take more raises a debt by at most its tokens.
2. Node i admits only while its own debt is at most the capacity, and its own debt is at least
   d(K, b) - room - forgiven. Counting a take late never gives a smaller debt than counting it at
   once; what a sender states, plus what the sender lacks, is another such upper bound, so the
   minimum of the two is one too. Two things alone make a node's debt smaller. `room`: a full
   bucket may keep room below full for silent peers; no more than the largest room held anywhere.
   `forgiven`: debt above the cap (capacity + max_debt) is dropped, which leaves the node's debt
   d(K) - cap too small: at most d(all) - cap, and no more than what was dropped. Prediction and
   reserve only deny, or admit within the debt that was confirmed. A call that is guaranteed passes
   beyond the capacity: its tokens are added. And clocks: one that is fast by f refills
   f x rate x t too much, and others may take over its debt; no chain of them gets further ahead
   than the fastest clock.

3. Whenever d(all) is 0 (one bucket that sees everything would be full), all before it is history:
   U, forgiven, what was guaranteed, and clocks count from the last such moment.

4. d(all) is one number: of the nodes that admitted within the last gossip interval, the one that
   knew most then bounds it, with all that was admitted since counted as unknown to it. Within one
   cell of the grid the order is not known, so the refill of a cell is added for what was before.

So over-admission <= max over cells with admissions of the least (|U| + forgiven) of those nodes,
plus what was guaranteed, plus the largest room, plus what the fastest clock is ahead. A node
without memory is outside 2 until it has an update from a peer; where only such nodes can speak,
what they admitted is added to the bound reached so far, because only admissions raise d(all).

Nothing is fitted and nothing is taken from the outcome but facts: admissions, and what had
arrived where. It is read on the grid of the run (10 ms): arrivals at the start of a cell,
admissions at its end, so it errs upwards only.
"""

from __future__ import annotations

from collections.abc import Sequence

from crdtbucket.simulator.rule import WatchedRule
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import GRID_NS, Scenario


class UnknownTakes:
    """Counts, for each node that admitted lately, the tokens that it did not know of when it
    admitted, and all that were admitted since."""

    def __init__(self, nodes: int, memory_ns: int) -> None:
        """`memory_ns`: for how long after its admission a node's knowledge is used, the gossip
        interval."""
        self._totals = [0] * nodes
        self._history = [0] * nodes
        self._spoke: dict[int, tuple[int, int]] = {}
        self._memory_ns = memory_ns

    def full(self) -> None:
        """One bucket that sees everything is full now: all that came before no longer counts."""
        self._history = list(self._totals)
        self._spoke.clear()

    def unknown(self, known: Sequence[int]) -> int:
        """The tokens that were taken since `full` and that a node does not know of. `known`: the
        tokens of each node that it knows of."""
        rows = zip(self._totals, known, self._history, strict=True)
        return sum(max(0, total - max(held, before)) for total, held, before in rows)

    def took(self, node: int, tokens: int) -> None:
        """Counts an admission: all nodes that are followed now do not know of it."""
        self._totals[node] += tokens
        self._spoke = {one: (at, more + tokens) for one, (at, more) in self._spoke.items()}

    def spoke(self, node: int, at_ns: int, unknown: int) -> None:
        """Follows a node that has just admitted a call and did not know of `unknown` tokens."""
        self._spoke[node] = at_ns, unknown

    def silent(self, node: int) -> None:
        """No longer follows a node: it has lost its memory."""
        self._spoke.pop(node, None)

    def recent(self, now_ns: int) -> dict[int, int]:
        """The unknown tokens of each node that admitted lately."""
        spoke = self._spoke.items()
        return {node: more for node, (at, more) in spoke if now_ns - at <= self._memory_ns}


class _View:
    """What one node may hold: an upper estimate of its debt, and of the debt that it forgave.

    Amounts are tokens x refill interval, as in `measure.OverAdmission`.
    """

    def __init__(self, nodes: int) -> None:
        self.known = [0] * nodes
        self.debt = 0
        self.forgiven = 0
        self.forgave_at = [0] * nodes
        self.without_memory = False
        self.taken_blind = 0
        self.forgiven_then = 0
        """What it had forgiven up to its last admission."""


class Undelivered:
    """Computes the bound of one run, for a rule by which every node counts all takes that it knows
    of."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        self._interval, self._rate = settings.interval_ns, settings.refill_rate
        self._fastest = max((0.0, *scenario.drift_ppm.values())) / 1e6
        self._cap = (settings.capacity + settings.debt_limit) * self._interval
        self._capacity = settings.capacity
        self._views = [_View(settings.regions) for _ in range(settings.regions)]
        self._takes = UnknownTakes(settings.regions, settings.gossip_ns)
        self._then = self._full_at = self._true_debt = 0
        self._seen = 0.0
        self._worst = 0.0
        self._room = 0
        self._guaranteed = [0] * settings.regions
        self._passed = 0
        """Tokens that the guaranteed shares have admitted since `UnknownTakes.full`."""

    def arrived(self, now_ns: int, rule: WatchedRule, up: Sequence[bool], debt: int) -> None:
        """Read what every node that is up knows of, before the calls of a cell.

        `debt` is d(all) now, tokens x interval.
        """
        self._true_debt = debt
        refill = self._rate * (now_ns - self._then)
        self._then = now_ns
        for node, view in enumerate(self._views):
            room = rule.room(node) * self._interval if up[node] else 0
            view.debt = max(view.debt - refill, -room)
            if view.debt < 0:
                self._room = max(self._room, -view.debt)
            if up[node]:
                self._learn(node, rule.known(node))
        self._spread()
        if debt == 0:
            self._takes.full()
            self._full_at, self._seen, self._passed = now_ns, 0.0, 0
            for view in self._views:
                view.forgiven = 0

    def admitted(self, tokens: Sequence[int], guaranteed: Sequence[int]) -> None:
        """Count what each node admitted in the cell. `guaranteed`: what the running process of each
        has admitted so far by its guaranteed share."""
        for now, before in zip(guaranteed, self._guaranteed, strict=True):
            self._passed += now - before if now >= before else now
        self._guaranteed = list(guaranteed)
        self._true_debt += sum(tokens) * self._interval
        for node, amount in enumerate(tokens):
            if amount:
                self._takes.took(node, amount)
                view = self._views[node]
                if view.without_memory:
                    view.taken_blind += amount
                view.known[node] += amount
                self._charge(view, amount)
        blind_spoke = False
        for node, amount in enumerate(tokens):
            view = self._views[node]
            blind_spoke |= bool(amount) and view.without_memory
            if amount and not view.without_memory:
                self._takes.spoke(node, self._then, self._takes.unknown(view.known))
                view.forgiven_then = view.forgiven
        if any(tokens):
            self._judge(blind_spoke)

    def _judge(self, blind_spoke: bool) -> None:
        recent = [
            unknown * self._interval + self._views[node].forgiven_then
            for node, unknown in self._takes.recent(self._then).items()
        ]
        if recent:
            ahead = self._fastest * self._rate * (self._then - self._full_at)
            least = min(recent) + self._rate * GRID_NS
            passed = self._passed * self._interval
            if not blind_spoke:
                least = min(least, max(recent))
            self._seen = max(self._seen, least + passed + ahead)
            self._worst = max(self._worst, self._seen)
        else:
            blind = sum(view.taken_blind for view in self._views if view.without_memory)
            self._worst = max(self._worst, self._seen + blind * self._interval)

    def percent(self) -> float:
        """The bound in % of the capacity."""
        return 100.0 * (self._worst + self._room) / (self._interval * self._capacity)

    def _learn(self, node: int, known: Sequence[int] | None) -> None:
        view = self._views[node]
        if known is None:
            if not view.without_memory:
                view.without_memory, view.taken_blind = True, 0
                view.known, view.debt = [0] * len(view.known), 0
                self._takes.silent(node)
            return
        if view.without_memory:
            self._remember(view, known)
        gain = 0
        for node, tokens in enumerate(known):
            if tokens > view.known[node]:
                gain += tokens - view.known[node]
                view.known[node] = tokens
        self._charge(view, gain)

    def _remember(self, view: _View, known: Sequence[int]) -> None:
        """The node adopts the debt of a peer together with the takes that this peer knows of."""
        others = [other for other in self._views if other is not view]
        view.debt = min(self._cap, max((o.debt for o in others), default=0))
        view.debt += view.taken_blind * self._interval
        view.forgiven = max((o.forgiven for o in others), default=0)
        view.forgave_at = list(known)
        view.known = list(known)
        view.without_memory, view.taken_blind = False, 0

    def _charge(self, view: _View, tokens: int) -> None:
        view.debt += tokens * self._interval
        if view.debt > self._cap:
            dropped = view.forgiven + view.debt - self._cap
            most = max(view.forgiven, self._true_debt - self._cap)
            view.forgiven = min(dropped, most)
            view.forgave_at = list(view.known)
            view.debt = self._cap

    def _spread(self) -> None:
        """Spreads what was forgiven: a node that knows all that a forgiving node knew then may have
        adopted its debt."""
        for view in self._views:
            for other in self._views:
                if other.forgiven > view.forgiven and not view.without_memory:
                    known = zip(view.known, other.forgave_at, strict=True)
                    if all(mine >= theirs for mine, theirs in known):
                        view.forgiven, view.forgave_at = other.forgiven, list(other.forgave_at)
