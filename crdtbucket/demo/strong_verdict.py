"""Whether the regions kept one limit with a Redis that was slow, gone and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.demo.accounts import Decided, Ledger
from crdtbucket.demo.modes import ACTS, Followed, follow
from crdtbucket.demo.verdict import (
    Check,
    Ending,
    Limit,
    Verdict,
    amount,
    columns_of,
    dark_s,
    limit_check,
    limits_of,
    slack_of,
    starved,
    told_of,
    worst,
)
from crdtbucket.simulator.measure import Ideal
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode

NOTE = """\
Admitted: outside of fallback. The limit: capacity + rate x time, in any window that ends
in that mode; in fallback, in any window, the shares of all regions together. The bound:
what neither the region that admitted nor, in strong mode, Redis had heard of."""


@dataclass(frozen=True)
class StrongVerdict(Verdict):
    """What a run with a Redis showed."""

    records: tuple[int, ...]
    """Tokens taken by each region, as Redis holds them at the end."""
    followed: list[Followed]
    """How the modes of each region followed what was done to Redis."""


def judge_strong(
    ledger: Ledger,
    spec: BucketSpec,
    ratio: float,
    gossip_ns: int,
    acts_ns: Mapping[str, int],
    expected: int,
    records: Mapping[str, int],
) -> StrongVerdict:
    """The verdict. `ratio`: a node's share of the limit in an outage; `acts_ns`: when Redis was
    made slow, gone and back; `expected`: calls planned; `records`: tokens by epoch, in Redis."""
    calls = ledger.decided()
    regions = len(ledger.regions)
    settings = Settings.of_bucket(spec, regions=regions, gossip_ns=gossip_ns)
    away = [call for call in calls if call.mode == Mode.FALLBACK.value]
    limits = _limits(calls, settings, slack_of(ledger, spec, calls), acts_ns["back"])
    limits[_name(Mode.FALLBACK)] = fallback_limit(away, settings, ratio)
    admitted, ideal = _admitted(calls, settings)
    columns, told = columns_of(ledger), told_of(ledger)
    recorded = ledger.by_region(dict(records))
    strangers = sum(records.values()) - sum(recorded)
    dark = {name: dark_s(calls, place) for place, name in enumerate(ledger.regions)}
    followed = follow(ledger.switches, acts_ns, regions)
    checks = [
        _modes(ledger.regions, followed),
        amount(admitted, ideal),
        *(limit_check(name, limit) for name, limit in limits.items()),
        _every_token(told, columns, (*recorded, strangers), len(calls), expected),
        starved(dark),
    ]
    offered, outside = sum(call.cost for call in calls), sum(told) - admitted
    return StrongVerdict(
        offered,
        sum(told),
        ideal + outside,
        limits,
        dark,
        columns,
        told,
        checks,
        NOTE,
        recorded,
        followed,
    )


def _name(mode: Mode) -> str:
    return f"limit, {mode}"


def _limits(
    calls: Sequence[Decided], settings: Settings, slack: float, back_ns: int
) -> dict[str, Limit]:
    """Of the windows that end with a strong and with an eventual decision."""
    parts = [_name(mode) for mode in Mode]
    found = limits_of(calls, settings, slack, parts, lambda call: f"limit, {call.mode}", back_ns)
    return {name: found[name] for name in parts if name != _name(Mode.FALLBACK)}


def fallback_limit(away: Sequence[Decided], settings: Settings, ratio: float) -> Limit:
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
    excess = Ending(shares)
    pairs = [(excess.add(one.at_ns, one.cost), slack) for one in away if one.allowed]
    return worst(pairs, settings.capacity)


def _admitted(calls: Sequence[Decided], settings: Settings) -> tuple[int, int]:
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


def _modes(regions: Sequence[str], followed: Sequence[Followed]) -> Check:
    faults = [
        f"{name} {one.fault()}" for name, one in zip(regions, followed, strict=True) if one.fault()
    ]
    if faults:
        return Check("modes", False, "; ".join(faults))
    seen = []
    for act in ACTS:
        delays = [one.delays[act.name] for one in followed]
        seen.append(f"{act.name} -> {act.mode} in {max(delays):.1f} s")
    return Check("modes", True, f"{', '.join(seen)} at most")


def _every_token(
    told: tuple[int, ...],
    columns: Sequence[tuple[int, ...] | None],
    records: tuple[int, ...],
    made: int,
    expected: int,
) -> Check:
    """`records`: those of the regions, and of whoever is none of them."""
    name = "every token"
    if made != expected:
        return Check(name, False, f"{made:,} of {expected:,} calls were made")
    own = " + ".join(f"{one:,}" for one in told)
    if records == (*told, 0) and all(one == told for one in columns):
        text = f"{own} = {sum(told):,}: so say the callers, all three nodes, and Redis"
        return Check(name, True, text)
    held = "; ".join("nothing" if one is None else str(list(one)) for one in columns)
    text = f"the callers took {own}, the nodes hold {held}, Redis holds {list(records)}"
    return Check(name, False, text)


__all__ = ["NOTE", "StrongVerdict", "fallback_limit", "judge_strong"]
