"""The admin token as a server keeps it: a digest, which no dump of memory turns into the token."""

from __future__ import annotations

import hashlib
import hmac

from crdtbucket.errors import InvalidSpec

LEAST_TOKEN = 16


class AdminToken:
    """What the admin side asks for."""

    def __init__(self, text: str) -> None:
        """Keeps the digest alone. Raises `InvalidSpec` for a text that is too short to be a secret:
        the digest of a random text cannot be turned back, that of a short one can be searched."""
        if len(text) < LEAST_TOKEN:
            fix = f"use {LEAST_TOKEN} characters or more, such as `openssl rand -hex 32` prints"
            raise InvalidSpec("the admin token is too short to be a secret", fix, "admin_token")
        self._digest = _digest(text)

    def matches(self, given: str) -> bool:
        """Whether this is the token; takes the same time whatever the first difference is."""
        return hmac.compare_digest(_digest(given), self._digest)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


__all__ = ["AdminToken"]
