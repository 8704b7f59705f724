"""A small network of nodes for the rules that are compared with: clocks, faults, delays."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from random import Random

from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Scenario

_PPM = 1_000_000


class Nodes:
    """The nodes that simple rules share: their clocks, which are up, and which links are cut."""

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin a run at time 0 with a full bucket everywhere."""
        self.settings, self.scenario, self.now = settings, scenario, 0
        self.ppm = [round(scenario.drift_ppm.get(n, 0.0)) for n in range(settings.regions)]
        self.up_at: list[int | None] = [0] * settings.regions
        self.group = [0] * settings.regions
        self.lost_ways: set[tuple[int, int]] = set()
        self.held = 0, 0, 0
        self.restarts = 0
        for node in range(settings.regions):
            self.reset(node)

    def reset(self, node: int) -> None:
        """Give the node an empty memory."""
        raise NotImplementedError

    def clock(self, node: int) -> int:
        """The node's own time, ns: monotonic, and as fast as its drift says."""
        return self.now + self.now * self.ppm[node] // _PPM

    def is_up(self, node: int) -> bool:
        """Whether the node runs now."""
        up_at = self.up_at[node]
        return up_at is not None and self.now >= up_at

    def advance(self, to_ns: int) -> None:
        """Let time pass."""
        self.now = to_ns

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """No message passes between two groups from now on."""
        for number, group in enumerate(groups):
            for node in group:
                self.group[node] = number

    def sever(self, groups: Sequence[Sequence[int]]) -> None:
        """The same: these rules look at no connection."""
        self.partition(groups)

    def cut(self, ways: Sequence[tuple[int, int]]) -> None:
        """No message passes from the first to the second node of each of these from now on."""
        self.lost_ways |= set(ways)

    def passes(self, source: int, target: int) -> bool:
        """Whether a message that arrives now gets through."""
        return self.group[source] == self.group[target] and (source, target) not in self.lost_ways

    def stall(self, held_ns: int, drain_ns: int) -> None:
        """Messages are held from now on, and come late: within `drain_ns` after `held_ns`."""
        self.held = self.now, held_ns, drain_ns

    def heal(self) -> None:
        """All links carry messages again."""
        self.group = [0] * self.settings.regions
        self.lost_ways.clear()

    def crash(self, node: int) -> None:
        """The node's memory is lost."""
        self.up_at[node] = None

    def restart(self, node: int) -> None:
        """The node starts again with empty memory."""
        self.restarts += 1
        self.up_at[node] = self.now
        self.reset(node)

    def replace(self, node: int) -> None:
        """A process under another name: to these rules, which know nodes by number, the same."""
        self.restart(node)

    def suspend(self, node: int, duration_ns: int) -> None:
        """The node stands still and keeps its memory."""
        self.up_at[node] = self.now + duration_ns

    def fast_clocks(self, until_ns: int) -> int:
        """Tokens by which nodes with fast clocks refill more in that time, were each alone."""
        fast = sum(max(0, ppm) for ppm in self.ppm)
        rate, interval = self.settings.refill_rate, self.settings.interval_ns
        return -(-rate * until_ns * fast // (interval * _PPM))


class Gossip(Nodes):
    """Nodes that send each other a message every interval: delayed, reordered, lost from a seed.

    Messages must be cumulative: one that reaches a node which is down, or a cut link, is gone.
    """

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin a run at time 0, every node with its first round at a random phase."""
        super().start(scenario, settings)
        self._rng = Random(f"{settings.seed}/{scenario.name}/network")
        # (time, order, target, source, message); target -1 stands for the source's own round.
        self._queue: list[tuple[int, int, int, int, object]] = []
        self._count = 0
        if settings.regions > 1:
            for node in range(settings.regions):
                self._push(round(self._rng.random() * settings.gossip_ns), -1, node, None)

    def message(self, node: int) -> object:
        """What the node tells in its round."""
        raise NotImplementedError

    def receive(self, node: int, source: int, message: object) -> None:
        """The node takes a message of `source`."""
        raise NotImplementedError

    def advance(self, to_ns: int) -> None:
        """Deliver what arrives, and send the rounds that fall due, up to that time."""
        queue = self._queue
        while queue and queue[0][0] <= to_ns:
            self.now, _, target, source, message = heapq.heappop(queue)
            if target < 0:
                self._round(source)
            elif self.is_up(target) and self.passes(source, target):
                self.receive(target, source, message)
        self.now = to_ns

    def _round(self, node: int) -> None:
        settings, rng = self.settings, self._rng
        self._push(self.now + settings.gossip_ns, -1, node, None)
        if not self.is_up(node):
            return
        message = self.message(node)
        for target in range(settings.regions):
            if target != node and rng.random() >= self.scenario.loss:
                spread = settings.jitter * (2.0 * rng.random() - 1.0)
                delay = round(settings.lag_ns * (1.0 + spread))
                self._push(self._late(self.now + delay), target, node, message)

    def _late(self, at: int) -> int:
        """When a message arrives that would arrive at `at` if nothing were held."""
        since, held, drain = self.held
        if not since <= at < since + held + drain:
            return at
        return since + held + (at - since) * drain // (held + drain)

    def _push(self, at: int, target: int, source: int, message: object) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, target, source, message))
