"""Calls of a chat model of LangChain wait for a bucket, also those of a batch.

pip install -e '.[langchain]'
python examples/langchain_model.py
"""

import asyncio
import itertools
import time

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel

from crdtbucket import BucketSpec, Limiter, WaitTimeout
from crdtbucket.integrations.langchain import BucketRateLimiter

calls = Limiter([BucketSpec.parse("model", "20/s burst 5")]).bucket("model")


def model(timeout: float) -> GenericFakeChatModel:
    """In your program `ChatAnthropic(...)` or another one; each takes a `rate_limiter`."""
    return GenericFakeChatModel(
        messages=itertools.repeat("an answer"),
        rate_limiter=BucketRateLimiter(calls, key="all", timeout=timeout),
    )


async def main() -> None:
    """A batch that may wait, and a call that may not."""
    start = time.monotonic()
    answers = await model(timeout=60).abatch(["a question"] * 15)
    print(f"{len(answers)} answers in {time.monotonic() - start:.2f} s, 5 of them at once")
    calls.settle("all", 10)  # others have used as much
    try:
        await model(timeout=0.1).ainvoke("a question")
    except WaitTimeout as error:
        print(f"not asked: {type(error).__name__} at once, as the tokens cannot come in time")


if __name__ == "__main__":
    asyncio.run(main())
