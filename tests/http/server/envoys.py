"""Envoys in virtual time: what the filter `rate_limit_quota` does with its assignments."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from crdtbucket import BucketSpec, Limiter
from crdtbucket._core import Table
from crdtbucket.base.clock import NS_PER_SECOND as NS
from crdtbucket.http.server.descriptor_limits import DescriptorLimits
from crdtbucket.http.server.quota_server import ASSIGNED_S, QuotaServer
from crdtbucket.http.server.quota_subscription import BucketId, QuotaAction, QuotaUsage
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.spec.descriptor_rule import DescriptorRule

STEP_NS = NS // 10
RULES = (DescriptorRule("api", (("route", "api"), ("user", None)), "edge"),)


def bucket_id(user: str = "u", route: str = "api") -> BucketId:
    return (b"route", route.encode()), (b"user", user.encode())


def api(capacity: int = 100, rate: int = 10, **more: Any) -> BucketSpec:
    return BucketSpec("api", capacity, rate, "1s", **more)


class VirtualNode:
    """A node with its quota server, at a time that the test sets."""

    def __init__(
        self, *specs: BucketSpec, rules: Iterable[DescriptorRule] = RULES, seconds: float = 1_000
    ) -> None:
        self.table = Table(virtual=True)
        self.table.set_time(round(seconds * NS))
        self.limiter = Limiter(specs, _table=self.table)
        # Stands for the configuration, which a limiter without a file does not have.
        self.seen: Any = SimpleNamespace(bucket=self.limiter.bucket)
        self.rules(rules)
        limits = DescriptorLimits(self.seen, ServeSettings(), lambda *_: None)
        self.weighed: list[tuple[str, int, bool]] = []
        self.server = QuotaServer(self.seen, limits, self._weigh, self.table.now)
        self.due: int | None = None

    def rules(self, rules: Iterable[DescriptorRule]) -> None:
        self.seen.config = SimpleNamespace(descriptors=tuple(rules))

    def _weigh(self, bucket: Any, key: str, cost: int, allowed: bool) -> None:
        self.weighed.append((key, cost, allowed))

    @property
    def now(self) -> int:
        return self.table.now()

    def left(self, user: str = "u") -> int:
        return self.limiter.bucket("api").peek(user).remaining

    async def tick(self, seconds: float = 0.0) -> None:
        self.table.set_time(self.now + round(seconds * NS))
        self.due = self.server.tick()
        await self.settle()

    async def settle(self) -> None:
        """Waits for all tasks that were started."""
        while self.server.schedule.assigning:
            await asyncio.wait(self.server.schedule.assigning)


class SimulatedEnvoy:
    """One bucket of one Envoy."""

    def __init__(
        self,
        node: VirtualNode,
        *,
        rate: Callable[[float], float] = lambda _: 0.0,
        interval: float = 5.0,
        fallback: int = 0,
        seed: int = 0,
    ) -> None:
        """`rate`: requests a second, by the seconds since the start. `fallback`: requests admitted
        after an assignment has ended."""
        self.node = node
        self.id = bucket_id()
        self.stream = node.server.open()
        self.connected = True
        self.allowed = self.denied = 0
        self.total = self.refused = self.unassigned = 0
        """Numbers of requests: admitted, denied, and admitted without an assignment."""
        self.known = False
        self.action: QuotaAction | None = None
        self._tokens = 0
        self._until = 0
        self._rate, self._interval = rate, round(interval * NS)
        self._fallback = fallback
        self._begun = node.now
        self._next = node.now + self._interval
        self._random = random.Random(seed)

    def request(self) -> bool:
        """Whether a request passes, by the assignment or without one."""
        if self.action is None:
            passes, self.unassigned = True, self.unassigned + 1
        elif self.node.now >= self._until:
            passes, self._fallback = self._fallback > 0, self._fallback - 1
        elif self.action.tokens is None:
            passes = True
        else:
            passes, self._tokens = self._tokens > 0, max(0, self._tokens - 1)
        self.allowed += passes
        self.denied += not passes
        self.total += passes
        self.refused += not passes
        if not self.known:
            self.known = True
            self.report()
        return passes

    def report(self) -> None:
        """Reports the use since the last report; without a connection the report is lost."""
        usage = QuotaUsage(self.id, self.allowed, self.denied)
        self.allowed = self.denied = 0
        if self.connected:
            self.node.server.report(self.stream, "edge", [usage])

    def read(self) -> None:
        """Applies the assignments that have arrived."""
        for action in self.stream.sent() if self.connected else []:
            self._until = self.node.now + ASSIGNED_S * NS
            if action.abandon:
                self.action, self.known, self.allowed, self.denied = None, False, 0, 0
            elif not action.extends:
                self.action, self._tokens = action, action.tokens or 0

    def step(self, dt_ns: int) -> int:
        """Plays the requests of a time step and all else that is due. Returns how many passed."""
        self.read()
        before = self.total
        rate = self._rate((self.node.now - self._begun) / NS) * dt_ns / NS
        count = int(rate) + (self._random.random() < rate % 1)
        for _ in range(count):
            self.request()
        if self.node.now >= self._next:
            self._next += self._interval
            if self.known:
                self.report()
        return self.total - before

    def disconnect(self) -> None:
        self.node.server.close(self.stream)
        self.connected = False

    def reconnect(self) -> None:
        self.stream = self.node.server.open()
        self.connected = True


async def assigned(node: VirtualNode, envoy: SimulatedEnvoy) -> int:
    """Makes a first request; returns the tokens of the assignment that follows."""
    assert envoy.request()
    await node.tick()
    envoy.read()
    assert envoy.action is not None
    assert envoy.action.tokens is not None
    return envoy.action.tokens


async def run(node: VirtualNode, envoys: list[SimulatedEnvoy], seconds: float) -> list[int]:
    """Plays for so many seconds; returns the requests that passed in each step."""
    passed = []
    for _ in range(round(seconds * NS / STEP_NS)):
        node.table.set_time(node.now + STEP_NS)
        passed.append(sum(one.step(STEP_NS) for one in envoys))
        if node.server.schedule.sooner.is_set() or (node.due is not None and node.due <= node.now):
            node.server.schedule.sooner.clear()
            await node.tick()
    return passed


def most_above(passed: list[int], rate: float) -> float:
    """The most requests that passed in any window beyond `rate` a second."""
    worst = here = 0.0
    for count in passed:
        here = max(0.0, here + count - rate * STEP_NS / NS)
        worst = max(worst, here)
    return worst
