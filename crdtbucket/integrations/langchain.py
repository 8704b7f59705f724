"""A rate limiter for chat models of LangChain: the argument `rate_limiter` of each of them."""

from __future__ import annotations

from crdtbucket.base.duration import patience_ns
from crdtbucket.base.extras import extra
from crdtbucket.limiter.bucket import Bucket, check_bucket
from crdtbucket.limiter.key_and_cost import check_key, check_tokens

with extra("langchain"):
    from langchain_core.rate_limiters import BaseRateLimiter


class BucketRateLimiter(BaseRateLimiter):
    """Each call of the model, one of a batch too, waits for tokens of a bucket."""

    def __init__(
        self, bucket: Bucket, *, key: str | bytes = "all", cost: int = 1, timeout: float | None = 60
    ) -> None:
        """timeout: seconds that a call waits at most, None for ever; then it raises `WaitTimeout`.
        LangChain does not pass a limiter what is asked, so that each call costs the same."""
        check_bucket(bucket, "BucketRateLimiter")
        check_key(key)
        check_tokens(cost)
        patience_ns(timeout)
        self._bucket = bucket
        self._key = key
        self._cost = cost
        self._timeout = timeout

    def acquire(self, *, blocking: bool = True) -> bool:
        """Whether the call has its tokens; one that is not `blocking` does not wait for them."""
        if not blocking:
            return self._bucket.acquire_sync(self._key, self._cost).allowed
        return self._bucket.wait_sync(self._key, self._cost, self._timeout).allowed

    async def aacquire(self, *, blocking: bool = True) -> bool:
        """`acquire` on an event loop; calls pass in their order."""
        if not blocking:
            return (await self._bucket.acquire(self._key, self._cost)).allowed
        return (await self._bucket.wait(self._key, self._cost, self._timeout)).allowed
