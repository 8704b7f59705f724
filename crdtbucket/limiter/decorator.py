"""A decorator that takes tokens before each call of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from crdtbucket._core import Decision
from crdtbucket.base.signatures import misfit
from crdtbucket.errors import InvalidSpec, LimitExceeded
from crdtbucket.limiter.bucket import Bucket, check_bucket
from crdtbucket.limiter.key_and_cost import check_key, check_tokens

P = ParamSpec("P")
R = TypeVar("R")


def limited(
    bucket: Bucket,
    *,
    key: str | bytes | Callable[..., str | bytes],
    cost: int | Callable[..., int] = 1,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Each call of the function first takes `cost` tokens of `key`, or raises `LimitExceeded`.

    key, cost: values, or functions of the call's own arguments. A sync function blocks while the
    bucket asks Redis; an async one awaits. No outcome of the call, not even an exception, gives
    tokens back. Raises `InvalidSpec` for a key or cost that no call can have, and for a generator
    function, whose call runs nothing. A call raises as `Bucket.take`.
    """

    check_bucket(bucket, "limited")
    check_key(key, "the call's arguments")
    check_tokens(cost, "the call's arguments")
    key_of, cost_of = key if callable(key) else None, cost if callable(cost) else None

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        _check_function(function)
        # Both wrappers contain the take themselves: one more call would add half of the limit's own
        # time.
        at_once = bucket.immediate
        take: Callable[..., Any] = bucket.take
        if inspect.iscoroutinefunction(function):
            take = take if at_once else bucket.acquire

            @functools.wraps(function)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                try:
                    decision = take(
                        key_of(*args, **kwargs) if key_of else key,
                        cost_of(*args, **kwargs) if cost_of else cost,
                    )
                except TypeError:
                    _explain(function, args, kwargs, key=key_of, cost=cost_of)
                    raise
                if not at_once:
                    decision = await decision
                if not decision:
                    raise _exceeded(bucket, decision)
                return await function(*args, **kwargs)

            return cast("Callable[P, R]", awaiting)

        take = take if at_once else cast("Callable[..., Any]", bucket.acquire_sync)

        @functools.wraps(function)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                decision = take(
                    key_of(*args, **kwargs) if key_of else key,
                    cost_of(*args, **kwargs) if cost_of else cost,
                )
            except TypeError:
                _explain(function, args, kwargs, key=key_of, cost=cost_of)
                raise
            if not decision:
                raise _exceeded(bucket, decision)
            return function(*args, **kwargs)

        return blocking

    return decorate


def _check_function(function: Callable[..., object]) -> None:
    if not callable(function):
        fix = "put it above a function"
        raise InvalidSpec(f"limited decorates {function!r}", fix, "function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        fix = "limit the function that reads it, or take in its body"
        raise InvalidSpec(f"{_name(function)} is a generator function", fix, "function")


def _explain(
    function: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    **asked: Callable[..., object] | None,
) -> None:
    """Explains a `TypeError` that arose because a key or cost function cannot be called with the
    arguments of the limited function."""
    for what, ask in asked.items():
        # For a builtin without a signature, its own error says more.
        if ask is not None and (found := misfit(ask, *args, **kwargs)):
            signature, error = found
            raise InvalidSpec(
                f"the {what} function of {_name(function)} takes {signature}, and the call does "
                f"not fit: {error}",
                f"give it the parameters of {_name(function)}{inspect.signature(function)}",
                what,
            ) from error


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _exceeded(bucket: Bucket, decision: Decision) -> LimitExceeded:
    return LimitExceeded(
        f"bucket {bucket.spec.name!r} has {decision.remaining} of {decision.limit} tokens left "
        f"for {decision.key!r}, and {decision.cost} were asked for; "
        f"retry after {decision.retry_after:.3f} s",
        decision,
    )
