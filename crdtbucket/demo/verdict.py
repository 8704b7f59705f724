"""Judges whether the regions kept one limit: figures from the calls as they were decided, and
checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Accounts, DecidedCall
from crdtbucket.demo.happened import Happened
from crdtbucket.demo.limit_figures import LimitFigures, limit_figures
from crdtbucket.demo.modes import ACTS, Followed, follow
from crdtbucket.simulator.measure import Ideal
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

LEAST_RATIO = 0.9
"""Of what one bucket that sees every call admits. Real calls are large: one or two that come at
another moment make some per cent of a short run."""
MOST_STARVED_S = 3.0
"""Seconds for which a region that calls may get nothing."""


@dataclass(frozen=True)
class RunCheck:
    """One thing that must hold, with what was seen."""

    name: str
    holds: bool
    text: str


def modes_check(regions: Sequence[str], followed: Sequence[Followed]) -> RunCheck:
    """Every region came into the mode that each act leads to before the next one."""
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


def amount_check(admitted: int, ideal: int) -> RunCheck:
    """Checks that enough was admitted."""
    ratio = admitted / ideal if ideal else 1.0
    text = f"{admitted:,}; one bucket that sees every call admits {ideal:,}: {100 * ratio:.1f} %"
    return RunCheck("admitted", ratio >= LEAST_RATIO, f"{text}, at least {100 * LEAST_RATIO:.0f} %")


def limit_check(name: str, limit: LimitFigures) -> RunCheck:
    """The limit was kept in a part of the run."""
    over = limit.over_admission_percent
    if over is None:
        return RunCheck(name, True, "nothing was admitted")
    seen = f"the worst window passed it by {over:.1f} % of the capacity"
    if over <= 0:
        seen = f"no window passed it; the nearest stayed {-over:.1f} % of the capacity below"
    return RunCheck(name, limit.holds, f"{seen}; the bound is {limit.bound_percent:.1f} %")


def tokens_check(
    reported: tuple[int, ...],
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
    own = " + ".join(f"{one:,}" for one in reported)
    if all(one == reported for one in (*columns, *(records or ()))) and not any(strangers):
        who = ", and all three hold just that"
        if records is not None:
            stores = "and Redis" if len(records) == 1 else f"and the Redis of all {len(records)}"
            who = f": so say the callers, all three nodes, {stores}"
        return RunCheck(name, True, f"{own} = {sum(reported):,}{who}")
    held = "; ".join("nothing" if one is None else str(list(one)) for one in columns)
    if records is None:
        return RunCheck(name, False, f"the processes took {own}, and hold {held}")
    kept = "; ".join(str([*one, more]) for one, more in zip(records, strangers, strict=True))
    text = f"the callers took {own}, the nodes hold {held}, Redis holds {kept}"
    return RunCheck(name, False, text)


def starvation_check(starved: dict[str, float]) -> RunCheck:
    """No region was denied for long."""
    worst = max(starved, key=starved.__getitem__)
    text = f"nobody was denied for longer than {starved[worst]:.1f} s on end ({worst})"
    return RunCheck(
        "no starvation", starved[worst] <= MOST_STARVED_S, f"{text}; at most {MOST_STARVED_S:g} s"
    )


@dataclass(frozen=True)
class RunVerdict:
    """The result of a run: its figures, and the checks that must hold. Amounts are tokens of the
    bucket."""

    offered: int
    admitted: int
    ideal: int
    """The tokens that one bucket that sees every call admits."""
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
