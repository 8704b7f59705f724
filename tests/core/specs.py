"""The definitions that the tests of the core use, and tables with one of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from crdtbucket import _core
from crdtbucket.spec.bucket_spec import BucketSpec
from tests.model.bucket import Definition

SECOND = 1_000_000_000
YEAR = 365 * 86_400 * SECOND

ODD = {
    "7 a second": BucketSpec("b", 100, 7),
    "999,999,937 a second": BucketSpec("b", 1_000_000, 999_999_937),
    "999,999,937 a second, one at a time": BucketSpec("b", 1, 999_999_937, max_debt=0),
    "1 in 30 days": BucketSpec("b", 5, 1, "30d"),
    "1,000 million a second": BucketSpec("b", 2**53, 10**9),
    "100 a minute": BucketSpec("b", 100, 100, "1m"),
    "3 in 7 seconds": BucketSpec("b", 2, 3, "7s", max_debt=1),
}
"""Rates whose emission interval is no whole number of ns, and the ends of the range."""


def rate_of(spec: BucketSpec) -> Definition:
    return Definition(spec.capacity, Fraction(spec.interval_ns, spec.refill_rate), spec.max_debt)


def virtual_table(max_keys: int = 64, **options: Any) -> _core.Table:
    """A table whose time stands at 0; its hash key is all zero, so that tables match."""
    return _core.Table(max_keys=max_keys, virtual=True, hash_key=bytes(16), **options)


def bucket_of(spec: BucketSpec, max_keys: int = 64) -> _core.BucketCore:
    return _core.BucketCore(virtual_table(max_keys), spec)
