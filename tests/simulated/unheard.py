"""What a node denies because it did not see the end of a burst before a way was cut or held."""

from __future__ import annotations

from collections import defaultdict
from copy import deepcopy
from typing import NamedTuple

from tests.simulated.plan import BURST_PART, Plan
from tests.simulated.truth import LateBucket

SECOND = 10**9
NEAR = 0.5
"""A silence counts from so many seconds on, or from three rounds and a round trip on."""


class Silent(NamedTuple):
    """A silent node that may be asked for `rate` tokens a second. Times are ns."""

    rate: float
    since: int
    until: int


class Unheard:
    """Is given every way that is cut or held, and says what is denied for the sake of silent nodes.

    A node that does not see the end of a burst expects it to go on, up to the near horizon. It
    cannot know when the silent node takes within that time; it may be at its end, so nothing of it
    counts as refilled (rule 5 of the predictions in docs/model.md). A node that was seen to end its
    burst is expected to take nothing.
    """

    def __init__(self, plan: Plan, lag: float) -> None:
        """`lag`: seconds until a take is known everywhere."""
        self._plan, self._lag = plan, lag
        self._silent: dict[str, list[Silent]] = defaultdict(list)
        """By node, the silent ones whose burst it expects to go on."""
        self.horizon_ns = round(max(NEAR, 3 * lag) * SECOND)

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
        silent = [each for each in self._silent[name] if each.until > now]
        if not silent:
            return 0
        given, left = deepcopy(one), deepcopy(one)
        left.charge(sum(round(s.rate * (now - s.since) / SECOND) for s in silent), now)
        return given.admits(calls, cost, now) - left.admits(calls, cost, now)
