"""Throttles of the Django REST framework that take from a bucket.

class BurstThrottle(BucketThrottle):
    bucket = limiter.bucket("api")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from crdtbucket._core import Decision
from crdtbucket.base.extras import extra
from crdtbucket.http.client_address import InvalidAddress, client_address
from crdtbucket.limiter.bucket import Bucket

with extra("rest"):
    from rest_framework.exceptions import ParseError
    from rest_framework.throttling import BaseThrottle


class BucketThrottle(BaseThrottle):  # type: ignore[misc]
    """Takes one token for each request; denied, the framework answers 429 with `Retry-After`.

    Make a subclass with the bucket. `get_key` and `get_cost` may be overridden.
    """

    bucket: ClassVar[Bucket]
    trusted: ClassVar[Sequence[str]] = ()
    """Proxies whose `X-Forwarded-For` is believed: addresses, networks, or "unix"."""

    def __init__(self) -> None:
        self.decision: Decision | None = None

    def get_key(self, request: Any, view: Any) -> str | bytes | None:
        """The key to limit: the user who is logged in, or else the client's address, IPv6 by its
        /64. None: nobody is limited. Raises `ParseError`, which the framework answers with 400, if
        what the server gives as the client's address is no address."""
        user = request.user
        if user is not None and user.is_authenticated:
            return f"user:{user.pk}"
        peer, forwarded = map(request.META.get, ("REMOTE_ADDR", "HTTP_X_FORWARDED_FOR"))
        try:
            return client_address(peer, forwarded, self.trusted)
        except InvalidAddress as error:
            raise ParseError(str(error)) from error

    def get_cost(self, request: Any, view: Any) -> int:
        """Tokens, 1 up to the bucket's capacity."""
        return 1

    def allow_request(self, request: Any, view: Any) -> bool:
        """Whether the request may pass."""
        key = self.get_key(request, view)
        if key is None:
            return True
        self.decision = self.bucket.acquire_sync(key, self.get_cost(request, view))
        return self.decision.allowed

    def wait(self) -> float | None:
        """Seconds until the same request could pass."""
        return None if self.decision is None else self.decision.retry_after
