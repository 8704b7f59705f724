"""Whether the regions kept one limit: figures from the calls as they were decided, and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crdtbucket.clock import NS_PER_SECOND
from crdtbucket.demo.bound import Unheard
from crdtbucket.demo.ledger import Decided, Ledger
from crdtbucket.policy import BucketSpec
from crdtbucket.simulator.measure import Excess, Ideal
from crdtbucket.simulator.settings import Settings

LEAST_RATIO = 0.9
"""Of what one bucket that sees every call admits. Real calls are large: one or two that come at
another moment make some per cent of a short run."""
MOST_DARK_S = 3.0
"""Seconds for which a region that calls may get nothing."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold, with what was seen."""

    name: str
    holds: bool
    text: str


@dataclass(frozen=True)
class Limit:
    """How far the limit was passed in a part of the run, and the bound for it; % of capacity.

    `excess_percent` is None where nothing was admitted."""

    excess_percent: float | None
    bound_percent: float
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """What a run showed. Amounts are tokens of the bucket."""

    offered: int
    admitted: int
    ideal: int
    linked: Limit
    """The windows that end while all links are up."""
    parted: Limit
    """The windows that end while a region is cut off, or in the second after."""
    dark_seconds: dict[str, float]
    columns: list[tuple[int, ...] | None]
    """Tokens taken by each region, as each region holds them at the end."""
    told: tuple[int, ...]
    """The same as the processes say it, call by call."""
    checks: list[Check]

    @property
    def ratio(self) -> float:
        """Admitted, of what one bucket that sees every call admits."""
        return self.admitted / self.ideal if self.ideal else 1.0

    @property
    def holds(self) -> bool:
        """Whether all checks hold."""
        return all(check.holds for check in self.checks)


def judge(
    ledger: Ledger, spec: BucketSpec, gossip_ns: int, cut_ns: tuple[int, int], expected: int
) -> Verdict:
    """The verdict. `cut_ns`: when a region was cut off and healed; `expected`: calls planned."""
    calls = ledger.decided()
    regions = len(ledger.regions)
    settings = Settings.of_bucket(spec, regions=regions, gossip_ns=gossip_ns)
    forgiven = sum(
        account.latest["forgiven"] for account in ledger.accounts if account.latest is not None
    )
    slack = ledger.room + forgiven
    slack += spec.rate_per_second * max((c.error_ns for c in calls), default=0) / NS_PER_SECOND
    linked, parted = _limits(calls, settings, slack, cut_ns)
    ideal = Ideal(settings)
    for call in calls:
        ideal.offer(call.at_ns, 1, call.cost)
    latest = [account.latest for account in ledger.accounts]
    columns = [None if one is None else ledger.by_region(one["known"]) for one in latest]
    told = tuple(ledger.total_admitted(region) for region in range(regions))
    dark = {name: _dark_s(calls, place) for place, name in enumerate(ledger.regions)}
    admitted = sum(call.cost for call in calls if call.allowed)
    checks = [
        _amount(admitted, ideal.admitted),
        _limit("limit, links up", linked),
        _limit("limit in the cut", parted),
        _taken(told, columns, len(calls), expected),
        _starved(dark),
    ]
    offered = sum(call.cost for call in calls)
    return Verdict(offered, admitted, ideal.admitted, linked, parted, dark, columns, told, checks)


def _limits(
    calls: Sequence[Decided], settings: Settings, slack: float, cut_ns: tuple[int, int]
) -> tuple[Limit, Limit]:
    """Excess and bound at every admission: of windows that end with links up, and cut off."""
    unheard = Unheard(settings.regions, settings.gossip_ns)
    excess = _Ending(settings)
    seen: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for call in calls:
        if not call.allowed:
            continue
        if excess.full(call.at_ns):
            unheard.full()
        bound = unheard.admitted(call) + slack
        # News of the cut is on its way for a moment after it.
        apart = cut_ns[0] <= call.at_ns < cut_ns[1] + NS_PER_SECOND
        seen[apart].append((excess.add(call.at_ns, call.cost), bound))
    linked, parted = (_worst(pairs, settings.capacity) for pairs in seen)
    return linked, parted


def _worst(pairs: list[tuple[float, float]], capacity: int) -> Limit:
    if not pairs:
        return Limit(None, 0.0, True)
    return Limit(
        100.0 * max(excess for excess, _ in pairs) / capacity,
        100.0 * max(bound for _, bound in pairs) / capacity,
        all(excess <= bound for excess, bound in pairs),
    )


class _Ending:
    """The worst excess of the windows that end at an admission, tokens."""

    def __init__(self, settings: Settings) -> None:
        self._all = Excess(settings)
        self._unit, self._capacity = settings.interval_ns, settings.capacity
        self._start: int | None = None

    def full(self, at_ns: int) -> bool:
        """Whether a bucket that was charged everything so far is full."""
        return self._all.debt(self._since(at_ns)) == 0

    def add(self, at_ns: int, tokens: int) -> float:
        since = self._since(at_ns)
        self._all.add(since, tokens)
        return self._all.debt(since) / self._unit - self._capacity

    def _since(self, at_ns: int) -> int:
        if self._start is None:
            self._start = at_ns
        return at_ns - self._start


def _dark_s(calls: Sequence[Decided], region: int) -> float:
    """The longest time from a region's denial to its next admission, seconds."""
    since: int | None = None
    worst = at = 0
    for call in calls:
        if call.region != region:
            continue
        at = call.at_ns
        if since is None and not call.allowed:
            since = at
        if since is not None:
            worst = max(worst, at - since)
        if call.allowed:
            since = None
    return worst / NS_PER_SECOND


def _amount(admitted: int, ideal: int) -> Check:
    ratio = admitted / ideal if ideal else 1.0
    text = f"{admitted:,}; one bucket that sees every call admits {ideal:,}: {100 * ratio:.1f} %"
    return Check("admitted", ratio >= LEAST_RATIO, f"{text}, at least {100 * LEAST_RATIO:.0f} %")


def _limit(name: str, limit: Limit) -> Check:
    excess = limit.excess_percent
    if excess is None:
        return Check(name, True, "nothing was admitted")
    seen = f"the worst window passed it by {excess:.1f} % of the capacity"
    if excess <= 0:
        seen = f"no window passed it; the nearest stayed {-excess:.1f} % of the capacity below"
    return Check(name, limit.holds, f"{seen}; the bound is {limit.bound_percent:.1f} %")


def _taken(
    told: tuple[int, ...], columns: list[tuple[int, ...] | None], made: int, expected: int
) -> Check:
    if made != expected:
        return Check("no take lost", False, f"{made:,} of {expected:,} calls were made")
    same = all(one == told for one in columns)
    own = " + ".join(f"{one:,}" for one in told)
    if same:
        return Check("no take lost", True, f"{own} = {sum(told):,}, and all three hold just that")
    held = "; ".join("nothing" if one is None else str(list(one)) for one in columns)
    return Check("no take lost", False, f"the processes took {own}, and hold {held}")


def _starved(dark: dict[str, float]) -> Check:
    worst = max(dark, key=dark.__getitem__)
    text = f"nobody was denied for longer than {dark[worst]:.1f} s on end ({worst})"
    return Check("no starvation", dark[worst] <= MOST_DARK_S, f"{text}; at most {MOST_DARK_S:g} s")


__all__ = ["LEAST_RATIO", "MOST_DARK_S", "Check", "Limit", "Verdict", "judge"]
