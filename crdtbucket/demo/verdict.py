"""Whether the regions kept one limit: figures from the calls as they were decided, and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Accounts, DecidedCall
from crdtbucket.demo.demo_bound import Unheard, Untold
from crdtbucket.demo.modes import ACTS, Followed, follow
from crdtbucket.simulator.measure import Ideal, OverAdmission
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

LEAST_RATIO = 0.9
"""Of what one bucket that sees every call admits. Real calls are large: one or two that come at
another moment make some per cent of a short run."""
MOST_STARVED_S = 3.0
"""Seconds for which a region that calls may get nothing."""
LINKED, PARTED = "limit, links up", "limit in the cut"
FALLBACK = f"limit, {Mode.FALLBACK}"


@dataclass(frozen=True)
class RunCheck:
    """One thing that must hold, with what was seen."""

    name: str
    holds: bool
    text: str


@dataclass(frozen=True)
class LimitFigures:
    """How far the limit was passed in a part of the run, and the bound for it; % of capacity.

    `over_admission_percent` is None where nothing was admitted."""

    over_admission_percent: float | None
    bound_percent: float
    holds: bool


@dataclass(frozen=True)
class RunVerdict:
    """What a run showed. Amounts are tokens of the bucket."""

    offered: int
    admitted: int
    ideal: int
    """What one bucket that sees every call admits."""
    limits: dict[str, LimitFigures]
    """The windows that end in each part of the run."""
    starved_seconds: dict[str, float]
    columns: list[tuple[int, ...] | None]
    """Tokens taken by each region, as each region holds them at the end."""
    told: tuple[int, ...]
    """The same as the processes say it, call by call."""
    records: list[tuple[int, ...]] | None
    """The same as each Redis holds it at the end; None in a run without one."""
    followed: list[Followed]
    """How the modes of each region followed what was done to Redis."""
    checks: list[RunCheck]
    note: str
    """How to read the checks."""

    @property
    def ratio(self) -> float:
        """Admitted, of what one bucket that sees every call admits."""
        return self.admitted / self.ideal if self.ideal else 1.0

    @property
    def holds(self) -> bool:
        """Whether all checks hold."""
        return all(check.holds for check in self.checks)


class Happened:
    """What was done in a run, as far as the verdict depends on it. The base: nothing to Redis."""

    note: str
    parts: tuple[str, ...]
    """Names of the parts of the run; each has a limit of its own."""
    acts_ns: Mapping[str, int] = MappingProxyType({})
    """When Redis was made slow, gone and back; it came back empty."""
    records: Sequence[Mapping[str, int]] | None = None
    """Tokens by epoch, as each Redis holds them at the end; None in a run without one."""
    one_store = False
    """Whether there is one Redis, which all nodes ask that are in strong mode."""
    ratio: float | None = None
    """A node's share of the limit while Redis is gone; None in a run without one."""

    def part(self, call: DecidedCall) -> str:
        """The part of the run that a call belongs to."""
        raise NotImplementedError


class RegionCut(Happened):
    """A region was cut off from the others for a while."""

    note = """\
The limit: capacity + rate x time, in any window. The bound: what the best informed
region had not heard of when it admitted."""
    parts = (LINKED, PARTED)

    def __init__(
        self, start_ns: int, end_ns: int, records: Sequence[Mapping[str, int]] | None = None
    ) -> None:
        """`records`: of the Redis of each region, where there is one."""
        self._start_ns, self._end_ns, self.records = start_ns, end_ns, records

    def part(self, call: DecidedCall) -> str:
        """In the cut, or with all links up; updates are under way for a moment after the cut."""
        apart = self._start_ns <= call.at_ns < self._end_ns + NS_PER_SECOND
        return PARTED if apart else LINKED


class RedisOutage(Happened):
    """Redis was made slow, gone and back."""

    note = """\
Admitted: outside of fallback. The limit: capacity + rate x time, in any window that ends
in that mode; in fallback, in any window, the shares of all regions together. The bound:
what neither the region that admitted nor, in strong mode, Redis had heard of."""
    parts = tuple(f"limit, {mode}" for mode in Mode)
    one_store = True

    def __init__(
        self, acts_ns: Mapping[str, int], records: Mapping[str, int], ratio: float
    ) -> None:
        self.acts_ns, self.records, self.ratio = acts_ns, [records], ratio

    def part(self, call: DecidedCall) -> str:
        """The mode in which it was decided."""
        return f"limit, {call.mode}"


def judge(
    ledger: Accounts, spec: BucketSpec, gossip_ns: int, happened: Happened, expected: int
) -> RunVerdict:
    """The verdict. `expected`: calls planned."""
    calls = ledger.decided()
    settings = Settings.of_bucket(spec, regions=len(ledger.regions), gossip_ns=gossip_ns)
    limits = _limits(calls, settings, _slack(ledger, spec, calls), happened)
    if happened.ratio is not None:
        away = [call for call in calls if call.mode == Mode.FALLBACK.value]
        limits[FALLBACK] = fallback_limit(away, settings, happened.ratio)
    admitted, ideal = _admitted(calls, settings)
    latest = [account.latest for account in ledger.accounts]
    columns = [None if one is None else ledger.by_region(one["known"]) for one in latest]
    told = tuple(ledger.total_admitted(region) for region in range(len(ledger.regions)))
    stores = happened.records
    records = None if stores is None else [ledger.by_region(dict(one)) for one in stores]
    strangers = [
        sum(held.values()) - sum(one) for held, one in zip(stores or [], records or [], strict=True)
    ]
    starved = {name: _starved_s(calls, place) for place, name in enumerate(ledger.regions)}
    regions = len(ledger.regions) if happened.acts_ns else 0
    followed = follow(ledger.switches, happened.acts_ns, regions)
    made = f"{len(calls):,} of {expected:,} calls were made" if len(calls) != expected else ""
    checks = [
        *([_modes(ledger.regions, followed)] if followed else []),
        _amount(admitted, ideal),
        *(_limit_check(name, limit) for name, limit in limits.items()),
        _tokens(told, columns, records, strangers, made),
        _starved(starved),
    ]
    offered, outside = sum(call.cost for call in calls), sum(told) - admitted
    return RunVerdict(
        offered, sum(told), ideal + outside, limits, starved, columns, told, records, followed,
        checks, happened.note,
    )  # fmt: skip


def _slack(ledger: Accounts, spec: BucketSpec, calls: Sequence[DecidedCall]) -> float:
    """Tokens that widen every bound: room kept for silent peers, debt forgiven, late times."""
    latest = [account.latest for account in ledger.accounts]
    forgiven = sum(report["forgiven"] for report in latest if report is not None)
    late_ns = max((call.error_ns for call in calls), default=0)
    return ledger.room + float(forgiven) + spec.rate_per_second * late_ns / NS_PER_SECOND


def _limits(
    calls: Sequence[DecidedCall], settings: Settings, slack: float, happened: Happened
) -> dict[str, LimitFigures]:
    """Over-admission and bound of each part: the worst of the windows that end in it."""
    unheard = Unheard(settings.regions, settings.gossip_ns)
    untold = Untold(settings.regions)
    over_admission, lost_ns = OverAdmission(settings), happened.acts_ns.get("back")
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in happened.parts}
    for call in calls:
        if lost_ns is not None and call.at_ns >= lost_ns:
            untold.lost()
            lost_ns = None
        if not call.allowed:
            continue
        if over_admission.debt(call.at_ns) == 0:
            unheard.full()
            untold.full()
        bounds: list[int | None] = [unheard.admitted(call)]
        if happened.one_store:
            bounds.append(untold.admitted(call))
        bound = min(bound for bound in bounds if bound is not None) + slack
        over_admission.add(call.at_ns, call.cost)
        seen[happened.part(call)].append((over_admission.ending(), bound))
    return {name: _worst(pairs, settings.capacity) for name, pairs in seen.items()}


def fallback_limit(away: Sequence[DecidedCall], settings: Settings, ratio: float) -> LimitFigures:
    """Of what was admitted in fallback, against the shares of all nodes together."""
    together = settings.regions * min(Fraction(str(ratio)), Fraction(1, settings.regions))
    rate = settings.refill_rate * together
    shares = replace(
        settings,
        capacity=int(settings.capacity * together),
        refill_rate=rate.numerator,
        interval_ns=settings.interval_ns * rate.denominator,
    )
    late_ns = max((call.error_ns for call in away), default=0)
    slack = shares.rate_per_second * late_ns / NS_PER_SECOND
    over_admission, pairs = OverAdmission(shares), []
    for call in away:
        if call.allowed:
            over_admission.add(call.at_ns, call.cost)
            pairs.append((over_admission.ending(), slack))
    return _worst(pairs, settings.capacity)


def _worst(pairs: Sequence[tuple[float, float]], capacity: int) -> LimitFigures:
    """The largest over-admission and the largest bound of these, which are tokens."""
    if not pairs:
        return LimitFigures(None, 0.0, True)
    return LimitFigures(
        100.0 * max(over_admission for over_admission, _ in pairs) / capacity,
        100.0 * max(bound for _, bound in pairs) / capacity,
        all(over_admission <= bound for over_admission, bound in pairs),
    )


def _admitted(calls: Sequence[DecidedCall], settings: Settings) -> tuple[int, int]:
    """Tokens admitted outside of fallback, and what one bucket that sees every call admits there;
    it is charged what fallback admits."""
    ideal = Ideal(settings)
    admitted = best = 0
    for call in calls:
        if call.mode != Mode.FALLBACK.value:
            best += call.cost * ideal.offer(call.at_ns, 1, call.cost)
            admitted += call.cost * call.allowed
        elif call.allowed:
            ideal.offer(call.at_ns, 1, call.cost)
    return admitted, best


def _starved_s(calls: Sequence[DecidedCall], region: int) -> float:
    """The longest time from a region's denial to its next admission, seconds; an outage, in which
    little is promised, ends it."""
    since: int | None = None
    longest = 0
    for call in calls:
        if call.region == region:
            if since is None and not call.allowed:
                since = call.at_ns
            if call.mode == Mode.FALLBACK.value:
                since = None
            if since is not None:
                longest = max(longest, call.at_ns - since)
            if call.allowed:
                since = None
    return longest / NS_PER_SECOND


# -- checks


def _modes(regions: Sequence[str], followed: Sequence[Followed]) -> RunCheck:
    faults = [
        f"{name} {one.fault()}" for name, one in zip(regions, followed, strict=True) if one.fault()
    ]
    if faults:
        return RunCheck("modes", False, "; ".join(faults))
    seen = []
    for act in ACTS:
        delays = [one.delays[act.name] for one in followed]
        seen.append(f"{act.name} -> {act.mode} in {max(delays):.1f} s")
    return RunCheck("modes", True, f"{', '.join(seen)} at most")


def _amount(admitted: int, ideal: int) -> RunCheck:
    """Enough was admitted."""
    ratio = admitted / ideal if ideal else 1.0
    text = f"{admitted:,}; one bucket that sees every call admits {ideal:,}: {100 * ratio:.1f} %"
    return RunCheck("admitted", ratio >= LEAST_RATIO, f"{text}, at least {100 * LEAST_RATIO:.0f} %")


def _limit_check(name: str, limit: LimitFigures) -> RunCheck:
    """The limit was kept in a part of the run."""
    over = limit.over_admission_percent
    if over is None:
        return RunCheck(name, True, "nothing was admitted")
    seen = f"the worst window passed it by {over:.1f} % of the capacity"
    if over <= 0:
        seen = f"no window passed it; the nearest stayed {-over:.1f} % of the capacity below"
    return RunCheck(name, limit.holds, f"{seen}; the bound is {limit.bound_percent:.1f} %")


def _tokens(
    told: tuple[int, ...],
    columns: Sequence[tuple[int, ...] | None],
    records: Sequence[tuple[int, ...]] | None,
    strangers: Sequence[int],
    made: str,
) -> RunCheck:
    """Every token is counted once, by all. `records`: what each Redis holds of the regions,
    `strangers`: and of anybody else; `made`: what is wrong with the number of calls."""
    name = "no take lost" if records is None else "every token"
    if made:
        return RunCheck(name, False, made)
    own = " + ".join(f"{one:,}" for one in told)
    if all(one == told for one in (*columns, *(records or ()))) and not any(strangers):
        told_by = ", and all three hold just that"
        if records is not None:
            stores = "and Redis" if len(records) == 1 else f"and the Redis of all {len(records)}"
            told_by = f": so say the callers, all three nodes, {stores}"
        return RunCheck(name, True, f"{own} = {sum(told):,}{told_by}")
    held = "; ".join("nothing" if one is None else str(list(one)) for one in columns)
    if records is None:
        return RunCheck(name, False, f"the processes took {own}, and hold {held}")
    kept = "; ".join(str([*one, more]) for one, more in zip(records, strangers, strict=True))
    text = f"the callers took {own}, the nodes hold {held}, Redis holds {kept}"
    return RunCheck(name, False, text)


def _starved(starved: dict[str, float]) -> RunCheck:
    """No region was denied for long."""
    worst = max(starved, key=starved.__getitem__)
    text = f"nobody was denied for longer than {starved[worst]:.1f} s on end ({worst})"
    return RunCheck(
        "no starvation", starved[worst] <= MOST_STARVED_S, f"{text}; at most {MOST_STARVED_S:g} s"
    )
