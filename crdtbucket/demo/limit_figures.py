"""How far the admitted calls of a run passed the limit, against the bound for just that run: what
its processes may admit over the limit, from what each knew.

For the mesh it is the bound of `crdtbucket.simulator.bound`, on facts instead of a grid: takes that
the best informed node did not know of, the room that a full bucket may keep for silent peers, and
debt that was forgiven.

A node in strong mode looks at Redis' level, too, which is lower than the true one by what was
admitted without Redis and not sent to it since. Every call to Redis sends it all that its caller
has taken until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Accounts, DecidedCall
from crdtbucket.simulator.bound import UnknownTakes
from crdtbucket.simulator.measure import OverAdmission
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.quota import share_among

LINKED, PARTED = "limit, links up", "limit in the cut"
FALLBACK = f"limit, {Mode.FALLBACK}"


@dataclass
class Happened:
    """What was done to the regions in a run, as far as the verdict depends on it."""

    began_ns: dict[str, int] = field(default_factory=dict)
    """When each phase began: a region was cut off or healed, or Redis was made slow, gone and back;
    it came back empty."""
    records: Sequence[Mapping[str, int]] | None = None
    """Tokens by epoch, as each Redis holds them at the end; None in a run without one."""
    ratio: float | None = None
    """The share of the limit that each node has while Redis is gone; None in a run without one
    Redis for all nodes."""

    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the run; each has a limit of its own."""
        return (LINKED, PARTED) if self.ratio is None else tuple(f"limit, {one}" for one in Mode)

    def part(self, call: DecidedCall) -> str:
        """The part of the run that a call belongs to: with one Redis, its mode; else in the cut, or
        with all links up. The cut counts as a second longer, since updates are under way after
        it."""
        if self.ratio is not None:
            return f"limit, {call.mode}"
        start_ns, end_ns = self.began_ns["cut"], self.began_ns["healed"]
        return PARTED if start_ns <= call.at_ns < end_ns + NS_PER_SECOND else LINKED


class UnsentTakes:
    """Counts, in the order of time, the admitted tokens that were not sent to Redis yet."""

    def __init__(self, regions: int) -> None:
        self._pending: list[deque[DecidedCall]] = [deque() for _ in range(regions)]
        self._strangers: set[int] = set()

    def lost(self) -> None:
        """Redis is empty at this moment, and has to be sent all counts again."""
        self._strangers = set(range(len(self._pending)))

    def full(self) -> None:
        """One bucket that sees everything is full at this moment."""
        self._strangers.clear()
        for pending in self._pending:
            pending.clear()

    def admitted(self, call: DecidedCall) -> int | None:
        """Counts an admission. Returns the tokens that had not been sent to Redis when it decided
        on it; None when Redis did not decide, or cannot know that much."""
        pending = self._pending[call.region]
        if call.mode != Mode.STRONG.value:
            pending.append(call)
            return None
        self._strangers.discard(call.region)
        while pending and pending[0].at_ns <= call.at_ns - call.error_ns:
            pending.popleft()
        if self._strangers:
            return None
        return sum(one.cost for some in self._pending for one in some)


@dataclass(frozen=True)
class LimitFigures:
    """By how much the limit was passed in a part of the run, and the bound for that, in % of the
    capacity.

    `over_admission_percent` is None where nothing was admitted."""

    over_admission_percent: float | None
    bound_percent: float
    holds: bool


def limit_figures(
    accounts: Accounts, spec: BucketSpec, settings: Settings, happened: Happened
) -> dict[str, LimitFigures]:
    """The figures of each part of the run: the worst of the windows that end in it."""
    calls = accounts.decided()
    slack = _slack(accounts, spec, calls)
    unknown = UnknownTakes(settings.regions, settings.gossip_ns)
    unsent = UnsentTakes(settings.regions)
    over_admission, lost_ns = OverAdmission(settings), happened.began_ns.get("back")
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in happened.parts()}
    for call in calls:
        if lost_ns is not None and call.at_ns >= lost_ns:
            unsent.lost()
            lost_ns = None
        if not call.allowed:
            continue
        if over_admission.debt(call.at_ns) == 0:
            unknown.full()
            unsent.full()
        bounds: list[int | None] = [least_unknown(unknown, call, accounts.by_region(call.known))]
        if happened.ratio is not None:
            bounds.append(unsent.admitted(call))
        bound = min(bound for bound in bounds if bound is not None) + slack
        over_admission.add(call.at_ns, call.cost)
        seen[happened.part(call)].append((over_admission.ending(), bound))
    limits = {name: _worst(pairs, settings.capacity) for name, pairs in seen.items()}
    if happened.ratio is not None:
        fallen_back = [call for call in calls if call.mode == Mode.FALLBACK.value]
        limits[FALLBACK] = fallback_limit(fallen_back, settings, happened.ratio)
    return limits


def least_unknown(takes: UnknownTakes, call: DecidedCall, known: Sequence[int]) -> int:
    """Counts an admission. Returns the tokens that the best informed of the nodes did not know of.
    `known`: the tokens that each region had taken, as far as the deciding one knew."""
    # What this region was granted while this call waited for its answer counts as unknown, too.
    unknown = takes.unknown(known)
    takes.took(call.region, call.cost)
    takes.spoke(call.region, call.at_ns, unknown)
    return min(takes.recent(call.at_ns).values())


def _slack(accounts: Accounts, spec: BucketSpec, calls: Sequence[DecidedCall]) -> float:
    """Tokens that widen every bound: room kept for silent peers, debt forgiven, late times."""
    forgiven = sum(report["forgiven"] for report in accounts.latest())
    late_ns = max((call.error_ns for call in calls), default=0)
    return accounts.room + float(forgiven) + spec.rate_per_second * late_ns / NS_PER_SECOND


def fallback_limit(calls: Sequence[DecidedCall], settings: Settings, ratio: float) -> LimitFigures:
    """Compares what was admitted in fallback with the shares of all nodes together."""
    nodes = settings.regions
    together = nodes * share_among(nodes, Fraction(str(ratio)), fleet=False)
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
