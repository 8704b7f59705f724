"""Collects what the regions report: every call with its time, and what each knew of the others."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.modes import Switch
from crdtbucket.demo.processes import Report
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

_RECENT_NS = 1_200_000_000


@dataclass(frozen=True)
class DecidedCall:
    """One call as it was decided. `at_ns` is at most `error_ns` late; `known`: tokens that each
    region had taken, as far as the deciding one knew when it was asked; `mode`: under which rule it
    was decided."""

    at_ns: int
    region: int
    cost: int
    allowed: bool
    error_ns: int
    known: tuple[int, ...]
    mode: str = Mode.EVENTUAL.value


@dataclass
class Account:
    """One region's calls, and the newest it said of itself."""

    epochs: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    """Tokens of all calls up to each."""
    admitted: list[int] = field(default_factory=list)
    """Tokens admitted up to each call."""
    grant_times: list[int] = field(default_factory=list)
    granted: list[int] = field(default_factory=list)
    """Tokens admitted up to each admission."""
    latest: Report | None = None
    recent: deque[tuple[int, dict[str, int]]] = field(default_factory=deque)


class Accounts:
    """Collects the reports of the regions, numbered as in `regions`."""

    def __init__(self, regions: Sequence[str]) -> None:
        self.regions = tuple(regions)
        self.each = [Account() for _ in regions]
        self.room = 0.0
        """The largest room below full that was seen anywhere, tokens."""
        self.switches: list[Switch] = []
        """All changes of mode, as they were reported."""
        self._raw: list[tuple[int, int, int, bool, int, dict[str, int], str]] = []

    def report(self, region: int, report: Report) -> None:
        """Take down a report of a region."""
        account = self.each[region]
        account.latest = report
        if report["epoch"] not in account.epochs:
            account.epochs.append(report["epoch"])
        self.switches += [Switch(at, region, *told) for at, *told in report["switches"]]
        for at, error, cost, allowed, room, known, mode in report["calls"]:
            self._raw.append((at, region, cost, bool(allowed), error, known, mode))
            account.times.append(at)
            account.offered.append(_last(account.offered) + cost)
            account.admitted.append(_last(account.admitted) + cost * allowed)
            if allowed:
                account.grant_times.append(at)
                account.granted.append(_last(account.granted) + cost)
            account.recent.append((at, known))
            self.room = max(self.room, room)
        self.room = max(self.room, report["room"])
        account.recent.append((report["at"], report["known"]))
        while account.recent[0][0] < report["at"] - _RECENT_NS:
            account.recent.popleft()

    def decided(self) -> list[DecidedCall]:
        """All calls in the order of time."""
        return [
            DecidedCall(at, region, cost, allowed, error, self.by_region(known), mode)
            for at, region, cost, allowed, error, known, mode in sorted(
                self._raw, key=lambda row: row[:2]
            )
        ]

    def by_region(self, known: dict[str, int]) -> tuple[int, ...]:
        """Columns by epoch, summed for each region."""
        return tuple(sum(known.get(epoch, 0) for epoch in account.epochs) for account in self.each)

    def total_admitted(self, region: int) -> int:
        """Tokens that the process of a region says it admitted, call by call."""
        return _last(self.each[region].granted)

    def agreed(self) -> bool:
        """Whether all regions have reported all calls, and hold the same columns."""
        latest = [account.latest for account in self.each]
        if not all(report is not None and report["done"] for report in latest):
            return False
        known = [report["known"] for report in latest if report is not None]
        return all(one == known[0] for one in known)

    def rates(self, region: int, now_ns: int) -> tuple[float, float]:
        """Tokens a second offered and admitted, over the last second."""
        account = self.each[region]
        since = bisect_left(account.times, now_ns - NS_PER_SECOND)
        return _since(account.offered, since), _since(account.admitted, since)

    def admitted_between(self, start_ns: int, end_ns: int) -> int:
        """Tokens admitted by all regions in [start, end)."""
        total = 0
        for account in self.each:
            low = bisect_left(account.grant_times, start_ns)
            high = bisect_left(account.grant_times, end_ns)
            total += _upto(account.granted, high) - _upto(account.granted, low)
        return total

    def full_at(self, spec: BucketSpec) -> int:
        """When one bucket that sees every call was full for the last time, ns; 0 for never."""
        grants = sorted(
            (at, total - _upto(account.granted, place))
            for account in self.each
            for place, (at, total) in enumerate(
                zip(account.grant_times, account.granted, strict=True)
            )
        )
        full_at = debt = then = 0
        for at, cost in grants:
            debt = max(0, debt - spec.refill_rate * (at - then))
            if debt == 0:
                full_at = at
            debt, then = debt + cost * spec.interval_ns, at
        return full_at

    def lag_ns(self, region: int, full_at: int) -> int:
        """The age of the oldest take of another region that this one did not know of: the worst
        within the last second. Takes before `full_at` are history, of which nobody need know."""
        worst = 0
        for at, known in self.each[region].recent:
            updates = self.by_region(known)
            for other, account in enumerate(self.each):
                place = bisect_right(account.granted, updates[other])
                place = max(place, bisect_left(account.grant_times, full_at))
                if other != region and place < len(account.grant_times):
                    worst = max(worst, at - account.grant_times[place])
        return worst


def _last(sums: list[int]) -> int:
    return sums[-1] if sums else 0


def _upto(sums: list[int], count: int) -> int:
    return sums[count - 1] if count else 0


def _since(sums: list[int], count: int) -> float:
    return float(_last(sums) - _upto(sums, count))
