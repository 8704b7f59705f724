"""The rule on one key, for a thousand nodes at once: arrays in place of tables and frames.

It decides as docs/model.md says ("Taking", "Prediction"): counts by column, confirmed debt, rates
stated with every message, near and far, the reserve, adoption. Left out is what only matters where
state is lost or clocks differ: epochs, drift. In a flat mesh of five nodes it is held against the
library itself by `tests/test_fleet.py`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.fleet.topology import Topology
from crdtbucket.simulator.run_settings import NS, Settings
from crdtbucket.simulator.scenario import Scenario

FAST, SLOW, NEAR = 0.05, 120.0, 0.5
LEAST_WEIGHT = 0.0083
FLUSH_GAP = 0.01
TAKEOVER = 1.0
"""Seconds of silence after which the next node of a region leads it."""

Array = Any
ADOPTED = 50
"""Of a large mesh's messages so many a round are enough for levels to come together: only in these
is the stated level looked at, or a mesh of a thousand takes a billion comparisons a round."""


class Message(NamedTuple):
    """What arrives at some nodes at one time: for each of `columns` what was taken, the rates, and
    the time that these stand for. `said`: the sender's own columns and debt, None not to look."""

    targets: Array
    columns: Array
    taken: Array
    fast: Array
    slow: Array
    stood: Array
    sent: float
    said: tuple[Array, float] | None
    sums: bool


class FleetRule:
    """A fleet as a rule of the simulator. Amounts are tokens, times seconds, in floats."""

    def __init__(
        self, topology: Topology, tick: float = 0.005, losses: Sequence[tuple[float, int]] = ()
    ) -> None:
        """`losses`: when (s) the leader of which region is lost, in the order of time."""
        self.topology, self.name, self._tick_s = topology, topology.name, tick
        self._losses = list(losses)
        self.frames = {"within": 0, "between": 0}

    # ---- the simulator's side ----

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """A fleet with full buckets, every node with its first round at a random phase."""
        self.capacity, self.rate = float(settings.capacity), settings.rate_per_second
        self.most_debt = self.capacity + settings.debt_limit
        self._loss = scenario.loss
        size, columns = self.topology.size, self.topology.columns
        self._rng = np.random.default_rng(settings.seed)
        self.now, self._ticks = 0.0, 0
        self._filled = np.zeros(size)  # debt = filled - rate * now
        self.taken = np.zeros(size)
        self._offered, self._admitted = np.zeros(size), np.zeros(size)
        self._averaged, self._sent_at = np.zeros(size), np.full(size, -1.0)
        self.fast, self._granted = np.zeros(size), np.zeros(size)
        self._slow, self._weight = np.zeros(size), np.zeros(size)
        self._born = np.zeros(size)  # 1 where the key has been asked for
        self._unsent, self._reserve = np.zeros(size), np.full(size, math.inf)
        self._due = self._rng.random(size) * self.topology.interval
        # What each node knows of each column.
        self.known, self._stood = np.zeros((size, columns)), np.zeros((size, columns))
        self._seen = np.full((size, columns), -1.0)
        self._fast, self._slows = np.zeros((size, columns)), np.zeros((size, columns))
        self._group, self._silence = np.zeros(size, dtype=int), False
        self._mail: dict[int, list[Message]] = defaultdict(list)
        each, regions = self.topology.nodes, self.topology.regions
        self._own = np.arange(size) if self.topology.flat else np.arange(size) % each
        self._region = np.arange(size) // each
        self.leader = np.arange(regions) * each
        self._leads_from = np.zeros(regions)
        self._told, self._told_within = np.zeros(regions), np.zeros(regions)
        self._twice, self._relay = np.zeros(regions), np.zeros(regions)
        self.frames = {"within": 0, "between": 0}

    def advance(self, to_ns: int) -> None:
        """Deliver what arrives, and send what is due, up to that time."""
        until = to_ns / NS
        while (self._ticks + 1) * self._tick_s <= until + 1e-9:
            self._ticks += 1
            self.now = self._ticks * self._tick_s
            while self._losses and self._losses[0][0] <= self.now:
                self.lose_leader(self._losses.pop(0)[1])
            for message in self._mail.pop(self._ticks, ()):
                self._deliver(message)
            self._send()
        self.now = until

    def offer(self, node: int, calls: int, cost: int) -> int:
        """How many of the calls the node admits."""
        self._offered[node] += calls
        self._born[node] = 1.0
        slows, silent = self._slows[node], self.now - self._stood[node]
        near = np.minimum(silent, NEAR)
        quick = self._fast[node]
        quick_sum, slow_sum = float(quick.sum()), float(slows.sum())
        predicted = float(quick @ near)
        own_slow = self._slow[node] / max(self._weight[node], LEAST_WEIGHT)
        far = self._far(slows, silent - near, own_slow + slow_sum)
        debt = max(self._filled[node] - self.rate * self.now, -far)
        confirmed = self.capacity - min(max(debt + far, 0.0), self.most_debt)
        since = self.now - self._averaged[node]
        mean_near = predicted / quick_sum if quick_sum > 0 else 0.0
        recent = min(since, mean_near)
        mine = self._admitted[node] * recent / since if since > 0 else 0.0
        mine += self._granted[node] * (mean_near - recent)
        both = self.fast[node] + quick_sum
        share = self.fast[node] / both if both > 0 else 1.0
        available = confirmed - min(predicted, (1 - share) * max(0.0, confirmed + mine))
        total = own_slow + slow_sum
        fair = own_slow * min(1.0, self.rate / total) if total > 0 else 0.0
        most = max(cost, self.capacity / (200 * self.topology.size))
        held = min(most, self._reserve[node]) + fair * since
        small = min(most, max(0.0, held - self._admitted[node]))
        passed = min(calls, int(max(available, min(confirmed, small)) // cost))
        if passed > 0:
            self._take(node, passed * cost, debt)
        return max(0, passed)

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """No message passes between two groups from now on."""
        self._silence = True
        for number, group in enumerate(groups):
            self._group[list(group)] = number

    def heal(self) -> None:
        """All links carry messages again."""
        self._group[:] = 0

    def lose_leader(self, region: int) -> None:
        """The leader's process ends: until the next node of the region takes over, nothing passes
        between it and the others. What the old leader had told the others, and not its region, is
        told again under the new epoch: it counts twice, never not at all."""
        each, self._silence = self.topology.nodes, True
        self.leader[region] = region * each + (self.leader[region] + 1) % each
        self._leads_from[region] = self.now + TAKEOVER
        self._twice[region] += self._told[region] - self._told_within[region]

    def crash(self, node: int) -> None:
        """The model has no epochs."""
        raise NotImplementedError

    def restart(self, node: int) -> None:
        """The model has no epochs."""
        raise NotImplementedError

    def suspend(self, node: int, duration_ns: int) -> None:
        """The model has no pauses."""
        raise NotImplementedError

    def own_bound(self, until_ns: int) -> int | None:
        """None: it depends on what is delivered when."""
        return None

    # ---- inside ----

    def _far(self, slows: Array, far: Array, total: float) -> float:
        if not (far > 0).any() or total <= 0:
            return 0.0
        return float(slows @ far) * min(1.0, self.rate / total)

    def _take(self, node: int, tokens: int, debt: float) -> None:
        self._filled[node] = debt + self.rate * self.now + tokens
        self.taken[node] += tokens
        self.known[node, self._own[node]] += tokens
        self._admitted[node] += tokens
        self._unsent[node] += tokens

    def _average(self, nodes: Array) -> None:
        since = self.now - self._averaged[nodes]
        slow_sum = self._slows[nodes].sum(axis=1)
        own = self._slow[nodes] / np.maximum(self._weight[nodes], LEAST_WEIGHT)
        total = own + slow_sum
        fair = own * np.minimum(1.0, self.rate / np.maximum(total, 1e-12))
        most = max(1.0, self.capacity / (200 * self.topology.size))
        held = np.minimum(most, self._reserve[nodes]) + fair * since - self._admitted[nodes]
        self._reserve[nodes] = np.clip(held, 0.0, most)
        seconds = np.maximum(since, 1e-9)
        quick, slow = -np.expm1(-since / FAST), -np.expm1(-since / SLOW)
        offered, admitted = self._offered[nodes] / seconds, self._admitted[nodes] / seconds
        self.fast[nodes] += quick * (offered - self.fast[nodes])
        self._granted[nodes] += quick * (admitted - self._granted[nodes])
        self._slow[nodes] += slow * (offered - self._slow[nodes])
        self._weight[nodes] += slow * (1.0 - self._weight[nodes]) * self._born[nodes]
        self._offered[nodes] = self._admitted[nodes] = 0.0
        self._averaged[nodes] = self.now

    def _send(self) -> None:
        rounds = self._due <= self.now
        self._due[rounds] += self.topology.interval
        flush = self._unsent >= self.capacity / (20 * self.topology.size)
        if not self.topology.flat:
            flush[self.leader] |= self._relay >= self.capacity / (20 * self.topology.regions)
        nodes = np.flatnonzero(rounds | (flush & (self.now - self._sent_at >= FLUSH_GAP)))
        if not len(nodes):
            return
        self._average(nodes)
        self._sent_at[nodes], self._unsent[nodes] = self.now, 0.0
        if self.topology.flat:
            for node in nodes:
                self._tell(node, np.arange(self.topology.size))
            return
        for node in nodes:
            region = self._region[node]
            first = region * self.topology.nodes
            peers = np.arange(first, first + self.topology.nodes)
            leads = self.leader[region] == node and self.now >= self._leads_from[region]
            self._tell(node, peers, leads)
            if leads:
                self._tell_leaders(node, region)

    def _arrivals(self, node: int, targets: Array) -> tuple[Array, Array]:
        """Delays of a frame to each target, and the mean ones."""
        near = self._region[targets] == self._region[node]
        mean = np.where(near, self.topology.within, self.topology.between)
        spread = self.topology.jitter * (2.0 * self._rng.random(len(targets)) - 1.0)
        return mean * (1.0 + spread), mean

    def _tell(self, node: int, peers: Array, leads: bool = False) -> None:
        targets = peers[(peers != node) & (self._group[peers] == self._group[node])]
        if self._loss:
            targets = targets[self._rng.random(len(targets)) >= self._loss]
        kind = "within" if not self.topology.flat else "between"
        self.frames[kind] += len(peers) - 1
        delay, mean = self._arrivals(node, targets)
        slow = self._slow[node] / max(self._weight[node], LEAST_WEIGHT)
        columns = np.array([self._own[node]])
        values = np.array([[self.taken[node]], [self.fast[node]], [slow], [0.0]])
        if leads:
            region = self._region[node]
            others = np.delete(np.arange(self.topology.regions), region) + self.topology.nodes
            columns = np.concatenate([columns, others])
            age = self.now - self._stood[node, others]
            told = (self.known, self._fast, self._slows)
            relayed = np.stack([*(table[node, others] for table in told), age])
            values = np.concatenate([values, relayed], axis=1)
            self._relay[region] = 0.0
            self._told_within[region] = self._told[region]
        said = None
        if self._rng.random() * len(peers) < ADOPTED:
            said = self.known[node].copy(), max(0.0, self._filled[node] - self.rate * self.now)
        self._post(targets, columns, values, delay, mean, said)

    def _tell_leaders(self, node: int, region: int) -> None:
        """The sum of the region's columns and rates, as old as these are on average."""
        each, others = self.topology.nodes, np.delete(self.leader, region)
        targets = others[self._group[others] == self._group[node]]
        self.frames["between"] += len(others)
        taken = self.known[node, :each].sum() + self._twice[region]
        quick, slow = self._fast[node, :each], self._slows[node, :each]
        own_slow = self._slow[node] / max(self._weight[node], LEAST_WEIGHT)
        age = (quick @ (self.now - self._stood[node, :each])) / max(quick.sum(), 1e-12)
        all_quick, all_slow = quick.sum() + self.fast[node], slow.sum() + own_slow
        age *= quick.sum() / max(all_quick, 1e-12)
        self._told[region] = taken
        values = np.array([[taken], [all_quick], [all_slow], [age]])
        delay, mean = self._arrivals(node, targets)
        debt = max(0.0, self._filled[node] - self.rate * self.now)
        said = self._sums(np.array([node]))[0], debt
        self._post(targets, np.array([each + region]), values, delay, mean, said, sums=True)

    def _sums(self, leaders: Array) -> Array:
        """The columns of regions as these leaders hold them."""
        each = self.topology.nodes
        held = self.known[leaders, each:].copy()
        regions = self._region[leaders]
        own = self.known[leaders, :each].sum(axis=1) + self._twice[regions]
        held[np.arange(len(leaders)), regions] = own
        return held

    def _post(
        self,
        targets: Array,
        columns: Array,
        values: Array,
        delay: Array,
        mean: Array,
        said: tuple[Array, float] | None,
        sums: bool = False,
    ) -> None:
        ticks = np.ceil((self.now + delay) / self._tick_s - 1e-9).astype(int)
        order = np.argsort(ticks, kind="stable")
        targets, ticks, mean = targets[order], ticks[order], mean[order]
        cuts = np.flatnonzero(np.diff(ticks)) + 1
        for some, tick, lag in zip(
            np.split(targets, cuts), np.split(ticks, cuts), np.split(mean, cuts), strict=True
        ):
            if len(some):
                stood = tick[0] * self._tick_s - lag[0] - values[3]
                message = Message(some, columns, *values[:3], stood, self.now, said, sums)
                self._mail[int(tick[0])].append(message)

    def _deliver(self, message: Message) -> None:
        targets, columns, taken, quick, slow, stood, sent, said, sums = message
        at = np.ix_(targets, columns)
        known = self.known[at]
        gain = np.maximum(0.0, taken - known)
        total = gain.sum(axis=1)
        empty = self.rate * self.now
        filled = np.maximum(self._filled[targets], empty - self._far_room(targets))
        after = filled + total
        if said is not None:
            mine = self._sums(targets) if sums else self.known[targets]
            lacks = np.maximum(0.0, mine - said[0]).sum(axis=1)
            after = np.minimum(after, empty + said[1] + lacks)
        self._filled[targets] = np.minimum(after, empty + self.most_debt)
        self.known[at] = known + gain
        if not self.topology.flat:
            leads = self.leader[self._region[targets]] == targets
            foreign = leads & (columns[0] >= self.topology.nodes)
            np.add.at(self._relay, self._region[targets[foreign]], total[foreign])
        newer = sent > self._seen[at]
        self._seen[at] = np.where(newer, sent, self._seen[at])
        self._fast[at] = np.where(newer, quick, self._fast[at])
        self._slows[at] = np.where(newer, slow, self._slows[at])
        self._stood[at] = np.maximum(self._stood[at], stood)

    def _far_room(self, targets: Array) -> Array:
        """What silent peers may take, for which a full bucket keeps room."""
        if not self._silence:
            return 0.0
        far = np.maximum(0.0, self.now - self._stood[targets] - NEAR)
        slows = self._slows[targets]
        own = self._slow[targets] / np.maximum(self._weight[targets], LEAST_WEIGHT)
        total = own + slows.sum(axis=1)
        return (slows * far).sum(axis=1) * np.minimum(1.0, self.rate / np.maximum(total, 1e-12))
