"""Overrides: other limits for some keys of a bucket, from its definition or from outside of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from crdtbucket.base.duration import span
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.bucket_spec import BucketSpec, override_of

MAX_BUCKETS = 1_000
"""Most buckets, overrides included: their definitions are sent in one frame."""
FEWER = (
    f"at most {MAX_BUCKETS} buckets and overrides, of which a calendar bucket counts for four; "
    "a glob can stand for a group of keys"
)


def with_overrides(specs: Iterable[BucketSpec]) -> Iterator[tuple[BucketSpec, BucketSpec]]:
    """Every definition and the bucket that it belongs to; a bucket comes before its overrides."""
    for spec in specs:
        yield spec, spec
        for _, override in spec.overrides:
            yield override, spec


def shadowed(specs: Iterable[BucketSpec]) -> tuple[BucketSpec, ...]:
    """The same definitions as shadows, overrides included: they count and deny nobody."""
    return tuple(replace(spec, shadow=True) for spec in specs)


def limit_from_outside(
    owner: BucketSpec, limit: object, named: Callable[[str], BucketSpec | None]
) -> BucketSpec:
    """The override of `owner` that `limit` stands for, called `owner[=limit]`.

    `named` returns the definition of a bucket by its name. Raises `InvalidSpec`.
    """
    if isinstance(limit, BucketSpec):
        spec, label = limit, limit.name
        other = named(limit.name)
        if other is not None and _numbers(other) != _numbers(limit):
            fix = "give it a name of its own, or answer with the name of the bucket"
            raise InvalidSpec(f"the limit {limit.name!r} is called as a bucket is", fix, "limit")
    elif isinstance(limit, str):
        found = named(limit)
        spec = _rate(limit) if found is None else found
        label = _label(spec) if found is None else spec.name
    else:
        fix = "give the name of a bucket, a rate string, a BucketSpec, or None"
        raise InvalidSpec(f"the limit is {limit!r}", fix, "limit")
    bare = replace(spec, overrides=(), overrides_from=None, consistency=None)
    return override_of(owner, f"={label}", bare)


def _rate(limit: str) -> BucketSpec:
    try:
        return BucketSpec.parse("rate", limit)
    except InvalidSpec as error:
        message = f"{error.message}, which is neither a bucket nor a rate"
        raise InvalidSpec(message, error.fix, "limit") from None


def _label(spec: BucketSpec) -> str:
    """A rate in one spelling, so that equal rates have one definition."""
    text = f"{spec.refill_rate}/{span(spec.interval_ns)}"
    return text if spec.capacity == spec.refill_rate else f"{text} burst {spec.capacity}"


def _numbers(spec: BucketSpec) -> tuple[object, ...]:
    return spec.capacity, spec.emission, spec.max_debt, spec.slots, spec.period
