"""Turns a limit that comes from outside of the definitions into an override of a bucket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from crdtbucket.base.duration import span
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.overrides import override_of


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
    """A rate in one spelling, so that all who mean it have one definition."""
    text = f"{spec.refill_rate}/{span(spec.interval_ns)}"
    return text if spec.capacity == spec.refill_rate else f"{text} burst {spec.capacity}"


def _numbers(spec: BucketSpec) -> tuple[object, ...]:
    return spec.capacity, spec.emission, spec.max_debt, spec.slots, spec.period
