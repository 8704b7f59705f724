"""How far the admitted calls of a run passed the limit, against the bound for just that run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Accounts, DecidedCall
from crdtbucket.demo.demo_bound import UnknownTakes, UnsentTakes
from crdtbucket.demo.happened import Happened
from crdtbucket.simulator.measure import OverAdmission
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

FALLBACK = f"limit, {Mode.FALLBACK}"


@dataclass(frozen=True)
class LimitFigures:
    """How far the limit was passed in a part of the run, and the bound for it; % of capacity.

    `over_admission_percent` is None where nothing was admitted."""

    over_admission_percent: float | None
    bound_percent: float
    holds: bool


def limit_figures(
    accounts: Accounts, spec: BucketSpec, settings: Settings, happened: Happened
) -> dict[str, LimitFigures]:
    """By the part of the run: the worst of the windows that end in it."""
    calls = accounts.decided()
    limits = _limits(calls, settings, _slack(accounts, spec, calls), happened)
    if happened.ratio is not None:
        fallen_back = [call for call in calls if call.mode == Mode.FALLBACK.value]
        limits[FALLBACK] = fallback_limit(fallen_back, settings, happened.ratio)
    return limits


def _slack(accounts: Accounts, spec: BucketSpec, calls: Sequence[DecidedCall]) -> float:
    """Tokens that widen every bound: room kept for silent peers, debt forgiven, late times."""
    latest = [account.latest for account in accounts.each]
    forgiven = sum(report["forgiven"] for report in latest if report is not None)
    late_ns = max((call.error_ns for call in calls), default=0)
    return accounts.room + float(forgiven) + spec.rate_per_second * late_ns / NS_PER_SECOND


def _limits(
    calls: Sequence[DecidedCall], settings: Settings, slack: float, happened: Happened
) -> dict[str, LimitFigures]:
    """Over-admission and bound of each part: the worst of the windows that end in it."""
    unknown = UnknownTakes(settings.regions, settings.gossip_ns)
    unsent = UnsentTakes(settings.regions)
    over_admission, lost_ns = OverAdmission(settings), happened.acts_ns.get("back")
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in happened.parts}
    for call in calls:
        if lost_ns is not None and call.at_ns >= lost_ns:
            unsent.lost()
            lost_ns = None
        if not call.allowed:
            continue
        if over_admission.debt(call.at_ns) == 0:
            unknown.full()
            unsent.full()
        bounds: list[int | None] = [unknown.admitted(call)]
        if happened.ratio is not None:
            bounds.append(unsent.admitted(call))
        bound = min(bound for bound in bounds if bound is not None) + slack
        over_admission.add(call.at_ns, call.cost)
        seen[happened.part(call)].append((over_admission.ending(), bound))
    return {name: _worst(pairs, settings.capacity) for name, pairs in seen.items()}


def fallback_limit(calls: Sequence[DecidedCall], settings: Settings, ratio: float) -> LimitFigures:
    """Compares what was admitted in fallback with the shares of all nodes together."""
    together = settings.regions * min(Fraction(str(ratio)), Fraction(1, settings.regions))
    rate = settings.refill_rate * together
    shares = replace(
        settings,
        capacity=int(settings.capacity * together),
        refill_rate=rate.numerator,
        interval_ns=settings.interval_ns * rate.denominator,
    )
    late_ns = max((call.error_ns for call in calls), default=0)
    slack = shares.rate_per_second * late_ns / NS_PER_SECOND
    over_admission, pairs = OverAdmission(shares), []
    for call in calls:
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
