"""A rule for requests: which bucket it takes from, for whom, and how much."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from crdtbucket._core import MAX_KEY_BYTES
from crdtbucket.errors import InvalidKey, InvalidSpec
from crdtbucket.http.request import Request, by_address

Ask: TypeAlias = "tuple[str, str | bytes, int]"
"""Bucket, key and cost."""


@dataclass(frozen=True)
class Rule:
    """One limit on requests. An exception in one of its callables is an error of the program: it
    reaches the server, which answers 500; no request passes unlimited because of it."""

    bucket: str
    key: Callable[[Request], str | bytes] = by_address
    """What is limited. None or an empty text raises `InvalidKey`; over 512 bytes, the digest
    stands for it."""
    cost: int | Callable[[Request], int] = 1
    """Tokens, 1 or more."""
    exempt: Callable[[Request], bool] | None = None
    """True for requests that the rule is not about."""
    refund_if: Callable[[int], bool] | None = None
    """Asked with the status of the answer, 500 after an exception: True gives the tokens back.
    Without it, and when the client has gone away, they are spent."""

    def __post_init__(self) -> None:
        """Refuses callables that would have to be awaited."""
        for name in ("key", "cost", "exempt", "refund_if"):
            if inspect.iscoroutinefunction(getattr(self, name)):
                fix = "do the slow part before, and read its result from request.native"
                raise InvalidSpec(f"{name} is a coroutine function", fix, name)

    def ask(self, request: Request) -> Ask | None:
        """What the request takes by this rule; None when it is exempt."""
        if self.exempt is not None and self.exempt(request):
            return None
        cost = self.cost(request) if callable(self.cost) else self.cost
        return self.bucket, self._key(request), cost

    def _key(self, request: Request) -> str | bytes:
        key = self.key(request)
        if not key:
            raise InvalidKey(
                f"the key of the rule for {self.bucket!r} is {key!r} for {request.method} "
                f"{request.path!r}: return a text; `exempt` says who is not limited"
            )
        raw = key.encode() if isinstance(key, str) else key
        if isinstance(raw, bytes) and len(raw) > MAX_KEY_BYTES:
            return hashlib.blake2b(raw, digest_size=32).hexdigest()
        return key


__all__ = ["Ask", "Rule"]
