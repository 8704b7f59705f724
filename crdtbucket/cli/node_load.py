"""Computes what a node does from its counters at two moments: rates and shares, sorted as asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.cli.answer_values import count_of, report_of
from crdtbucket.cli.terminal_text import printable


@dataclass(frozen=True)
class KeyLoad:
    """A heavy key; `tokens` were asked for it lately, `denied` of those were denied."""

    bucket: str
    key: str
    tokens: int
    denied: int
    remaining: int
    fill: float
    """Between 0, empty or in debt, and 1."""


@dataclass(frozen=True)
class BucketLoad:
    """A bucket on one node. Rates are calls a second since the look before."""

    name: str
    mode: str
    capacity: int
    refill_per_second: float
    keys: int
    allowed: int
    denied: int
    allowed_per_second: float
    denied_per_second: float
    fill: float | None
    """The level of the emptiest heavy key, as a share of the capacity; None where there is none."""


@dataclass(frozen=True)
class Look:
    """The answers of a node at one moment: its buckets, and the heavy keys of some of them."""

    at_ns: int
    buckets: Sequence[Mapping[str, Any]]
    keys: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Load:
    """The load of a node, computed from two looks at it."""

    buckets: tuple[BucketLoad, ...]
    keys: tuple[KeyLoad, ...]

    @classmethod
    def between(cls, before: Look, after: Look) -> Load:
        """A node that started anew in between began at 0."""
        earlier = {str(one.get("name")): one for one in before.buckets}
        elapsed = max(after.at_ns - before.at_ns, 1) / NS_PER_SECOND
        capacities = {str(one.get("name")): count_of(one.get("capacity")) for one in after.buckets}
        keys = {
            name: [_key(name, one, capacities.get(name, 0)) for one in heavy]
            for name, heavy in after.keys.items()
        }
        buckets = []
        for one in after.buckets:
            name = str(one.get("name"))
            fill = min((key.fill for key in keys.get(name, ())), default=None)
            buckets.append(_bucket(one, earlier.get(name, {}), elapsed, fill))
        return cls(tuple(buckets), tuple(key for heavy in keys.values() for key in heavy))

    def sorted(self, by: str) -> Load:
        """The load in one of the orders of `SORTS`."""
        of_bucket, of_key = SORTS[by]
        return Load(
            tuple(sorted(self.buckets, key=lambda one: (of_bucket(one), one.name))),
            tuple(sorted(self.keys, key=lambda one: (of_key(one), one.bucket, one.key))),
        )


# How each order ranks buckets and keys; those of equal rank are sorted by name.
SORTS: Mapping[str, tuple[Callable[[BucketLoad], Any], Callable[[KeyLoad], Any]]] = {
    "denied": (
        lambda one: (-one.denied_per_second, -one.denied),
        lambda one: (-one.denied, -one.tokens),
    ),
    "allowed": (
        lambda one: (-one.allowed_per_second, -one.allowed),
        lambda one: one.denied - one.tokens,
    ),
    "fill": (
        lambda one: 2.0 if one.fill is None else one.fill,
        lambda one: (one.fill, -one.tokens),
    ),
    "keys": (lambda one: -one.keys, lambda one: -one.tokens),
    "name": (lambda one: 0, lambda one: 0),
}


def busiest(buckets: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """The names of the buckets with most calls, as the node gives them."""
    calls = {
        str(one.get("name")): count_of(one.get("allowed")) + count_of(one.get("denied"))
        for one in buckets
    }
    return sorted(calls, key=lambda name: -calls[name])[:count]


def _bucket(
    now: Mapping[str, Any], then: Mapping[str, Any], elapsed: float, fill: float | None
) -> BucketLoad:
    return report_of(
        BucketLoad,
        now,
        allowed_per_second=_rate(now, then, "allowed", elapsed),
        denied_per_second=_rate(now, then, "denied", elapsed),
        fill=fill,
    )


def _key(bucket: str, one: Mapping[str, Any], capacity: int) -> KeyLoad:
    share = count_of(one.get("remaining")) / capacity if capacity else 0.0
    return report_of(KeyLoad, one, bucket=printable(bucket), fill=min(max(share, 0.0), 1.0))


def _rate(now: Mapping[str, Any], then: Mapping[str, Any], field: str, elapsed: float) -> float:
    # A bucket that was not there before is new: all its counts are of this interval.
    count = count_of(now.get(field))
    new = count - count_of(then.get(field))
    return (new if new >= 0 else count) / elapsed
