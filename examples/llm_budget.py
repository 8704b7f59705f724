"""A budget of model tokens for each tenant: reserve an estimate, commit what the call really used.

pip install -e .
python examples/llm_budget.py
"""

from __future__ import annotations

import asyncio
import random

from crdtbucket import BucketSpec, Limiter, ReservationDenied

BUDGET = BucketSpec("model-tokens", capacity=20_000, refill_rate=60_000, refill_interval="1m")
LONGEST_ANSWER = 1_000


class ModelError(Exception):
    """The model's service failed."""


async def call_model(prompt_tokens: int, dice: random.Random) -> int:
    """Stands for the real call; returns the tokens it used, prompt and answer."""
    await asyncio.sleep(0.001)
    if dice.random() < 0.05:
        raise ModelError("overloaded")
    return prompt_tokens + dice.randrange(50, LONGEST_ANSWER)


async def answer(limiter: Limiter, tenant: str, prompt_tokens: int, dice: random.Random) -> str:
    """One request of a tenant: what became of it."""
    bucket = limiter.bucket(BUDGET.name)
    estimate = prompt_tokens + LONGEST_ANSWER
    try:
        async with bucket.reserve(tenant, estimate, ttl=60) as reservation:
            used = await call_model(prompt_tokens, dice)
            reservation.commit(used)  # the rest of the estimate goes back
    except ReservationDenied as denied:
        if denied.decision is None:
            raise
        return f"denied, retry in {denied.decision.retry_after:.2f} s"
    except ModelError:
        return "failed"  # left without a commit: the whole estimate has gone back
    return "answered"


async def main() -> None:
    """Sixty requests at once, of a budget for a few of them."""
    dice = random.Random(1)
    async with Limiter([BUDGET]) as limiter:
        prompts = [dice.randrange(100, 800) for _ in range(60)]
        outcomes = await asyncio.gather(
            *(answer(limiter, "tenant-42", prompt, dice) for prompt in prompts)
        )
        for kind in ("answered", "failed", "denied"):
            print(f"{kind}: {sum(outcome.startswith(kind) for outcome in outcomes)}")
        left = limiter.bucket(BUDGET.name).peek("tenant-42").remaining
        print(f"left of the budget: {left} of {BUDGET.capacity} tokens")


if __name__ == "__main__":
    asyncio.run(main())
