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


class _View:
    """The counts that one node may have: an upper estimate of its debt, and of what it forgave.

    Amounts are tokens x refill interval, as in `measure.OverAdmission`.
    """

    def __init__(self, nodes: int) -> None:
        self.known = [0] * nodes
        self.debt = 0
        self.forgiven = 0
        self.forgave_at = [0] * nodes
        self.without_memory = False
        self.taken_blind = 0
        self.spoke_at: int | None = None
        self.unsure = 0


class Undelivered:
    """Watches one run of a rule by which every node counts all that it knows of."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        self._interval, self._rate = settings.interval_ns, settings.refill_rate
        self._fastest = max((0.0, *scenario.drift_ppm.values())) / 1e6
        self._cap = (settings.capacity + settings.debt_limit) * self._interval
        self._capacity, self._memory_ns = settings.capacity, settings.gossip_ns
        self._views = [_View(settings.regions) for _ in range(settings.regions)]
        self._totals = [0] * settings.regions
        self._history = [0] * settings.regions
        self._then = self._full_at = self._true_debt = 0
        self._seen = 0.0
        self._worst = 0.0
        self._room = 0
        self._guaranteed = [0] * settings.regions
        self._passed = 0
        """Tokens that passed by the guarantee since all was full."""

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
                self._learn(view, rule.known(node))
        self._spread()
        if debt == 0:
            self._history, self._full_at, self._seen = list(self._totals), now_ns, 0.0
            self._passed = 0
            for view in self._views:
                view.forgiven, view.spoke_at = 0, None

    def admitted(self, tokens: Sequence[int], guaranteed: Sequence[int]) -> None:
        """Count what each node admitted in the cell. `guaranteed`: what the running process of each
        has admitted so far by its guaranteed share."""
        for now, before in zip(guaranteed, self._guaranteed, strict=True):
            self._passed += now - before if now >= before else now
        self._guaranteed = list(guaranteed)
        self._true_debt += sum(tokens) * self._interval
        for node, amount in enumerate(tokens):
            if amount:
                self._totals[node] += amount
                view = self._views[node]
                if view.without_memory:
                    view.taken_blind += amount
                view.known[node] += amount
                self._charge(view, amount)
        for view, amount in zip(self._views, tokens, strict=True):
            if amount and not view.without_memory:
                view.spoke_at, view.unsure = self._then, self._unknown(view) * self._interval
                view.unsure += view.forgiven
            else:
                view.unsure += sum(tokens) * self._interval
        if any(tokens):
            pairs = zip(self._views, tokens, strict=True)
            self._judge(any(amount and view.without_memory for view, amount in pairs))

    def _judge(self, blind_spoke: bool) -> None:
        recent = [
            view.unsure
            for view in self._views
            if view.spoke_at is not None and self._then - view.spoke_at <= self._memory_ns
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

    def _unknown(self, view: _View) -> int:
        """Tokens taken since all was full that the node does not know of: each node's latest."""
        rows = zip(self._totals, view.known, self._history, strict=True)
        return sum(min(total - known, total - before) for total, known, before in rows)

    def _learn(self, view: _View, known: Sequence[int] | None) -> None:
        if known is None:
            if not view.without_memory:
                view.without_memory, view.taken_blind, view.spoke_at = True, 0, None
                view.known, view.debt = [0] * len(view.known), 0
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
        """The node takes over a peer's debt together with the takes that the peer knows."""
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
        """A node that knows all that a forgiving node knew then may have taken over its debt."""
        for view in self._views:
            for other in self._views:
                if other.forgiven > view.forgiven and not view.without_memory:
                    known = zip(view.known, other.forgave_at, strict=True)
                    if all(mine >= theirs for mine, theirs in known):
                        view.forgiven, view.forgave_at = other.forgiven, list(other.forgave_at)
