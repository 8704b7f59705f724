"""A wrong argument raises an error that names it and says what to pass."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket import (
    BucketSpec,
    CrdtbucketError,
    InvalidCost,
    InvalidKey,
    InvalidSpec,
    Limiter,
    UnknownBucket,
)


class World:
    """A limiter and one of each thing that comes from it."""

    def __init__(self) -> None:
        specs = [BucketSpec("a", 10, 1), BucketSpec("b", 10, 1)]
        self.limiter: Any = Limiter([*specs, BucketSpec.concurrency("s", 2, ttl=5)])
        self.bucket: Any = self.limiter.bucket("a")
        self.slots: Any = self.limiter.bucket("s")
        self.decision: Any = self.bucket.take("k")


async def entered(block: Any) -> None:
    async with block:
        raise AssertionError("was entered")


def committed(world: World, actual: object) -> None:
    with world.bucket.reserve("k", 2) as reservation:
        reservation.commit(actual)


Call = Callable[[World], Any]
WRONG: dict[str, tuple[Call, type[Exception], str]] = {
    "bucket of another name": (lambda w: w.limiter.bucket("c"), UnknownBucket, "'c'.*a, b, s"),
    "bucket of None": (lambda w: w.limiter.bucket(None), UnknownBucket, "None.*a, b, s"),
    "keys": (lambda w: w.limiter.keys("c"), UnknownBucket, "'c'"),
    "take of a limiter": (
        lambda w: w.limiter.take("k"),
        AttributeError,
        r"limiter\.bucket\(name\)\.take\(\.\.\.\); there are: a, b, s",
    ),
    "acquire of a limiter": (lambda w: w.limiter.acquire(), AttributeError, r"\.acquire\("),
    "no method at all": (lambda w: w.limiter.tkae("k"), AttributeError, "no attribute 'tkae'"),
    "take_all of None": (lambda w: w.limiter.take_all(None), TypeError, "wanted is None: pass"),
    "take_all of a number": (lambda w: w.limiter.take_all(3), TypeError, "wanted is 3"),
    "take_all of a key": (lambda w: w.limiter.take_all("k"), InvalidKey, r"'k' is no \(bucket"),
    "take_first": (lambda w: w.limiter.take_first(None), TypeError, "wanted is None"),
    "acquire_all": (lambda w: w.limiter.acquire_all(None), TypeError, "wanted is None"),
    "acquire_first": (lambda w: w.limiter.acquire_first(None), TypeError, "wanted is None"),
    "reserve_all": (lambda w: w.limiter.reserve_all(None), TypeError, "wanted is None"),
    "reserve_all's ttl": (lambda w: w.limiter.reserve_all([], "x"), InvalidSpec, "ttl is 'x'"),
    "refund_all": (lambda w: w.limiter.refund_all(3.5), InvalidCost, "answer is 3.5: pass"),
    "take's key": (lambda w: w.bucket.take(None), InvalidKey, "key is None"),
    "take's cost": (lambda w: w.bucket.take("k", "x"), InvalidCost, "cost.*'x'"),
    "take's floor": (lambda w: w.bucket.take("k", 1, "x"), InvalidCost, "floor.*'x'"),
    "peek's cost": (lambda w: w.bucket.peek("k", None), InvalidCost, "cost.*None"),
    "acquire's key": (lambda w: w.bucket.acquire(3), InvalidKey, "key must be str or bytes"),
    "take_many's keys": (lambda w: w.bucket.take_many(None), TypeError, "keys is None: pass"),
    "take_many of one key": (lambda w: w.bucket.take_many("k"), InvalidKey, "keys is one key"),
    "take_many's costs": (lambda w: w.bucket.take_many(["k"], "xy"), InvalidCost, "2 costs"),
    "acquire_many's keys": (lambda w: w.bucket.acquire_many(3), TypeError, "keys is 3: pass"),
    "take_burst's calls": (lambda w: w.bucket.take_burst("k", "x"), InvalidCost, "calls.*'x'"),
    "settle's tokens": (lambda w: w.bucket.settle("k", "x"), InvalidCost, "settle.*'x'"),
    "reset's key": (lambda w: w.bucket.reset(None), InvalidKey, "key is None"),
    "refund's decision": (lambda w: w.bucket.refund("k"), InvalidCost, "decision is 'k': pass"),
    "refund of None": (lambda w: w.bucket.refund(None), InvalidCost, "decision is None: pass"),
    "refund of take_all's answer": (
        lambda w: w.bucket.refund(w.limiter.take_all([("a", "k")])),
        InvalidCost,
        "refund_all is for take_all",
    ),
    "reload of a path": (
        lambda w: w.limiter.reload("limits.yaml"),
        InvalidSpec,
        "config is of type str: pass what load_config",
    ),
    "degradation": (
        lambda w: Limiter([BucketSpec("a", 10, 1)], degradation="quota"),  # type: ignore[arg-type]
        InvalidSpec,
        r"degradation is 'quota': pass Degradation\(",
    ),
    "refund's tokens": (lambda w: w.bucket.refund(w.decision, "x"), InvalidCost, "refund.*'x'"),
    "reserve's estimate": (lambda w: w.bucket.reserve("k", 1.5), InvalidCost, "estimate.*1.5"),
    "reserve's ttl": (lambda w: w.bucket.reserve("k", 1, "x"), InvalidSpec, "ttl is 'x'"),
    "commit's actual": (lambda w: committed(w, "x"), InvalidCost, "actual.*'x'"),
    "wait's cost": (lambda w: w.bucket.wait("k", "x"), InvalidCost, "cost.*'x'"),
    "wait's timeout": (lambda w: w.bucket.wait("k", 1, "x"), CrdtbucketError, "timeout.*'x'"),
    "wait_sync's timeout": (lambda w: w.bucket.wait_sync("k", 1, "x"), CrdtbucketError, "timeout"),
    "slot of a bucket with tokens": (lambda w: w.bucket.slot("k"), CrdtbucketError, "concurrency"),
    "take of a bucket with slots": (lambda w: w.slots.take("k"), CrdtbucketError, r"\.slot\(key\)"),
    "slot's key": (lambda w: entered(w.slots.slot(None)), InvalidKey, "key is None"),
    "slot's timeout": (
        lambda w: entered(w.slots.slot("k", timeout="x")),
        CrdtbucketError,
        "timeout.*'x'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_argument_that_is_none_is_named(what: str) -> None:
    call, error, text = WRONG[what]
    with pytest.raises(error, match=text):
        finished(call(World()))


def finished(made: Any) -> Any:
    """The result, also of a coroutine."""

    async def awaited() -> Any:
        return await made

    return asyncio.run(awaited()) if inspect.isawaitable(made) else made


COMPILED = {
    "take": "take(key, cost=1, floor=0)",
    "peek": "peek(key, cost=1, floor=0)",
    "take_many": "take_many(keys, costs=1)",
    "take_burst": "take_burst(key, calls, cost=1)",
    "settle": "settle(key, tokens)",
    "refund": "refund(decision, tokens=None)",
    "reserve": "reserve(key, estimate, ttl=60.0, floor=0)",
    "reset": "reset(key)",
}


@pytest.mark.parametrize("arguments", [((), {}), ((1,) * 9, {}), (("k",), {"nothing": 1})])
@pytest.mark.parametrize("method", COMPILED)
def test_too_few_and_too_many_arguments_show_the_call(
    method: str, arguments: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(COMPILED[method])} (takes|got)"):
        getattr(World().bucket, method)(*arguments[0], **arguments[1])


@pytest.mark.parametrize("method", ["acquire", "wait", "wait_sync", "slot", "acquire_many"])
def test_a_method_that_is_not_compiled_names_what_is_missing(method: str) -> None:
    with pytest.raises(TypeError, match=rf"Bucket\.{method}\(\) missing .*'keys?'"):
        getattr(World().bucket, method)()


def test_calls_of_all_compiled_methods_are_shown_by_their_errors() -> None:
    """No method of these objects that is compiled answers with its name alone."""
    world = World()
    shown = 0
    for made in (world.bucket, world.decision, world.bucket.reserve("k", 1)):
        for name in dir(made):
            text = getattr(getattr(made, name), "__text_signature__", None)
            if (
                name.startswith("_")
                or text is None
                or inspect.isfunction(getattr(type(made), name))
            ):
                continue
            call = re.escape(f"{name}({text.removeprefix('($self').removeprefix(', ')}")
            with pytest.raises(TypeError, match=f"^{call} takes"):
                getattr(made, name)(*[1] * 12)
            shown += 1
    assert shown > len(COMPILED)


def test_what_nobody_has_is_missing_as_ever() -> None:
    limiter = World().limiter
    assert not hasattr(limiter, "take")
    assert getattr(limiter, "__deepcopy__", None) is None
