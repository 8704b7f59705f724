"""What callers may expect of the whole mesh: calls within the limit are not denied, nobody is
starved, each gets a share by demand, and what is refilled is admitted, but never much more."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.testing import SimulatedNode
from tests.simulated.light_load import LightLoad
from tests.simulated.network import LAST_RETRY_NS, Network
from tests.simulated.parted import Parted
from tests.simulated.plan import Plan
from tests.simulated.truth import IdealBucket, LateBucket, Missing
from tests.simulated.unheard import Unheard
from tests.simulated.view import View
from tests.simulated.window import Window
from tests.simulated.window_rules import WindowRules

SECOND = 10**9
UNLEARNED_NS = 20 * SECOND
"""A silence that begins before rates are known shows after so long (ns)."""
IRREGULAR = ("jump", "still", "reset", "surge", "flood", "stage")
"""Events after which one bucket for all is no measure of what may be denied."""
LOSSY = 3.0
"""Seconds by which updates may be later where frames are lost."""


class Service:
    def __init__(self, plan: Plan, mesh: Network, view: View) -> None:
        self.plan, self.mesh, self.view = plan, mesh, view
        self.rate = plan.main.rate_per_second
        self.lag = plan.one_way * view.hops + plan.gossip_interval * view.hops
        self.settle_ns = round((2.0 + 10 * self.lag) * SECOND)
        self._ceiling = max(plan.main.max_debt, round(4 * self.rate * self.lag))
        self.slowest = round(min(0.0, *(ppm for _, ppm in plan.clocks)))
        self._late = round((2 * self.lag + (LOSSY if plan.loss[0] else 0.0)) * SECOND)
        late = round((self.lag + (LOSSY if plan.loss[0] else 0.0)) * SECOND)
        self.light = LightLoad(plan.main, self._ceiling, late, self.slowest)
        self._under_old = False
        """Whether nodes still have a definition that was replaced, or owe for takes under it."""
        self.calls = self.denied_within = 0
        self.one = LateBucket(IdealBucket(plan.main, ppm=self.slowest), late)
        """One bucket for all, which sees every call."""
        self.offered = self.denied = self.denied_by_one = 0
        self.denied_unheard = 0
        """Calls that `one` admits and that were held back for nodes whose burst was not seen to
        end."""
        self._unheard = Unheard(plan, mesh, self.lag)
        self.true = IdealBucket(plan.main, 2**53)
        self.window: Window | None = None
        self.learned: int | None = None
        """The number of calls by which nodes knew each other's rates when the first way was cut or
        held. 0: that was in the first rounds; None: no way was yet."""
        self._heard, self._silence = 0, 0
        """How many calls there had been when the first way was cut or held, and when that was
        (ns)."""
        self._changes: list[int] = []
        self._started: dict[str, int] = {}
        self._missing: dict[str, Missing] = {}
        self._learns = (1.0 + 2 * self.lag) * (2 if plan.loss[0] else 1)
        """Seconds by which nodes know each other's rates."""
        self._parted = Parted(view, self._learns)
        self.rules = WindowRules(plan, mesh, view, self.lag)

    def changes(self, at: float) -> None:
        self._changes.append(round(at * SECOND))

    def happens(self, what: str, args: tuple[Any, ...], *, anew: bool = False) -> None:
        """An event ends the window. `anew`: what is owed is unknown from now on."""
        if what in ("save", "add", "spend", "limit"):
            return
        self._parted.happens(self.mesh.now_ns)
        if what == "pause" and self.plan.keys > self.plan.max_keys:
            self._parted.stands_still(self.view.settled(what, args))
        self._close()
        now = self.mesh.now_ns
        if anew:
            self._under_old = True
            self.light.unclear(now)
        if what in ("cut", "stall") and self.learned is None:
            self._heard, self._silence = self.calls, now
            self.learned = self.calls if now >= self._learns * SECOND else 0
        if what in ("come", "return") and not any(n.up for n in self.mesh.nodes.values()):
            self.true = IdealBucket(self.plan.main, 2**53)  # no node has a memory of what was taken
        if what in ("come", "return"):
            self._started[args[0]] = now
            self._missing.pop(args[0], None)
        if what in ("die", "leave", "pause", "still") and self.mesh.nodes[args[0]].up:
            self._missing[args[0]] = Missing(
                self.rules.rate_of(args[0]), now, self.view.settled(what, args)
            )
        if what in ("cut", "stall") and self.plan.arrivals[0] == "bursts":
            # A node that does not see the end of a burst expects it to go on, up to the near
            # horizon.
            for source, target in args[1 if what == "cut" else 2]:
                if self.mesh.nodes[source].up:
                    rate, until = self.rules.rate_of(source), now + self._unheard.horizon_ns
                    self._missing[f"{source} to {target}"] = Missing(rate, now, until)
                    self._unheard.falls_silent(target, rate, now)

    def under(self, spec: BucketSpec) -> Service:
        """The rules from when on all nodes have this definition and what was owed before has
        refilled."""
        by, storm = self.rate / spec.rate_per_second, self.plan.storm
        plan = replace(
            self.plan,
            main=spec,
            cost=min(self.plan.cost, spec.capacity),
            phases=tuple(p._replace(amount=by * p.amount) for p in self.plan.phases),
            storm=storm and (storm[0], by * storm[1]),
        )
        out = Service(plan, self.mesh, self.view)
        out.learned, out._heard, out._silence = self.learned, self._heard, self._silence
        out._changes, out._started, out._missing = self._changes, self._started, self._missing
        out._parted, out.calls = self._parted, self.calls
        out.light.unclear(self.mesh.now_ns)
        out.true.charge(min(out._kept(), spec.capacity + out._ceiling), self.mesh.now_ns)
        return out

    # ---- every step of demand ----

    def took(self, node: SimulatedNode, calls: int, cost: int, allowed: int) -> None:
        now = self.mesh.now_ns
        owed = round(self.true.debt(now) / self.true.token)
        self.true.charge(allowed * cost, now)
        self.light.charge(self._parted.took(node.name, allowed * cost, now), now)
        self.calls += calls
        self.offered += calls * cost
        self._unheard.asked(node.name, calls * cost, now)
        unheard = self._unheard.denies(node.name, self.one, calls, cost, now)
        unheard = min(calls - allowed, unheard)
        self.denied_unheard += unheard
        self.denied_by_one += calls - self.one.admits(calls, cost, now)
        if not self._starting(node):
            self.denied += calls - allowed
        self._check_within(node, calls, cost, allowed, unheard)
        if self._changes and now >= self._changes[0]:
            self.view.disturbed = max(self.view.disturbed, self._changes.pop(0))
            self._close()
        if self._under_old or now < self.view.disturbed + self.settle_ns:
            return
        if self.window is None:
            if not self._steady():
                self.view.disturbed = now  # look again later
                return
            self.window = self._open(now, owed)
        self._count(self.window, node.name, calls, cost, allowed)

    def _open(self, now: int, owed: int) -> Window:
        """Begins a window. `owed`: the tokens that were owed before its first take. What was
        admitted beyond the limit before is owed up to the ceiling, and was judged in an earlier
        window."""
        capacity = self.plan.main.capacity
        ideal = IdealBucket(self.plan.main, 2**53, ppm=self.slowest)
        ideal.charge(max(min(owed, capacity + self._ceiling), min(self._kept(), capacity)), now)
        main = self.plan.main
        true, capped = (IdealBucket(main, most) for most in (2**53, self.plan.most_debt(main)))
        # Up to a capacity of what both sides of a cut took may count as refilled.
        known = min(owed, capacity, self._kept()) if self.plan.has("cut") else min(owed, capacity)
        window = Window(now, ideal, true, capped, self._late)
        window.charge(known, now)
        window.forgiven = self.rules.forgiven()
        window.owed = max(0, min(owed - capacity, self._ceiling))
        return window

    def _kept(self) -> int:
        """The tokens that the nodes show as owed, once something has happened: what they kept for
        silent nodes is charged once, whether those have taken it or not."""
        if self.view.first < 0:
            return 0
        now = self.mesh.now_ns
        up = (n for n in self.mesh.nodes.values() if n.up and n.suspended_until <= now)
        most = max((node.peek("main", "key").debt for node in up), default=0)
        return round(most / SECOND * self.rate)

    def _steady(self) -> bool:
        """Whether no credit is kept for silent nodes: all are connected, or are known to have
        ended."""
        return self.view.connected() and not self.view.gone_silently

    def _count(self, window: Window, name: str, calls: int, cost: int, allowed: int) -> None:
        now = self.mesh.now_ns
        window.offered[name] = window.offered.get(name, 0) + calls * cost
        window.given[name] = window.given.get(name, 0) + allowed * cost
        window.give(allowed * cost, now)
        ideal = window.ideal.admits(calls, cost, now) * cost
        window.ideal_given += ideal
        if self.plan.in_burst(now / SECOND):
            window.ideal_shared += ideal
        window.answered(name, now, allowed)

    # ---- rules ----

    def _check_within(
        self, node: SimulatedNode, calls: int, cost: int, allowed: int, unheard: int
    ) -> None:
        """Demand within the limit is not denied while the mesh is connected, except by a node that
        has just started without memory, and except for so many calls (`unheard`) that are held back
        for nodes whose burst was not seen to end."""
        now = self.mesh.now_ns
        for missing in self._missing.values():
            self.light.charge(missing.offers(now), now)
        self.light.offered(calls, cost, now)
        if not (self.light.within or self._under_old) and self._steady():
            self.light.may_be_clear(now, self.view.disturbed + self.settle_ns)
        self.light.given(allowed * cost, now)
        if not self.light.within:
            return
        if allowed == calls or self._starting(node):
            return
        if not self.view.connected() or now < self._recovers():
            return
        self.denied_within += calls - allowed - unheard
        if self.denied_within > self._may_deny():
            self.view.broken(
                "denied",
                f"{node.name} denied {calls - allowed} of {calls} calls at {now / SECOND:.3f} s: "
                f"{self.denied_within} of {self.calls} in all, within the limit",
            )

    def _recovers(self) -> int:
        """The time (ns) until which nodes that had given each other up may not be linked again."""
        if self.view.mistaken < 0:
            return 0
        return self.view.mistaken + 2 * LAST_RETRY_NS + self.settle_ns

    def _starting(self, node: SimulatedNode) -> bool:
        """Whether a node has just started, and knows little yet."""
        began = self._started.get(node.name)
        return began is not None and self.mesh.now_ns < began + self.settle_ns

    def _check_as_one(self) -> None:
        """Below the limit, the mesh denies as many calls as one bucket for all, and at most 1 %
        more, whatever is cut; 2 % if the first cut was in the first rounds. This holds where no
        node has died or come, since a share is kept for nodes that are not seen. What nodes know of
        each other's rates at the cut, they know from `_heard` calls. Where one bucket denies some
        calls of each burst, a fifth more may be denied; and so may what is held back for nodes
        whose burst was not seen to end."""
        seconds = min(self.mesh.now_ns / SECOND, self.plan.seconds)  # after that there is no demand
        if self.plan.has("reload", "die", "leave", "come", "return", "pause", *IRREGULAR):
            return
        if self.view.mistaken >= 0:
            return  # no share is kept for a node that was given up, so all its takes are owed later
        if self._unlearned or (self.learned == 0 and (self.plan.period or self._fell)):
            return  # nodes know the rate of a burst, but not how soon it ends
        if self.plan.has("cut") and self.plan.cost == self.plan.main.capacity:
            return  # credit for the other side keeps every bucket below full
        random = self.learned is not None and self.plan.arrivals[0] != "even"
        unsure = 2 / max(1, self._heard) ** 0.5 if random else 0.0
        most = 0.7 / (1.0 + unsure) * self.rate * seconds
        percent = 2 if self.learned == 0 else 1
        few = 3 + max(percent * self.calls // 100, len(self.mesh.nodes) - 2)
        few += self.denied_by_one // 5
        least = self.denied_by_one + self.denied_unheard
        if self.offered <= most and self.denied > least + few:
            self.view.broken(
                "as one",
                f"{self.denied} of {self.calls} calls denied, one bucket {self.denied_by_one}, "
                f"and {self.denied_unheard} for those that were not heard",
            )

    @property
    def _unlearned(self) -> bool:
        """Whether nodes were cut off from each other before they knew their rates, long ago."""
        return self.learned == 0 and self.mesh.now_ns - self._silence > UNLEARNED_NS

    @property
    def _fell(self) -> bool:
        """Whether all together asked for more than is refilled, and for something else just before
        the first cut. A node whose last round came before that shows its first rate alone, and is
        left the share of that for the whole cut; nobody can know that it asks for less by now."""
        changes = pairwise(self.plan.phases)
        return any(p.amount > 1 and after.at * SECOND < self._silence for p, after in changes)

    def _may_deny(self) -> float:
        """How many calls may be denied: none, or some and 1 % where a call on each node nearly
        empties the bucket."""
        roomy = self.plan.main.capacity >= 25 * self.plan.cost * len(self.mesh.nodes)
        return 0.0 if roomy else 3 + 0.01 * self.calls

    def _close(self) -> None:
        window, self.window = self.window, None
        if window is not None and self._steady():
            self.rules.check(window, unlearned=self._unlearned)

    def check_owed(self) -> None:
        """Every way is open, and all nodes know all takes. If demand was within the limit, no node
        owes more than a bucket holds, whatever was cut and whichever node had been given up."""
        if not self.light.within or self._under_old or not self._steady() or self._may_deny():
            return
        up = [node for node in self.mesh.nodes.values() if node.up and not self._starting(node)]
        owed = {n.name: n.peek("main", "key").debt / SECOND * self.rate for n in up}
        if max(owed.values(), default=0.0) > self.plan.main.capacity:
            self.view.broken("light", f"{owed} tokens are owed, although no call was to be denied")

    def finish(self) -> None:
        """The demand is over."""
        self._close()
        self._check_as_one()
