"""Describes how the numbers of a metric are read from a limiter's stats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from crdtbucket.rollout.staged import Status
from crdtbucket.spec.mode import Mode

Stats = Mapping[str, Any]
"""`Limiter.stats()`, in which each bucket has further fields: its `spec`, its `mode`, and of its
held keys how many are `empty`, their `debt` and the `highest_debt` among them."""
Sample = tuple[tuple[str, ...], Any]
"""Values of the labels and the number; of a histogram, ([(bound, count), ...], sum)."""
Read = Callable[[Stats], Iterable[Sample]]
Of = Callable[[Any], Any]
"""Reads a part of the stats, or one bucket, endpoint or region of it."""

REGION_STATES = ("seen", "silent", "unknown")
CONFIG_LABELS = ("version", "hash", "stage")
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
        """The kind of the metric: counter, gauge or histogram."""
        if self.histogram:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True)
class StatsPart:
    """A part of the stats, and the metrics that are read of it: of the part itself, or with a
    `label` of each bucket, endpoint or region in it. A limiter without the part has no samples."""

    name: str
    label: str = ""

    def one(self, name: str, text: str, of: Of, *, histogram: bool = False) -> MetricSpec:
        """A metric of one number, or of a histogram its pair; a number that is None has no
        sample."""
        labels = (self.label,) if self.label else ()
        return MetricSpec(
            name,
            text,
            lambda stats: [
                (key, number) for key, one in self._each(stats) if (number := of(one)) is not None
            ],
            labels,
            histogram,
        )

    def by(self, name: str, text: str, label: str, of: Of) -> MetricSpec:
        """A metric of several numbers, told apart by one more label."""
        labels = (self.label, label) if self.label else (label,)
        return MetricSpec(
            name,
            text,
            lambda stats: [
                ((*key, value), number)
                for key, one in self._each(stats)
                for value, number in of(one).items()
            ],
            labels,
        )

    def plain(self, *rows: tuple[str, str, str]) -> Iterator[MetricSpec]:
        """Metrics that are one field as it is. A row: name, field, help."""
        for name, field, text in rows:
            yield self.one(name, text, itemgetter(field))

    def _each(self, stats: Stats) -> Iterable[Sample]:
        if self.label:
            return [((name,), one) for name, one in stats.get(self.name, {}).items()]
        return [((), stats[self.name])] if self.name in stats else []


def fields(**of: str) -> Of:
    """Fields of a part, each by the value of the label that tells it apart."""
    return lambda part: {value: part[field] for value, field in of.items()}


def mode(one: Mapping[str, Any]) -> dict[str, int]:
    """1 for the mode of a bucket or endpoint, 0 for the others."""
    return {mode.value: int(mode == one["mode"]) for mode in Mode}


def region_state(one: Mapping[str, Any]) -> dict[str, int]:
    """1 for the state of another region, 0 for the others."""
    return {state: int(state == one["state"]) for state in REGION_STATES}


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
    since it was seen is what no other node has charged. See docs/model.md, "bounded"."""
    lags = stats.get("longest_lag", {}).values()
    return [
        ((name,), len(lags) * one["spec"].capacity + one["spec"].rate_per_second * sum(lags))
        for name, one in stats["buckets"].items()
    ]


def peers(states: Mapping[str, str]) -> dict[str, int]:
    """How many peers are in each state."""
    counts = Counter(states.values())
    return {state: counts[state] for state in PEER_STATES}


def unreached(mesh: Mapping[str, Any]) -> int:
    """How many entries of `mesh.peers` have no link, though their nodes have not left."""
    return sum(not one["left"] for one in mesh.get("unreached", ()))


def rollout_status(rollout: Mapping[str, Any]) -> dict[str, int]:
    """1 for the status of a roll-out, 0 for the others."""
    return {str(one).replace(" ", "_"): int(str(one) == rollout["status"]) for one in Status}


def rollout_decisions(stats: Stats) -> Iterable[Sample]:
    """Decisions under the old and the new version."""
    buckets = stats["rollout"]["buckets"] if "rollout" in stats else {}
    return [
        ((bucket, side, decision), count)
        for bucket, sides in buckets.items()
        for side, counts in sides.items()
        for decision, count in counts.items()
    ]


def bounded(stats: Stats) -> Iterable[Sample]:
    """How often peers advertised more than a bound allows, by peer and bound."""
    peers = stats.get("mesh", {}).get("bounded", {})
    return [((peer, bound), n) for peer, bounds in peers.items() for bound, n in bounds.items()]


def config_info(stats: Stats) -> Iterable[Sample]:
    """A sample that shows which configuration runs."""
    config = stats.get("config")
    return [] if config is None else [(tuple(str(config[one]) for one in CONFIG_LABELS), 1)]
