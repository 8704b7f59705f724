"""A middleware for servers of FastMCP: `server.add_middleware(BucketMiddleware(bucket))`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

from crdtbucket.base.extras import extra
from crdtbucket.http.request_rules import check_callable, check_cost
from crdtbucket.limiter.bucket import Bucket, check_bucket
from crdtbucket.spec.field_checks import check_listed

with extra("mcp"):
    from fastmcp.server.dependencies import get_access_token
    from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
    from mcp import MCPError

LIMIT_REACHED = -32_000
"""The code of JSON-RPC with which denied requests are answered."""


def by_client(context: Any) -> str:
    """A request's key unless another is given: the client that its access token names. All
    requests without a token share one limit, because a client may begin any number of sessions."""
    token = get_access_token()
    return "anonymous" if token is None else f"client:{token.client_id}"


class BucketMiddleware(Middleware):  # type: ignore[misc]
    """Takes tokens for each request of a client, and answers one that is denied by an error, whose
    data has `retry_after` in whole seconds."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        key: Callable[[Any], str | bytes] = by_client,
        cost: int | Callable[[Any], int] = 1,
        methods: Collection[str] = ("tools/call",),
    ) -> None:
        """key, cost: functions of the `MiddlewareContext`, whose `message` says which tool is
        called; a cost may be a number of tokens. methods: the requests that are limited."""
        check_bucket(bucket, "BucketMiddleware")
        check_callable("key", key, "the context")
        check_cost(cost, "the context")
        self._bucket = bucket
        self._key = key
        self._cost = cost
        self._methods = frozenset(check_listed("methods", methods))

    async def on_request(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]
    ) -> Any:
        """Takes tokens for a request, as FastMCP calls it. Raises `MCPError` for one that is
        denied."""
        if context.method in self._methods:
            cost = self._cost(context) if callable(self._cost) else self._cost
            decision = await self._bucket.acquire(self._key(context), cost)
            if not decision.allowed:
                wait_s = max(math.ceil(decision.retry_after), 1)
                message = f"{decision.spec.key}: the limit is reached; retry in {wait_s} s"
                raise MCPError(LIMIT_REACHED, message, {"retry_after": wait_s})
        return await call_next(context)
