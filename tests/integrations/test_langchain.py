"""Calls of LangChain's models wait for a bucket."""

from __future__ import annotations

import asyncio

import pytest

from crdtbucket import BucketSpec, InvalidSpec, Limiter, WaitTimeout, WrongKind
from crdtbucket.integrations.langchain import BucketRateLimiter
from tests.virtual_loop import VirtualTime, virtually


def test_a_caller_that_does_not_wait_learns_whether_there_are_tokens() -> None:
    bucket = VirtualTime().bucket(capacity=3, rate=1)
    limiter = BucketRateLimiter(bucket, cost=1, timeout=0)
    assert [limiter.acquire(blocking=False) for _ in range(2)] == [True, True]
    assert [asyncio.run(limiter.aacquire(blocking=False)) for _ in range(2)] == [True, False]
    with pytest.raises(WaitTimeout):
        limiter.acquire()


def test_what_is_no_bucket_of_tokens_is_refused_before_the_first_call() -> None:
    limiter = Limiter([BucketSpec("llm", 1, 1), BucketSpec.concurrency("slots", 2)])
    for wrong in ("llm", limiter):
        with pytest.raises(InvalidSpec, match="bucket of BucketRateLimiter is"):
            BucketRateLimiter(wrong)  # type: ignore[arg-type]
    with pytest.raises(WrongKind, match="no tokens for BucketRateLimiter"):
        BucketRateLimiter(limiter.bucket("slots"))
    with pytest.raises(InvalidSpec, match="timeout"):
        BucketRateLimiter(limiter.bucket("llm"), timeout="soon")  # type: ignore[arg-type]


@virtually
async def test_calls_wait_in_their_order(time: VirtualTime) -> None:
    limiter = BucketRateLimiter(time.bucket(capacity=2, rate=1))
    passed: list[float] = []

    async def call() -> None:
        assert await limiter.aacquire()
        passed.append(time.elapsed)

    await asyncio.gather(*(call() for _ in range(4)))
    assert passed == [0, 0, 1, 2]


@pytest.mark.slow  # importing LangChain's models costs more than the test
def test_a_model_of_langchain_takes_a_token_for_each_call() -> None:
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

    bucket = Limiter([BucketSpec("llm", 3, 1, refill_interval="1h")]).bucket("llm")
    model = GenericFakeChatModel(
        messages=iter(["one", "two", "three", "four"]),
        rate_limiter=BucketRateLimiter(bucket, timeout=0),
    )
    assert model.invoke("go").content == "one"
    assert asyncio.run(model.ainvoke("on")).content == "two"
    assert "".join(str(chunk.content) for chunk in model.stream("and")) == "three"
    with pytest.raises(WaitTimeout):
        model.invoke("on")
    assert bucket.peek("all").remaining == 0
