"""A decorator that takes tokens before each call of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from crdtbucket._core import Decision
from crdtbucket.errors import InvalidSpec, LimitExceeded
from crdtbucket.limiter.bucket import Bucket

P = ParamSpec("P")
R = TypeVar("R")


def limited(
    bucket: Bucket,
    *,
    key: str | bytes | Callable[..., str | bytes],
    cost: int | Callable[..., int] = 1,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Each call of the function takes `cost` tokens of `key` first, or raises `LimitExceeded`.

    key, cost: values, or functions of the call's own arguments. A sync function blocks where the
    bucket asks Redis; an async one awaits. What the call does, an exception too, gives nothing
    back. Raises as `Bucket.take`, and `InvalidSpec` for a generator function, whose call runs
    nothing.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            name = getattr(function, "__qualname__", repr(function))
            fix = "limit the function that reads it, or take in its body"
            raise InvalidSpec(f"{name} is a generator function", fix, "function")

        def asked(*args: P.args, **kwargs: P.kwargs) -> tuple[str | bytes, int]:
            return (
                key(*args, **kwargs) if callable(key) else key,
                cost(*args, **kwargs) if callable(cost) else cost,
            )

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                _check(bucket, await bucket.acquire(*asked(*args, **kwargs)))
                return await function(*args, **kwargs)

            return cast("Callable[P, R]", awaiting)

        @functools.wraps(function)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            _check(bucket, bucket.acquire_sync(*asked(*args, **kwargs)))
            return function(*args, **kwargs)

        return blocking

    return decorate


def _check(bucket: Bucket, decision: Decision) -> None:
    if not decision.allowed:
        raise LimitExceeded(
            f"bucket {bucket.spec.name!r} has {decision.remaining} of {decision.limit} tokens left "
            f"for {decision.key!r}, and {decision.cost} were asked for; "
            f"retry after {decision.retry_after:.3f} s",
            decision,
        )


__all__ = ["limited"]
