"""Collects what the regions report: every call with its time, and what each knew of the others."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.modes import Switch
from crdtbucket.demo.processes import Report
from crdtbucket.simulator.measure import OverAdmission
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

_RECENT_NS = 1_200_000_000
_TIME = attrgetter("at_ns")


@dataclass(frozen=True)
class DecidedCall:
    """One call as it was decided. `at_ns` is at most `error_ns` late. `known`: the tokens that each
    process had taken, by epoch, as far as the deciding process knew when it was asked. `mode`: the
    mode in which it was decided."""

    at_ns: int
    region: int
    cost: int
    allowed: bool
    error_ns: int
    known: Mapping[str, int]
    mode: str = Mode.EVENTUAL.value


@dataclass
class Account:
    """One region's calls, and its newest report."""

    epochs: list[str] = field(default_factory=list)
    calls: list[DecidedCall] = field(default_factory=list)
    grants: list[DecidedCall] = field(default_factory=list)
    """The calls that were admitted."""
    granted: list[int] = field(default_factory=list)
    """Of each call in `grants`, the tokens admitted up to it, its own included."""
    latest: Report | None = None
    recent: deque[tuple[int, Mapping[str, int]]] = field(default_factory=deque)
    """What it knew of the others, with the time, over the last second or so."""

    @property
    def total(self) -> int:
        """Tokens that its process says it admitted, call by call."""
        return self.granted[-1] if self.granted else 0


class Accounts:
    """Collects the reports of the regions, numbered as in `regions`."""

    def __init__(self, regions: Sequence[str]) -> None:
        self.regions = tuple(regions)
        self.each = [Account() for _ in regions]
        self.room = 0.0
        """The largest room below full that was seen anywhere, tokens."""
        self.switches: list[Switch] = []
        """All changes of mode, as they were reported."""

    def report(self, region: int, report: Report) -> None:
        """Adds a report of a region."""
        account = self.each[region]
        account.latest = report
        if report["epoch"] not in account.epochs:
            account.epochs.append(report["epoch"])
        self.switches += [Switch(at, region, *told) for at, *told in report["switches"]]
        for at, error, cost, allowed, room, known, mode in report["calls"]:
            call = DecidedCall(at, region, cost, bool(allowed), error, known, mode)
            account.calls.append(call)
            if allowed:
                account.granted.append(account.total + cost)
                account.grants.append(call)
            account.recent.append((at, known))
            self.room = max(self.room, room)
        self.room = max(self.room, report["room"])
        account.recent.append((report["at"], report["known"]))
        while account.recent[0][0] < report["at"] - _RECENT_NS:
            account.recent.popleft()

    def decided(self) -> list[DecidedCall]:
        """All calls in the order of time."""
        return sorted((call for one in self.each for call in one.calls), key=_TIME)

    def latest(self) -> list[Report]:
        """The newest report of each region that has sent one."""
        return [account.latest for account in self.each if account.latest is not None]

    def by_region(self, known: Mapping[str, int]) -> tuple[int, ...]:
        """Columns by epoch, summed for each region."""
        return tuple(sum(known.get(epoch, 0) for epoch in account.epochs) for account in self.each)

    def row(self, known: Mapping[str, int]) -> tuple[int, ...]:
        """The columns summed for each region, and last those of all other processes."""
        by_region = self.by_region(known)
        return *by_region, sum(known.values()) - sum(by_region)

    def agreed(self) -> bool:
        """Whether all regions have reported all calls, and hold the same columns."""
        latest = self.latest()
        done = len(latest) == len(self.each) and all(report["done"] for report in latest)
        return done and all(report["known"] == latest[0]["known"] for report in latest)

    # ---- while it runs ----

    def rates(self, region: int, now_ns: int) -> tuple[int, int]:
        """Tokens offered and admitted in the last second."""
        account, since = self.each[region], now_ns - NS_PER_SECOND
        return _tokens(account.calls, since, now_ns), _tokens(account.grants, since, now_ns)

    def admitted_between(self, start_ns: int, end_ns: int) -> int:
        """Tokens admitted by all regions in [start, end)."""
        return sum(_tokens(account.grants, start_ns, end_ns) for account in self.each)

    def full_at(self, spec: BucketSpec) -> int:
        """When one bucket that sees every call was full for the last time, ns; 0 for never."""
        seen, full_at = OverAdmission(Settings.of_bucket(spec)), 0
        for call in sorted((call for one in self.each for call in one.grants), key=_TIME):
            if seen.debt(call.at_ns) == 0:
                full_at = call.at_ns
            seen.add(call.at_ns, call.cost)
        return full_at

    def lag_ns(self, region: int, full_at: int) -> int:
        """The age of the oldest take of another region that this one did not know of: the worst
        within the last second. Takes before `full_at` no longer matter."""
        others = [
            (place, account, bisect_left(account.grants, full_at, key=_TIME))
            for place, account in enumerate(self.each)
            if place != region
        ]
        worst = 0
        for at, known in self.each[region].recent:
            updates = self.by_region(known)
            for place, account, history in others:
                unknown = max(history, bisect_right(account.granted, updates[place]))
                if unknown < len(account.grants):
                    worst = max(worst, at - account.grants[unknown].at_ns)
        return worst


def _tokens(calls: list[DecidedCall], start_ns: int, end_ns: int) -> int:
    """Tokens of the calls in [start, end)."""
    first, end = (bisect_left(calls, at, key=_TIME) for at in (start_ns, end_ns))
    return sum(call.cost for call in calls[first:end])
