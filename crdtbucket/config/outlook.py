"""Computes what a configuration means for fleets of some sizes: limits, quotas and memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from crdtbucket._core import REMEMBERED_BYTES, BucketCore, Table
from crdtbucket.base.duration import span
from crdtbucket.config import Config
from crdtbucket.config.compare import limit_words
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.spec.overrides import with_overrides
from crdtbucket.strong.quota import share_among


@dataclass(frozen=True)
class Share:
    """Tokens at once, and tokens a second."""

    capacity: int
    per_second: float


@dataclass(frozen=True)
class Fleet:
    """One bucket on so many nodes."""

    nodes: int
    split: Share
    """The share of each node if the limit were split among them, for comparison."""
    quota: Share | None
    """The quota that each node grants in an outage of Redis; None if another rule decides."""
    quota_of_all: Share | None
    cut_off: Share | None
    """The most that all nodes grant together while no node sees another: the worst case of the
    mesh. None if the quota or a denial is the rule of an outage."""


@dataclass(frozen=True)
class Outlook:
    """One bucket, or an override of its keys."""

    bucket: str
    limit: str
    capacity: int
    per_second: float
    refill_interval: str
    """The interval as the file has it; rates are shown for this time."""
    consistency: str
    on_outage: str
    seconds_to_full: float
    max_keys: int | None
    memory_bytes: int | None
    """The memory of `max_keys` keys on one node, if up to four nodes take from each."""
    fleets: tuple[Fleet, ...]


def outlook(config: Config, nodes: Iterable[int]) -> list[Outlook]:
    """What each bucket of `config`, and each of its overrides, means for fleets of these sizes."""
    sizes, key_bytes = tuple(nodes), bytes_of_a_key(config)
    found = []
    for spec, owner in with_overrides(config.buckets):
        consistency = owner.consistency or config.consistency
        if config.redis is None:  # without a Redis all buckets are eventual, as in the limiter
            consistency = Mode.EVENTUAL
        on_outage = spec.on_outage or config.degradation.on_outage
        rule = on_outage if consistency is Mode.STRONG else "eventual"
        found.append(
            Outlook(
                bucket=spec.name,
                limit=limit_words(spec),
                capacity=_whole(spec).capacity,
                per_second=_whole(spec).per_second,
                refill_interval=span(spec.interval_ns),
                consistency=consistency.value,
                on_outage=rule,
                seconds_to_full=spec.capacity / spec.rate_per_second,
                max_keys=spec.max_keys,
                memory_bytes=spec.max_keys and spec.max_keys * key_bytes,
                fleets=tuple(_fleet(spec, size, rule, config) for size in sizes),
            )
        )
    return found


def _fleet(spec: BucketSpec, nodes: int, rule: str, config: Config) -> Fleet:
    how = config.degradation
    ratio = Fraction(str(how.fallback_ratio))
    each = share_among(nodes, ratio, fleet=how.fallback_scope == "fleet")
    has_quota = rule == "quota"
    # Single tokens are still given if the capacity has one for each node; see `strong.quota`.
    singles = each == ratio
    return Fleet(
        nodes=nodes,
        split=_part(spec, Fraction(1, nodes)),
        quota=_quota(spec, each, nodes, singles) if has_quota else None,
        quota_of_all=_quota(spec, each, nodes, singles, nodes) if has_quota else None,
        cut_off=_part(spec, Fraction(nodes)) if rule == "eventual" else None,
    )


def _quota(spec: BucketSpec, each: Fraction, nodes: int, singles: bool, times: int = 1) -> Share:
    part = _part(spec, each, least=1 if singles and nodes <= _whole(spec).capacity else 0)
    return Share(part.capacity * times, part.per_second * times)


def _part(spec: BucketSpec, share: Fraction, least: int = 0) -> Share:
    whole = _whole(spec)
    capacity = max(int(whole.capacity * share), least)
    # A quota that holds no whole token never grants one.
    return Share(capacity, float(Fraction(whole.per_second) * share) if capacity else 0.0)


def _whole(spec: BucketSpec) -> Share:
    """The whole limit as a share; slots have no rate."""
    return (
        Share(spec.capacity, spec.rate_per_second) if spec.slots is None else Share(spec.slots, 0.0)
    )


def bytes_of_a_key(config: Config) -> int:
    """Bytes of a key of which up to four nodes take: those in the table, and in a mesh those that
    a process remembers of what peers advertise of it, which most keys of several nodes have."""
    return bytes_in_the_table() + (0 if config.mesh is None else REMEMBERED_BYTES)


def bytes_in_the_table() -> int:
    """Bytes of a key in the table, as measured."""
    keys = 64
    table = Table(max_keys=keys)
    core = BucketCore(table, BucketSpec("measured", 1, 1))
    before = table.stats()["bytes"]
    for number in range(keys):
        core.take(f"key-{number}")
    used: int = table.stats()["bytes"] - before
    return used // keys
