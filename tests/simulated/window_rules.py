"""What callers may expect in a time in which the mesh was undisturbed: what is refilled is
admitted, each node gets a share by demand, and never much more is admitted."""

from __future__ import annotations

from tests.simulated.network import Network
from tests.simulated.plan import BURST_PART, Plan
from tests.simulated.view import View
from tests.simulated.window import Window

SECOND = 10**9
CLAIM = 2.0
"""The demand of a node counts for up to this multiple of the rate in what it may expect."""
PART = 0.5
"""The part of what it may expect that a node gets at least."""
GIVEN = 0.85
"""The part of what an ideal bucket admits that the mesh admits at least."""
GIVEN_BESIDE_BURSTS = 0.75
"""The same where one node has steady demand beside bursts of the others: it leaves room for the
next burst."""
REMEMBERED = 10.0
"""Seconds for which a burst is remembered: in that time its memory fades to a seventh."""
BURSTY = 0.45
"""The most over-admission, as a share of the capacity, where bursts repeat: each shows what the
next will be. More may be what all are asked for at the same moment beyond a capacity: each node
decides before it can know of the others, and holds back only what they took in the time since their
newest update if they had the rate of the last burst, as far as it is remembered (rules 5 and 7 of
the predictions in docs/model.md)."""


class WindowRules:
    """The rules on such a time, and what they need to know of the demand."""

    def __init__(self, plan: Plan, mesh: Network, view: View, lag: float) -> None:
        """`lag`: the seconds in which updates reach every node."""
        self.plan, self.mesh, self.view, self.lag = plan, mesh, view, lag
        self.rate = plan.main.rate_per_second

    def rate_of(self, name: str, now: int | None = None) -> float:
        """The most tokens a second that a node is asked for at a time, now by default."""
        plan, number = self.plan, list(self.mesh.nodes).index(name)
        at = (self.mesh.now_ns if now is None else now) / SECOND
        phase = max((p for p in plan.phases if p.at <= at), key=lambda p: p.at)
        part = phase.amount * phase.weights[number if number < len(plan.nodes) else 0]
        part *= 1 / BURST_PART if plan.arrivals[0] == "bursts" else 1.0
        if plan.storm is not None and plan.storm[0] == number:
            part += plan.storm[1]
        return part * self.rate

    def forgiven(self) -> int:
        """Tokens of debt that nodes have dropped at the ceiling so far."""
        up = (node for node in self.mesh.nodes.values() if node.up)
        return sum(node.bucket("main").counters()["forgiven"] for node in up)

    def check(self, window: Window, *, unlearned: bool) -> None:
        """Checks a window that has ended. `unlearned`: nodes were cut off from each other before
        they knew their rates, long ago."""
        seconds = (self.mesh.now_ns - window.since) / SECOND
        capacity, cost = self.plan.main.capacity, self.plan.cost
        given, nodes = sum(window.given.values()), len(window.offered)
        for_steps = 2 * cost * nodes
        alone = self._share_alone(window.since)
        part = alone if seconds < self.plan.period else self.part_alone(alone)
        ideal = window.ideal_shared + part * (window.ideal_given - window.ideal_shared)
        given_part = GIVEN_BESIDE_BURSTS if self.plan.storm and self.plan.period else GIVEN
        reached = self._reached(seconds / max(1, sum(window.offered.values())))
        least = given_part * reached * ideal - 0.3 * capacity - for_steps
        # In a storm, calls that need most of the bucket fill it for each other: a caller that asks
        # just after another never passes, and the storm keeps to its half.
        large = self.plan.storm is not None and 2 * cost > capacity
        if given < least and not unlearned and not large:
            self.view.broken(
                "given",
                f"{given} tokens in {seconds:.1f} s, one bucket would give {window.ideal_given}",
            )
        self.check_over_admission(window, seconds)
        # Bursts claim the rate that they have while they last, of what is admitted in that time.
        peak = 1 / BURST_PART if self.plan.period else 1.0
        claims = {n: min(o * peak, CLAIM * self.rate * seconds) for n, o in window.offered.items()}
        if self.plan.arrivals[0] == "even" and 2 * cost > capacity:
            return  # calls in step: one just after another never passes, nor would it in one bucket
        for name, offered in window.offered.items():
            due = min(offered, window.ideal_shared * claims[name] / max(1, sum(claims.values())))
            least = PART * due - 0.1 * capacity - for_steps - 3 * due**0.5
            if window.given[name] < least and not self.view.forgotten(window.since):
                self.view.broken(
                    "share",
                    f"{name} got {window.given[name]} tokens of {offered} in {seconds:.1f} s, "
                    f"{due:.1f} of {window.ideal_shared} are its part",
                )
            self._check_waits(window, name, due, seconds)

    def _check_waits(self, window: Window, name: str, due: float, seconds: float) -> None:
        """No node waits for as long as fifteen calls of its part take: on the average of the
        window, and by what one bucket admits meanwhile, since calls come much more quickly from
        what the bucket held at first than from what is refilled. A node that got nothing at the end
        of a burst waits for the next one. And what was admitted beyond the limit is refilled first;
        for so long no node is due anything."""
        part, cost = due / max(1, window.ideal_shared), self.plan.cost
        refilled = (window.owed + window.beyond) / self.rate
        known = 2.0 + 10 * self.lag + self.plan.period + refilled
        for wait in window.waits[name].values():
            waited, meanwhile = wait.ns / SECOND, part * wait.ideal_shared
            if not (due and meanwhile):
                continue
            each = max(seconds * cost / due, waited * cost / meanwhile)
            if waited > known + 15 * each:
                self.view.broken(
                    "starved",
                    f"{name} got nothing for {waited:.1f} s, a call each {each:.2f} s is its part",
                )

    def _share_alone(self, at: int) -> float:
        """The part of a burst that is due to the node which goes on when the burst is over. In
        overload that node keeps to this part until the memory of the burst fades (rule 7 of the
        predictions in docs/model.md). So in a time that is shorter than the period of the bursts it
        may get nothing else."""
        if self.plan.storm is None:
            return 1.0
        number, storm = self.plan.storm
        most = CLAIM * self.rate
        rates = {n: self.rate_of(n, at) for n, node in self.mesh.nodes.items() if node.up}
        alone = min(most, storm * self.rate) if f"n{number}" in rates else 0.0
        return min(1.0, alone / max(1.0, sum(min(most, rate) for rate in rates.values())))

    def part_alone(self, share: float) -> float:
        """The part of what is refilled between two bursts that is admitted to the node which goes
        on then. While it remembers a burst, it leaves the others what they would take until their
        next update: only its share of what it takes in that time, and of what is left, is its own
        (rule 5)."""
        if share >= 1 or not self.plan.period:
            return 1.0
        remembered = min(1.0, REMEMBERED / self.plan.period)
        least = share / (1 - share) * self.plan.main.capacity / (self.rate * self.lag)
        return 1 - remembered * (1 - min(1.0, least))

    def _reached(self, each: float) -> float:
        """The part of what is refilled that calls can get: they come step by step, and are decided
        by updates that have travelled. What is refilled above the capacity is lost. `each`: the
        mean seconds in which a token is asked for.

        Calls that come just as the bucket has refilled for one are each late by a travel time. So
        where they come less often than once in a step, every other one is denied."""
        plan = self.plan
        travel, between = plan.one_way * self.view.hops, each * plan.cost
        in_time = between > plan.cost / self.rate + travel
        late = travel + (plan.step if in_time else max(plan.step, between))
        lost = max(0.0, self.rate * late - (plan.main.capacity - plan.cost))
        return plan.cost / (plan.cost + lost)

    def check_over_admission(self, window: Window, seconds: float) -> None:
        """Beyond the limit may be admitted what is taken while updates travel there and back, a
        call on each node, and what was owed beyond the ceiling (see `Window`); less where bursts
        repeat."""
        plan, nodes = self.plan, len(self.mesh.nodes)
        forgiven = self.forgiven() - window.forgiven
        most = window.unseen + plan.cost * nodes + 0.1 * plan.main.capacity
        evicted = any(n.table.stats()["evicted_indebted"] for n in self.mesh.nodes.values())
        if evicted:
            return  # more keys are in debt than the table holds, so some takes are not known
        if not window.explained(most, forgiven):
            self.view.broken(
                "over-admission",
                f"{window.beyond:.1f} tokens beyond, at most {most:.1f}, {forgiven} forgiven",
            )
        quick = self.lag <= 0.2 and not plan.loss[0] and plan.storm is None
        again = plan.arrivals[0] == "bursts" and seconds > 5 * plan.period
        again = again and plan.period <= REMEMBERED / 2  # else the last burst has faded
        seen = again and sum(window.offered.values()) < 3 * self.rate * seconds
        roomy = plan.main.capacity >= 25 * plan.cost * nodes
        up = [name for name, node in self.mesh.nodes.items() if node.up]
        at_once = sum(self.rate_of(name, window.since) for name in up) * plan.step
        most = BURSTY * plan.main.capacity + max(0.0, at_once - plan.main.capacity)
        if quick and seen and roomy and window.beyond > most:
            self.view.broken(
                "bursts", f"{window.beyond:.1f} tokens beyond a capacity of {plan.main.capacity}"
            )
