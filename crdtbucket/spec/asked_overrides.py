"""Overrides from a function, which is asked for the limit of each key. Its answers are
remembered."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.signatures import misfit
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.field_checks import check_duration


class Definition(Protocol):
    """A `BucketSpec`, which may have overrides of this kind itself."""

    @property
    def definition_hash(self) -> int: ...


Limit = str | Definition
"""The name of a bucket, a rate such as "100/s burst 200", or a definition."""
Ask = Callable[[str], Limit | None]
LONGEST_NS = 86_400 * NS_PER_SECOND


@dataclass(frozen=True, init=False)
class AskedOverrides:
    """Overrides that come from a function, for `BucketSpec(overrides=...)`."""

    ask: Ask
    """The function. It is called with a key as text, in the process and the thread that takes.
    Returns the name of a bucket whose numbers hold for the key, a rate such as "100/s burst 200", a
    `BucketSpec`, or None for the bucket's own limit."""
    ttl_ns: int
    """The time for which an answer is remembered (ns)."""

    def __init__(self, ask: Ask, ttl: str | int | float | timedelta = "60s") -> None:
        """`ttl`: for how long an answer is remembered, above 0 up to a day, such as "60s" or
        seconds. Raises `InvalidSpec`."""
        # For a callable object, its `__call__` method is checked as well.
        either = ask, getattr(ask, "__call__", None)  # noqa: B004
        if not callable(ask) or any(map(inspect.iscoroutinefunction, either)):
            fix = "pass a plain function of a key that does not wait: def limit_of(key): ..."
            raise InvalidSpec(f"what is asked for overrides is {ask!r}", fix, "overrides")
        if found := misfit(ask, "key"):
            taken = f"the function that is asked for overrides takes {found[0]}"
            raise InvalidSpec(taken, "it is called with one argument, the key", "overrides")
        ttl_ns = check_duration("ttl", ttl, 1, LONGEST_NS, "above 0 and at most a day")
        object.__setattr__(self, "ask", ask)
        object.__setattr__(self, "ttl_ns", ttl_ns)


def asked_overrides(
    overrides: Any, asked: AskedOverrides | None
) -> tuple[Any, AskedOverrides | None]:
    """Splits what was passed as `overrides` into globs, and the function to ask. Raises
    `InvalidSpec`."""
    if isinstance(overrides, AskedOverrides):
        return (), overrides
    if callable(overrides):
        return (), AskedOverrides(overrides)
    if asked is not None and not isinstance(asked, AskedOverrides):
        fix = "pass AskedOverrides(function, ttl)"
        raise InvalidSpec(f"overrides_from is {asked!r}", fix, "overrides_from")
    if asked is not None and overrides:
        fix = "give one of them: the function knows the limits of all keys, or globs do"
        raise InvalidSpec("overrides are both listed and asked for", fix, "overrides")
    return overrides, asked
