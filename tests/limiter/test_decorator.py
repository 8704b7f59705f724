"""Functions whose calls take tokens."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from crdtbucket import (
    BucketSpec,
    CostExceedsCapacity,
    InvalidKey,
    InvalidSpec,
    Limiter,
    LimitExceeded,
    limited,
)
from crdtbucket.limiter.bucket import Bucket
from tests.strong.redis_server import Server

SPEC = BucketSpec("calls", 10, 1, "1h")


@pytest.fixture
def bucket() -> Bucket:
    return Limiter([SPEC]).bucket("calls")


def test_calls_take_until_nothing_is_left(bucket: Bucket) -> None:
    @limited(bucket, key="all", cost=4)
    def double(n: int) -> int:
        """Twice."""
        called.append(n)
        return 2 * n

    called: list[int] = []
    assert [double(1), double(n=2)] == [2, 4]
    with pytest.raises(LimitExceeded, match="2 of 10 tokens left for 'all', and 4 were") as error:
        double(3)
    assert called == [1, 2]
    assert error.value.decision.retry_after == pytest.approx(7200, abs=1)
    assert (double.__name__, double.__doc__) == ("double", "Twice.")
    assert str(inspect.signature(double)) == "(n: 'int') -> 'int'"


async def test_async_functions_are_awaited(bucket: Bucket) -> None:
    @limited(bucket, key=lambda name, cost: name, cost=lambda name, cost: cost)
    async def greet(name: str, cost: int) -> str:
        return f"hello {name}"

    assert inspect.iscoroutinefunction(greet)
    assert await greet("a", 10) == "hello a"
    assert await greet("b", cost=9) == "hello b"
    for name, left in [("a", 0), ("b", 1)]:
        with pytest.raises(LimitExceeded) as error:
            await greet(name, 2)
        assert (error.value.decision.key, error.value.decision.remaining) == (name, left)


def test_methods_see_their_object(bucket: Bucket) -> None:
    class Client:
        tenant = "t-1"

        @limited(bucket, key=lambda self: self.tenant)
        def call(self) -> str:
            return self.tenant

    assert Client().call() == "t-1"
    assert bucket.peek("t-1").remaining == 9


def test_what_fails_has_been_paid(bucket: Bucket) -> None:
    @limited(bucket, key="k")
    def fails() -> None:
        raise OSError

    with pytest.raises(OSError, match=r"^$"):
        fails()
    assert bucket.peek("k").remaining == 9


def test_errors_of_the_callables_are_errors(bucket: Bucket) -> None:
    def call(_: str) -> None:
        raise AssertionError("called")

    with pytest.raises(InvalidKey, match="key is None: name"):
        limited(bucket, key=lambda _: None)(call)("a")  # type: ignore[arg-type,return-value]
    with pytest.raises(KeyError):
        limited(bucket, key=lambda a: {}[a])(call)("a")
    with pytest.raises(TypeError, match="at most"):  # a builtin whose signature is not known
        limited(bucket, key=str)(lambda a, b, c, d: None)(1, 2, 3, 4)
    with pytest.raises(CostExceedsCapacity):
        limited(bucket, key="k", cost=11)(call)("a")


def test_key_and_cost_functions_need_the_parameters_of_the_function(bucket: Bucket) -> None:
    @limited(bucket, key=lambda tenant: tenant, cost=lambda tenant, text: len(text))
    def summary(tenant: str, text: str) -> str:
        return text

    with pytest.raises(
        InvalidSpec, match=r"the key function of .*summary takes \(tenant\)"
    ) as error:
        summary("a", "b")
    assert error.value.field == "key"
    assert "(tenant: 'str', text: 'str')" in error.value.fix
    assert isinstance(error.value.__cause__, TypeError)

    @limited(bucket, key=lambda tenant: tenant, cost=lambda: 1)
    def other(tenant: str) -> str:
        return tenant

    with pytest.raises(InvalidSpec, match="the cost function"):
        other("a")


def test_a_type_error_of_a_key_function_itself_is_left_as_it_is(bucket: Bucket) -> None:
    @limited(bucket, key=lambda n: "a" + n)
    def double(n: int) -> int:
        return 2 * n

    with pytest.raises(TypeError, match="str"):
        double(1)


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"bucket": "api", "key": "k"}, r"limiter\.bucket"),
        ({"bucket": Limiter([SPEC]), "key": "k"}, r"limiter\.bucket"),
        ({"bucket": Limiter([SPEC]).bucket("calls"), "key": 7}, "pass text"),
    ],
)
def test_wrong_settings_name_the_fix(settings: Any, hint: str) -> None:
    bucket = settings.pop("bucket")
    with pytest.raises(InvalidSpec, match=hint):
        limited(bucket, **settings)


async def later(*_: object) -> Any:
    """What a key or cost function cannot be."""


@pytest.mark.parametrize("cost", [None, True, 0, -1, 1.5, "3", b"3", [3], {}, object(), later])
def test_a_cost_that_no_call_can_have_is_refused_where_it_is_given(
    bucket: Bucket, cost: Any
) -> None:
    with pytest.raises(InvalidSpec, match=r"^cost is .*: ") as error:
        limited(bucket, key="k", cost=cost)
    assert error.value.field == "cost"


@pytest.mark.parametrize("key", [None, True, 7, 1.5, [], {}, "", b"", "\udcff", "é" * 257, later])
def test_a_key_that_no_call_can_have_is_refused_where_it_is_given(bucket: Bucket, key: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"^key ") as error:
        limited(bucket, key=key)
    assert error.value.field == "key"


def test_keys_and_costs_that_calls_can_have_are_accepted(bucket: Bucket) -> None:
    class Two:
        def __index__(self) -> int:
            return 2

    right: list[Any] = ["k", b"\xff", "é" * 256, lambda: "k"]
    for key in right:
        limited(bucket, key=key, cost=Two())(lambda: None)()  # type: ignore[arg-type]
    assert bucket.peek("k").remaining == 6


def test_what_is_no_function_is_refused_before_it_is_called(bucket: Bucket) -> None:
    with pytest.raises(InvalidSpec, match="limited decorates 3: put it above a function"):
        limited(bucket, key="k")(3)  # type: ignore[arg-type]


def test_generator_functions_are_refused(bucket: Bucket) -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    for function in (numbers, later):
        with pytest.raises(InvalidSpec, match=f"{function.__name__} is a generator function"):
            limited(bucket, key="k")(function)


def test_a_sync_function_blocks_where_redis_is_asked() -> None:
    strong = BucketSpec("calls", 10, 1, "1h", consistency="strong")
    with Server() as server, Limiter([strong], node="n", **server.patient()) as limiter:

        @limited(limiter.bucket("calls"), key="k", cost=6)
        def call() -> str:
            return "done"

        assert call() == "done"
        with pytest.raises(LimitExceeded) as error:
            call()
        assert error.value.decision.mode == "strong"
