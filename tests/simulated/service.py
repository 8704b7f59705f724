"""What callers may expect of the mesh as a whole: calls within the limit are not denied, nobody is
starved, each gets a share by demand, and what there is is given out; but never much more."""

from __future__ import annotations

from typing import Any

from crdtbucket.testing import SimulatedNode
from tests.simulated.network import Network
from tests.simulated.plan import Plan
from tests.simulated.truth import IdealBucket
from tests.simulated.view import View

SECOND = 10**9
ROOMY = (4, 5)
"""Demand is within the limit when a bucket of half the size and so much of the rate denies none."""
CLAIM = 2.0
"""Demand counts for up to this multiple of the rate in what a node may expect."""
PART = 0.5
"""Of what it may expect, a node gets at least so much."""
GIVEN = 0.85
"""Of what an ideal bucket gives out, the mesh gives at least so much."""
BURSTY = 0.45
"""Of the capacity, given out beyond the limit at most where bursts come again and again: what one
was says what the next will be."""
BURST_PART = 0.1
"""Of their period, in which bursts come."""
LOSSY = 3.0
"""Where frames are lost, news may take so much longer, in seconds."""


class Window:
    """A time in which nothing happens and the mesh is connected: what was asked for and given."""

    def __init__(self, since: int, ideal: IdealBucket) -> None:
        self.since = since
        self.ideal = ideal
        self.offered: dict[str, int] = {}
        self.given: dict[str, int] = {}
        self.waiting: dict[str, int] = {}
        """Since when each node has only denied calls, ns; not there when the last was admitted."""
        self.starved: dict[str, int] = {}
        """The longest time that a node with demand admitted nothing, ns."""
        self.ideal_given = 0
        self.beyond = 0.0
        """Tokens given out beyond what one bucket would have had, at most."""


class Service:
    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self.plan, self.mesh, self.view = plan, mesh, view
        self.rate = plan.main.rate_per_second
        self.lag = plan.one_way * view.hops + plan.gossip_interval * view.hops
        self.settle_ns = round((2.0 + 10 * self.lag) * SECOND)
        self.slowest = round(min(0.0, *(ppm for _, ppm in plan.clocks)))
        half = IdealBucket(plan.main, ppm=self.slowest, part=ROOMY)
        half.capacity = max(1, plan.main.capacity // 2)
        self.half = half
        self.within = True
        """Whether all demand so far was within the limit, and nothing made that unclear."""
        self.calls = self.denied_within = 0
        self.one = IdealBucket(plan.main, ppm=self.slowest)
        """One bucket for all, which sees every call."""
        self.offered = self.denied = self.denied_by_one = 0
        self.true = IdealBucket(plan.main, 2**53)
        self.window: Window | None = None
        self._changes: list[int] = []
        self._started: dict[str, int] = {}

    def changes(self, at: float) -> None:
        self._changes.append(round(at * SECOND))

    def happens(self, what: str, args: tuple[Any, ...]) -> None:
        """An event ends the window."""
        if what == "save":
            return
        self._close()
        if what == "reload":
            self.within = False
        if what in ("come", "return"):
            self._started[args[0]] = self.mesh.now_ns

    # ---- every step of demand ----

    def took(self, node: SimulatedNode, calls: int, cost: int, allowed: int) -> None:
        now = self.mesh.now_ns
        self.true.charge(allowed * cost, now)
        self.calls += calls
        self.offered += calls * cost
        self.denied_by_one += calls - self.one.admits(calls, cost, now)
        if not self._starting(node):
            self.denied += calls - allowed
        self._check_within(node, calls, cost, allowed)
        if self._changes and now >= self._changes[0]:
            self.view.disturbed = max(self.view.disturbed, self._changes.pop(0))
            self._close()
        if self.plan.has("reload") or now < self.view.disturbed + self.settle_ns:
            return
        if self.window is None:
            if not self._steady():
                self.view.disturbed = now  # not now: look again later
                return
            ideal = IdealBucket(self.plan.main, 2**53, ppm=self.slowest)
            ideal.charge(round(self.true.debt(now) / self.true.token), now)
            self.window = Window(now, ideal)
        self._count(self.window, node.name, calls, cost, allowed)

    def _steady(self) -> bool:
        """Whether what is silent says nothing about the others: all are connected or have ended."""
        return self.view.connected() and not self.view.gone_silently

    def _count(self, window: Window, name: str, calls: int, cost: int, allowed: int) -> None:
        now = self.mesh.now_ns
        window.offered[name] = window.offered.get(name, 0) + calls * cost
        window.given[name] = window.given.get(name, 0) + allowed * cost
        window.beyond = max(window.beyond, -self.true.level(now))
        window.ideal_given += window.ideal.admits(calls, cost, now) * cost
        since = window.waiting.setdefault(name, now)
        window.starved[name] = max(window.starved.get(name, 0), now - since)
        if allowed:
            del window.waiting[name]

    # ---- rules ----

    def _check_within(self, node: SimulatedNode, calls: int, cost: int, allowed: int) -> None:
        """Demand within the limit is not denied while the mesh is connected, nor by a node that
        has just started without memory."""
        if not self.within:
            return
        now = self.mesh.now_ns
        if self.half.admits(calls, cost, now) < calls:
            self.within = False
            return
        if allowed == calls or self._starting(node):
            return
        if not self.view.connected():
            return
        self.denied_within += calls - allowed
        if self.denied_within > self._may_deny():
            self.view.broken(
                "denied",
                f"{node.name} denied {calls - allowed} of {calls} calls at {now / SECOND:.3f} s: "
                f"{self.denied_within} of {self.calls} in all, within the limit",
            )

    def _starting(self, node: SimulatedNode) -> bool:
        """Whether it has started just now, and knows little yet."""
        began = self._started.get(node.name)
        return began is not None and self.mesh.now_ns < began + self.settle_ns

    def _check_as_one(self) -> None:
        """Demand below the limit is denied as by one bucket for all, or 1 % more, whatever is cut:
        where no node has died or come, since a share is kept for who is not heard."""
        seconds = self.mesh.now_ns / SECOND
        if self.plan.has("reload", "die", "leave", "come", "return", "pause"):
            return
        few = 3 + self.calls // 100
        if self.offered <= 0.7 * self.rate * seconds and self.denied > self.denied_by_one + few:
            self.view.broken(
                "as one",
                f"{self.denied} of {self.calls} calls denied, one bucket {self.denied_by_one}",
            )

    def _may_deny(self) -> float:
        """None; but a bucket so small that a call on each node nearly empties it: 1 % and some."""
        roomy = self.plan.main.capacity >= 25 * self.plan.cost * len(self.mesh.nodes)
        return 0.0 if roomy else 3 + 0.01 * self.calls

    def _close(self) -> None:
        window, self.window = self.window, None
        if window is None or not self._steady():
            return
        seconds = (self.mesh.now_ns - window.since) / SECOND
        capacity, cost = self.plan.main.capacity, self.plan.cost
        given, nodes = sum(window.given.values()), len(window.offered)
        for_steps = 2 * cost * nodes
        least = GIVEN * window.ideal_given - 0.3 * capacity - for_steps
        if given < least:
            self.view.broken(
                "given",
                f"{given} tokens in {seconds:.1f} s, one bucket would give {window.ideal_given}",
            )
        self._check_excess(window, seconds)
        claims = {n: min(o, CLAIM * self.rate * seconds) for n, o in window.offered.items()}
        for name, offered in window.offered.items():
            due = min(offered, window.ideal_given * claims[name] / max(1, sum(claims.values())))
            if window.given[name] < PART * due - 0.1 * capacity - for_steps - 3 * due**0.5:
                self.view.broken(
                    "share",
                    f"{name} got {window.given[name]} tokens of {offered} in {seconds:.1f} s, "
                    f"{due:.1f} of {window.ideal_given} are its part",
                )
            starved = window.starved.get(name, 0) / SECOND
            each = seconds * cost / due if due else 1e9
            if starved > 2.0 + 10 * self.lag + 15 * each:
                self.view.broken(
                    "starved",
                    f"{name} got nothing for {starved:.1f} s, a call each {each:.2f} s is its part",
                )

    def _check_excess(self, window: Window, seconds: float) -> None:
        """Beyond the limit goes what is offered in the time that news take there and back, and a
        call on each node; and less where bursts have been seen before."""
        plan, nodes = self.plan, len(self.mesh.nodes)
        kind, period = plan.arrivals
        peak = 1 / BURST_PART if kind == "bursts" else 1.0
        late = 2 * self.lag + (LOSSY if plan.loss[0] else 0.0)
        rate = sum(window.offered.values()) / max(seconds, 1e-9) * peak
        most = rate * late + plan.cost * nodes + 0.1 * plan.main.capacity
        if window.beyond > most:
            self.view.broken("excess", f"{window.beyond:.1f} tokens beyond, at most {most:.1f}")
        quick = self.lag <= 0.2 and not plan.loss[0] and plan.storm is None
        seen = kind == "bursts" and seconds > 5 * period and rate * BURST_PART < 3 * self.rate
        roomy = plan.main.capacity >= 25 * plan.cost * nodes
        if quick and seen and roomy and window.beyond > BURSTY * plan.main.capacity:
            self.view.broken(
                "bursts", f"{window.beyond:.1f} tokens beyond a capacity of {plan.main.capacity}"
            )

    def finish(self) -> None:
        """The demand is over."""
        self._close()
        self._check_as_one()
