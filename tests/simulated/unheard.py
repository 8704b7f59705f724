"""What a node denies because it did not see the end of a burst before a way was cut or held, or
does not see it yet on a slow way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

from tests.simulated.network import Network
from tests.simulated.plan import BURST_PART, Plan
from tests.simulated.truth import LateBucket

SECOND = 10**9
NEAR = 0.5
"""A silence counts from so many seconds on, or from three rounds and a round trip on."""
FAST_PART = 12
"""What came within this part of that time, before a frame was sent, is a rate by which its receiver
expects more."""


class Silent(NamedTuple):
    """A silent node that may be asked for `rate` tokens a second. Times are ns."""

    rate: float
    since: int
    until: int


class Unheard:
    """Is given every call, and every way that is cut or held, and says what is denied for the sake
    of silent nodes.

    A node that does not see the end of a burst expects it to go on, up to the near horizon. It
    cannot know when the silent node takes within that time; it may be at its end, so nothing of it
    counts as refilled (rule 5 of the predictions in docs/model.md). A node that was seen to end its
    burst is expected to take nothing.

    On a slow way every node is silent for a while: what it was asked for at one moment counts as a
    burst until its next round comes. Where 15 of 100 tokens were taken at once, shortly before a
    round, that round leaves nothing of the others for a tenth of a second.
    """

    def __init__(self, plan: Plan, mesh: Network, lag: float) -> None:
        """`lag`: seconds until a take is known everywhere."""
        self._plan, self._mesh, self._lag = plan, mesh, lag
        self._silent: dict[str, list[Silent]] = defaultdict(list)
        """By node, the silent ones whose burst it expects to go on."""
        self.horizon_ns = round(max(NEAR, 3 * lag) * SECOND)
        self._asked: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """By node: when it was asked (ns), and for how many tokens."""

    def asked(self, name: str, tokens: int, now: int) -> None:
        """A node is asked for so many tokens."""
        self._asked[name].append((now, tokens))

    def falls_silent(self, target: str, rate: float, now: int) -> None:
        """A node that is asked for so many tokens a second in a burst is silent at `target` from
        now on."""
        if self._may_go_on(now / SECOND):
            heard = now - round(self._lag * SECOND)
            self._silent[target].append(Silent(rate, heard, now + self.horizon_ns))

    def _may_go_on(self, at: float) -> bool:
        """Whether a burst was under way at this time, or its end is not known everywhere: the next
        round after the end shows the rate of the burst, and only the one after that shows none."""
        since = at % self._plan.period
        return since < BURST_PART * self._plan.period + self._lag + self._plan.gossip_interval

    def denies(self, name: str, one: LateBucket, calls: int, cost: int, now: int) -> int:
        """How many of these calls a node may deny, of those that `one` bucket for all admits."""
        silent = [*self._silent[name], *self._on_slow_ways(name)]
        silent = [each for each in silent if each.until > now]
        if not silent:
            return 0
        given, left = deepcopy(one), deepcopy(one)
        left.charge(sum(round(s.rate * (now - s.since) / SECOND) for s in silent), now)
        return given.admits(calls, cost, now) - left.admits(calls, cost, now)

    def _on_slow_ways(self, target: str) -> Iterator[Silent]:
        """The peers on slow ways, as the newest frames that have come show them."""
        plan, slow = self._plan, dict(self._plan.slow)
        for (source, there), seconds in plan.slow:
            _, sent = self._mesh.newest.get((source, target), (None, 0))
            since = sent - round(plan.gossip_interval * SECOND)
            lately = sum(tokens for at, tokens in self._asked[source] if since < at <= sent)
            if there == target and lately:
                round_trip = 2 * plan.latency + seconds + slow.get((target, source), 0.0)
                near = max(NEAR, 3 * plan.gossip_interval + round_trip)
                yield Silent(FAST_PART * lately / near, sent, sent + self.horizon_ns)
