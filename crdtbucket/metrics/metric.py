"""How the numbers of a metric are read from a limiter's stats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from crdtbucket.rollout.staged import Status
from crdtbucket.spec.mode import Mode

Stats = Mapping[str, Any]
"""`Limiter.stats()`, where each bucket's numbers have its `spec`, its `mode`, and of the keys that
are held `empty`, `debt` and `highest_debt` among them."""
Sample = tuple[tuple[str, ...], Any]
"""Values of the labels and the number; of a histogram, ([(bound, count), ...], sum)."""
Read = Callable[[Stats], Iterable[Sample]]

REGION_STATES = ("seen", "silent", "unknown")
PEER_STATES = ("alive", "suspect", "dead", "left")


@dataclass(frozen=True)
class MetricSpec:
    """One metric; `read` gives no sample where the limiter has no such part."""

    name: str
    help: str
    read: Read
    labels: tuple[str, ...] = ()
    histogram: bool = False

    @property
    def kind(self) -> str:
        """counter, gauge or histogram."""
        if self.histogram:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


def number(part: str, field: str) -> Read:
    """A number of a part."""
    return lambda stats: [((), stats[part][field])] if part in stats else []


def numbers(part: str, **fields: str) -> Read:
    """Several numbers of a part, each under the label that tells it apart."""
    return lambda stats: (
        [((label,), stats[part][field]) for label, field in fields.items()] if part in stats else []
    )


def each(part: str, of: Callable[[Any], Any]) -> Read:
    """One number of every bucket, or of every endpoint of Redis."""
    return lambda stats: [((name,), of(one)) for name, one in stats.get(part, {}).items()]


def each_by(part: str, of: Callable[[Any], Mapping[str, Any]]) -> Read:
    """Several numbers of every bucket or endpoint, by a second label."""
    return lambda stats: [
        ((name, label), value)
        for name, one in stats.get(part, {}).items()
        for label, value in of(one).items()
    ]


def plain(part: str, labels: tuple[str, ...], *rows: tuple[str, str, str]) -> Iterable[MetricSpec]:
    """Metrics that are one field as it is: of each bucket or endpoint with labels, else of the
    part. A row: name, field, help."""
    for name, field, text in rows:
        read = each(part, itemgetter(field)) if labels else number(part, field)
        yield MetricSpec(name, text, read, labels)


def mode(one: Mapping[str, Any]) -> dict[str, int]:
    """1 for the mode of a bucket or endpoint, 0 for the others."""
    return {mode.value: int(mode == one["mode"]) for mode in Mode}


def region_state(one: Mapping[str, Any]) -> dict[str, int]:
    """1 for the state of another region, 0 for the others."""
    return {state: int(state == one["state"]) for state in REGION_STATES}


def region_late(stats: Stats) -> Iterable[Sample]:
    """Seconds that other regions are behind, of those that were ever seen."""
    regions = stats.get("regions", {}).items()
    return [((name,), one["late"]) for name, one in regions if one["late"] is not None]


def decisions(stats: Stats) -> Iterable[Sample]:
    """Decisions of each bucket, by what they were and the mode."""
    return [
        ((bucket, decision, mode), number)
        for bucket, one in stats["buckets"].items()
        for mode, numbers in one["modes"].items()
        for decision, number in numbers.items()
    ]


def share(tokens: float, one: Mapping[str, Any]) -> float:
    """Tokens as a part of the capacity of a bucket."""
    capacity: int = one["spec"].capacity
    return tokens / capacity


def lag_bound(stats: Stats) -> Iterable[Sample]:
    """Tokens that peers may have admitted since they were seen last.

    No node admits more in a time than its capacity and what refills meanwhile; what it admitted
    since it was seen is what nobody else has charged. See docs/model.md, "bounded"."""
    lags = stats.get("longest_lag", {}).values()
    return [
        ((name,), len(lags) * one["spec"].capacity + one["spec"].rate_per_second * sum(lags))
        for name, one in stats["buckets"].items()
    ]


def peers(stats: Stats) -> Iterable[Sample]:
    """How many peers are in each state."""
    states = Counter(stats["peers"].values()) if "peers" in stats else None
    return [((state,), states[state]) for state in PEER_STATES] if states is not None else []


def rollout_status(stats: Stats) -> Iterable[Sample]:
    """How a roll-out stands."""
    if "rollout" not in stats:
        return []
    names = [str(one) for one in Status]
    return [((name.replace(" ", "_"),), int(name == stats["rollout"]["status"])) for name in names]


def rollout_decisions(stats: Stats) -> Iterable[Sample]:
    """What was decided under either version."""
    buckets = stats["rollout"]["buckets"] if "rollout" in stats else {}
    return [
        ((bucket, side, decision), count)
        for bucket, sides in buckets.items()
        for side, counts in sides.items()
        for decision, count in counts.items()
    ]


def bounded(stats: Stats) -> Iterable[Sample]:
    """What peers stated beyond a bound."""
    peers = stats.get("mesh", {}).get("bounded", {})
    return [((peer, bound), n) for peer, bounds in peers.items() for bound, n in bounds.items()]


def refused(stats: Stats) -> Iterable[Sample]:
    """Frames and connections of the mesh that were turned away, by reason."""
    return [((reason,), n) for reason, n in stats.get("mesh", {}).get("refused", {}).items()]
