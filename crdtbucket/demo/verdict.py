"""Whether the regions kept one limit: figures from the calls as they were decided, and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Accounts, DecidedCall
from crdtbucket.demo.happened import Happened
from crdtbucket.demo.limit_figures import LimitFigures, limit_figures
from crdtbucket.demo.modes import Followed, follow
from crdtbucket.demo.run_checks import (
    RunCheck,
    amount_check,
    limit_check,
    modes_check,
    starvation_check,
    tokens_check,
)
from crdtbucket.simulator.measure import Ideal
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode


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
    reported: tuple[int, ...]
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


def judge(
    accounts: Accounts, spec: BucketSpec, gossip_ns: int, happened: Happened, expected: int
) -> RunVerdict:
    """The verdict. `expected`: how many calls were to be made."""
    calls = accounts.decided()
    settings = Settings.of_bucket(spec, regions=len(accounts.regions), gossip_ns=gossip_ns)
    limits = limit_figures(accounts, spec, settings, happened)
    admitted, ideal = _admitted(calls, settings)
    latest = [account.latest for account in accounts.each]
    columns = [None if one is None else accounts.by_region(one["known"]) for one in latest]
    reported = tuple(accounts.total_admitted(region) for region in range(len(accounts.regions)))
    stores = happened.records
    records = None if stores is None else [accounts.by_region(dict(one)) for one in stores]
    strangers = [
        sum(held.values()) - sum(one) for held, one in zip(stores or [], records or [], strict=True)
    ]
    starved = {name: _starved_s(calls, place) for place, name in enumerate(accounts.regions)}
    regions = len(accounts.regions) if happened.acts_ns else 0
    followed = follow(accounts.switches, happened.acts_ns, regions)
    made = f"{len(calls):,} of {expected:,} calls were made" if len(calls) != expected else ""
    checks = [
        *([modes_check(accounts.regions, followed)] if followed else []),
        amount_check(admitted, ideal),
        *(limit_check(name, limit) for name, limit in limits.items()),
        tokens_check(reported, columns, records, strangers, made),
        starvation_check(starved),
    ]
    offered, outside = sum(call.cost for call in calls), sum(reported) - admitted
    return RunVerdict(
        offered, sum(reported), ideal + outside, limits, starved, columns, reported, records,
        followed, checks, happened.note,
    )  # fmt: skip


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
