"""Judges whether the regions kept one limit: figures from the calls as they were decided, and
checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Accounts, DecidedCall
from crdtbucket.demo.limit_figures import Happened, LimitFigures, limit_figures
from crdtbucket.demo.modes import ACTS, Followed, follow
from crdtbucket.simulator.measure import Ideal, Starvation
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

LEAST_RATIO = 0.9
"""The least share of what one bucket that sees every call admits. Real calls are large: one or two
that come at another moment make some per cent of a short run."""
MOST_STARVED_S = 3.0
"""The most seconds for which a region that makes calls may be denied all of them."""


@dataclass(frozen=True)
class RunCheck:
    """One thing that must hold, with what was seen."""

    name: str
    holds: bool
    text: str


def modes_check(regions: Sequence[str], followed: Sequence[Followed]) -> RunCheck:
    """Every region reached the mode of each act before the next act."""
    faults = [
        f"{name} {one.fault()}" for name, one in zip(regions, followed, strict=True) if one.fault()
    ]
    if faults:
        return RunCheck("modes", False, "; ".join(faults))
    seen = ", ".join(
        f"{act} -> {mode} in {max(one.delays[act] for one in followed):.1f} s"
        for act, mode in ACTS.items()
    )
    return RunCheck("modes", True, f"{seen} at most")


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
    columns: Sequence[tuple[int, ...]],
    stored: Sequence[tuple[int, ...]] | None,
    made: str,
) -> RunCheck:
    """Every token is counted once, by all. `stored`: the tokens that each Redis holds of each
    region, and last those of anybody else. `made`: what is wrong with the number of calls."""
    name = "no take lost" if stored is None else "every token"
    if made:
        return RunCheck(name, False, made)
    own = " + ".join(f"{one:,}" for one in reported)
    held = "; ".join(str(list(one)) for one in columns)
    holds = list(columns) == [reported] * len(reported)
    if stored is None:
        if holds:
            text = f"{own} = {sum(reported):,}, and all three hold just that"
        else:
            text = f"the processes took {own}, and hold {held}"
        return RunCheck(name, holds, text)
    if holds and all(one == (*reported, 0) for one in stored):
        who = "Redis" if len(stored) == 1 else f"the Redis of all {len(stored)}"
        text = f"{own} = {sum(reported):,}: so say the callers, all three nodes, and {who}"
        return RunCheck(name, True, text)
    kept = "; ".join(str(list(one)) for one in stored)
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
    columns: list[tuple[int, ...]]
    """Tokens taken by each region, as each region holds them at the end."""
    reported: tuple[int, ...]
    """The same as the processes say it, call by call."""
    records: list[tuple[int, ...]] | None
    """The same as each Redis holds it at the end; None in a run without one."""
    followed: list[Followed]
    """How the modes of each region followed what was done to Redis."""
    checks: list[RunCheck]

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
    calls, names = accounts.decided(), accounts.regions
    settings = Settings.of_bucket(spec, regions=len(names), gossip_ns=gossip_ns)
    limits = limit_figures(accounts, spec, settings, happened)
    admitted, ideal = _admitted(calls, settings)
    columns = [accounts.by_region(report["known"]) for report in accounts.latest()]
    reported = tuple(account.total for account in accounts.each)
    stored = None if happened.records is None else [accounts.row(one) for one in happened.records]
    records = None if stored is None else [row[:-1] for row in stored]
    starved = dict(zip(names, _starved_s(calls, len(names)), strict=True))
    regions = 0 if happened.ratio is None else len(names)
    followed = follow(accounts.switches, happened.began_ns, regions)
    made = f"{len(calls):,} of {expected:,} calls were made" if len(calls) != expected else ""
    checks = [
        *([modes_check(names, followed)] if followed else []),
        amount_check(admitted, ideal),
        *(limit_check(name, limit) for name, limit in limits.items()),
        tokens_check(reported, columns, stored, made),
        starvation_check(starved),
    ]
    offered, outside = sum(call.cost for call in calls), sum(reported) - admitted
    return RunVerdict(
        offered, sum(reported), ideal + outside, limits, starved, columns, reported, records,
        followed, checks,
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


def _starved_s(calls: Sequence[DecidedCall], regions: int) -> list[float]:
    """The longest time from a denial of each region to its next admission, seconds; an outage, in
    which little is promised, ends it."""
    starvation = Starvation(regions)
    for call in calls:
        denied = not call.allowed and call.mode != Mode.FALLBACK.value
        starvation.demand(call.region, denied, call.at_ns)
    if calls:
        starvation.finish(calls[-1].at_ns)
    return [worst / NS_PER_SECOND for worst in starvation.worst_ns]
