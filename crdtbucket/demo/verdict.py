"""Whether the regions kept one limit: figures from the calls as they were decided, and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Decided, Ledger
from crdtbucket.demo.demo_bound import Unheard, Untold
from crdtbucket.simulator.measure import Excess, Ideal
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

LEAST_RATIO = 0.9
"""Of what one bucket that sees every call admits. Real calls are large: one or two that come at
another moment make some per cent of a short run."""
MOST_DARK_S = 3.0
"""Seconds for which a region that calls may get nothing."""


LINKED, PARTED = "limit, links up", "limit in the cut"
NOTE = """\
The limit: capacity + rate x time, in any window. The bound: what the best informed
region had not heard of when it admitted."""


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
    """What one bucket that sees every call admits."""
    limits: dict[str, Limit]
    """The windows that end in each part of the run."""
    dark_seconds: dict[str, float]
    columns: list[tuple[int, ...] | None]
    """Tokens taken by each region, as each region holds them at the end."""
    told: tuple[int, ...]
    """The same as the processes say it, call by call."""
    checks: list[Check]
    note: str
    """How to read the checks."""

    @property
    def linked(self) -> Limit:
        """The windows that end while all links are up."""
        return self.limits[LINKED]

    @property
    def parted(self) -> Limit:
        """The windows that end while a region is cut off, or in the second after."""
        return self.limits[PARTED]

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
    settings = Settings.of_bucket(spec, regions=len(ledger.regions), gossip_ns=gossip_ns)

    def part(call: Decided) -> str:
        # News of the cut is on its way for a moment after it.
        apart = cut_ns[0] <= call.at_ns < cut_ns[1] + NS_PER_SECOND
        return PARTED if apart else LINKED

    limits = limits_of(calls, settings, slack_of(ledger, spec, calls), (LINKED, PARTED), part)
    ideal = Ideal(settings)
    for call in calls:
        ideal.offer(call.at_ns, 1, call.cost)
    columns, told = columns_of(ledger), told_of(ledger)
    dark = {name: dark_s(calls, place) for place, name in enumerate(ledger.regions)}
    admitted = sum(call.cost for call in calls if call.allowed)
    checks = [
        amount(admitted, ideal.admitted),
        *(limit_check(name, limit) for name, limit in limits.items()),
        _taken(told, columns, len(calls), expected),
        starved(dark),
    ]
    offered = sum(call.cost for call in calls)
    return Verdict(offered, admitted, ideal.admitted, limits, dark, columns, told, checks, NOTE)


def slack_of(ledger: Ledger, spec: BucketSpec, calls: Iterable[Decided]) -> float:
    """Tokens that widen every bound: room kept for silent peers, debt forgiven, late times."""
    latest = [account.latest for account in ledger.accounts]
    forgiven = sum(report["forgiven"] for report in latest if report is not None)
    late_ns = max((call.error_ns for call in calls), default=0)
    return ledger.room + float(forgiven) + spec.rate_per_second * late_ns / NS_PER_SECOND


def columns_of(ledger: Ledger) -> list[tuple[int, ...] | None]:
    """Tokens taken by each region, as each region holds them at the end."""
    latest = [account.latest for account in ledger.accounts]
    return [None if one is None else ledger.by_region(one["known"]) for one in latest]


def told_of(ledger: Ledger) -> tuple[int, ...]:
    """Tokens taken by each region, as its process says it, call by call."""
    return tuple(ledger.total_admitted(region) for region in range(len(ledger.regions)))


def limits_of(
    calls: Sequence[Decided],
    settings: Settings,
    slack: float,
    parts: Sequence[str],
    part: Callable[[Decided], str],
    lost_ns: int | None = None,
) -> dict[str, Limit]:
    """Excess and bound at every admission, the worst for the windows that end in each part.

    `part`: the one that an admission belongs to. `lost_ns`: when Redis came back empty."""
    unheard = Unheard(settings.regions, settings.gossip_ns)
    untold = Untold(settings.regions)
    excess = Ending(settings)
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for call in calls:
        if lost_ns is not None and call.at_ns >= lost_ns:
            untold.lost()
            lost_ns = None
        if not call.allowed:
            continue
        if excess.full(call.at_ns):
            unheard.full()
            untold.full()
        bounds = unheard.admitted(call), untold.admitted(call)
        bound = min(bound for bound in bounds if bound is not None) + slack
        seen[part(call)].append((excess.add(call.at_ns, call.cost), bound))
    return {name: worst(pairs, settings.capacity) for name, pairs in seen.items()}


def worst(pairs: Sequence[tuple[float, float]], capacity: int) -> Limit:
    """The largest excess and the largest bound of these, which are tokens."""
    if not pairs:
        return Limit(None, 0.0, True)
    return Limit(
        100.0 * max(excess for excess, _ in pairs) / capacity,
        100.0 * max(bound for _, bound in pairs) / capacity,
        all(excess <= bound for excess, bound in pairs),
    )


class Ending:
    """The worst excess of the windows that end at an admission, tokens."""

    def __init__(self, settings: Settings) -> None:
        self._all = Excess(settings)
        self._unit, self._capacity = settings.interval_ns, settings.capacity
        self._start: int | None = None

    def full(self, at_ns: int) -> bool:
        """Whether a bucket that was charged everything so far is full."""
        return self._all.debt(self._since(at_ns)) == 0

    def add(self, at_ns: int, tokens: int) -> float:
        """Counts an admission; the worst excess of the windows that end with it."""
        since = self._since(at_ns)
        self._all.add(since, tokens)
        return self._all.debt(since) / self._unit - self._capacity

    def _since(self, at_ns: int) -> int:
        if self._start is None:
            self._start = at_ns
        return at_ns - self._start


def dark_s(calls: Sequence[Decided], region: int) -> float:
    """The longest time from a region's denial to its next admission, seconds; an outage, in which
    little is promised, ends it."""
    since: int | None = None
    longest = at = 0
    for call in calls:
        if call.region != region:
            continue
        at = call.at_ns
        if call.mode == Mode.FALLBACK.value:
            since = None
            continue
        if since is None and not call.allowed:
            since = at
        if since is not None:
            longest = max(longest, at - since)
        if call.allowed:
            since = None
    return longest / NS_PER_SECOND


def amount(admitted: int, ideal: int) -> Check:
    """Enough was admitted."""
    ratio = admitted / ideal if ideal else 1.0
    text = f"{admitted:,}; one bucket that sees every call admits {ideal:,}: {100 * ratio:.1f} %"
    return Check("admitted", ratio >= LEAST_RATIO, f"{text}, at least {100 * LEAST_RATIO:.0f} %")


def limit_check(name: str, limit: Limit) -> Check:
    """The limit was kept in a part of the run."""
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


def starved(dark: dict[str, float]) -> Check:
    """Nobody got nothing for long."""
    worst = max(dark, key=dark.__getitem__)
    text = f"nobody was denied for longer than {dark[worst]:.1f} s on end ({worst})"
    return Check("no starvation", dark[worst] <= MOST_DARK_S, f"{text}; at most {MOST_DARK_S:g} s")


__all__ = [
    "LEAST_RATIO",
    "LINKED",
    "MOST_DARK_S",
    "NOTE",
    "PARTED",
    "Check",
    "Ending",
    "Limit",
    "Verdict",
    "amount",
    "columns_of",
    "dark_s",
    "judge",
    "limit_check",
    "limits_of",
    "slack_of",
    "starved",
    "told_of",
    "worst",
]
